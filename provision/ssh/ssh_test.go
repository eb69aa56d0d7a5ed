package ssh

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMk1jBkUUCJ3tTfJ2Ph0RJc6Zb1m1c7yB3kqXkU2n8sF"

// config is a Config whose home folder holds the given files.
func config(t *testing.T, files map[string]string, hosts ...configs.Host) Config {
	t.Helper()
	home := t.TempDir()
	for name, content := range files {
		file := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Config{
		Name: "rack", Settings: configs.CloudSettings{Module: "ssh", Price: 0.5, Hosts: hosts},
		LockFile: filepath.Join(home, "locks", "rack.lock"),
		Home:     home, User: "me", KnownHosts: []string{filepath.Join(home, ".ssh", "known_hosts")},
	}
}

func mustNew(t *testing.T, cfg Config) *Cloud {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func host(name string) configs.Host { return configs.Host{Name: name, Address: name + ".example"} }

func TestOffers(t *testing.T) {
	unknown := host("unknown")
	small := configs.Host{Name: "small", Address: "s", CPUs: 4, Memory: 16, Disk: 100, Price: 0.1}
	gpu := configs.Host{Name: "gpu", Address: "g", CPUs: 16, Memory: 64, Disk: 500, GPU: "a100:2", Price: 0.1}
	arm := configs.Host{Name: "arm", Address: "a", CPUs: 8, Memory: 32, Arch: "arm64", Price: 0.2}
	c := mustNew(t, config(t, nil, unknown, gpu, arm, small))
	for _, test := range []struct {
		name string
		ask  configs.Resources
		want string
	}{
		{"anything, cheapest and smallest first", configs.Resources{}, "small gpu arm unknown"},
		{"what is not stated is not there", configs.Resources{CPUs: configs.Range{Min: 1}}, "small gpu arm"},
		{"an upper bound alone", configs.Resources{CPUs: configs.Range{Max: 8}}, "small arm unknown"},
		{"disk that is not stated", configs.Resources{Disk: configs.Range{Min: 1}}, "small gpu"},
		{"memory", configs.Resources{Memory: configs.Range{Min: 32}}, "gpu arm"},
		{"any gpu", configs.Resources{GPU: &configs.GPU{Count: 1}}, "gpu"},
		{"a model", configs.Resources{GPU: &configs.GPU{Models: []string{"H100", "A100"}, Count: 2}}, "gpu"},
		{"another model", configs.Resources{GPU: &configs.GPU{Models: []string{"H100"}, Count: 1}}, ""},
		{"too many gpus", configs.Resources{GPU: &configs.GPU{Count: 3}}, ""},
		{"gpu memory that is not stated", configs.Resources{GPU: &configs.GPU{Count: 1, Memory: configs.Range{Min: 40}}}, ""},
		{"arch", configs.Resources{Arch: "arm64"}, "arm"},
		{"a host by name", configs.Resources{Machine: "gpu"}, "gpu"},
		{"price", configs.Resources{MaxPrice: 0.2}, "small gpu arm"},
		{"this cloud", configs.Resources{Clouds: []string{"rack"}}, "small gpu arm unknown"},
		{"another cloud", configs.Resources{Clouds: []string{"aws"}}, ""},
		{"a region", configs.Resources{Regions: []string{"east"}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			offers, err := c.Offers(t.Context(), test.ask)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, o := range offers {
				names = append(names, o.Type)
			}
			if got := strings.Join(names, " "); got != test.want {
				t.Errorf("offers are %q, want %q", got, test.want)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for _, test := range []struct {
		name  string
		hosts []configs.Host
		want  string
	}{
		{"no hosts", nil, "has no hosts"},
		{"no name", []configs.Host{{Address: "x"}}, "no name"},
		{"no address", []configs.Host{{Name: "x"}}, "no address"},
		{"one name twice", []configs.Host{host("x"), host("x")}, "two hosts"},
		{"two proxies", []configs.Host{{Name: "x", Address: "x", ProxyJump: "j", ProxyCommand: "c"}}, "exclude each other"},
		{"a host key that is none", []configs.Host{{Name: "x", Address: "x", HostKey: "SHA256:abc"}}, "host_key"},
		{"a gpu count that is none", []configs.Host{{Name: "x", Address: "x", GPU: "T4:many"}}, "gpu"},
		{"no gpus of a model", []configs.Host{{Name: "x", Address: "x", GPU: "T4:0"}}, "gpu"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(config(t, nil, test.hosts...))
			if cluster.KindOf(err) != cluster.BadInput || !strings.Contains(err.Error(), test.want) {
				t.Errorf("New gave %v", err)
			}
		})
	}
}

func TestInput(t *testing.T) {
	h := host("a")
	h.HostKey = hostKey
	c := mustNew(t, config(t, map[string]string{".ssh/config": "Host a.example\n  HostName 10.0.0.7\n  Port 2200\n  User ann\n"}, h))
	in, err := c.Input(provision.Offer{Cloud: "rack", Type: "a"}, configs.Resources{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"address": "10.0.0.7", "port": 2200, "user": "ann", "host_key": hostKey}
	if diff := cmp.Diff(want, in.Extra); diff != "" {
		t.Errorf("input (-want +got):\n%s", diff)
	}
	if _, err := c.Input(provision.Offer{Cloud: "rack", Type: "b"}, configs.Resources{}); err == nil {
		t.Error("there is no host b")
	}
}
