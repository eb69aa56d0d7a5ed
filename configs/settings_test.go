package configs

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/cluster"
)

func hostKey(t testing.TB) string {
	t.Helper()
	key, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// world is an environment with a settings file.
func world(t testing.TB, text string, env map[string]string) (SettingsInput, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"HOME": "/home/me", "LEVIN_CONFIG": file}
	for k, v := range env {
		all[k] = v
	}
	return input(all), file
}

func input(env map[string]string) SettingsInput {
	return SettingsInput{Dir: "/work-dir", Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
}

func TestSettingsEveryKey(t *testing.T) {
	key := hostKey(t)
	in, file := world(t, `
home: state
cloud: rack,local
lease: 30s
max_machines: 4
max_terraform: 2
terraform: ~/bin/tofu
stop_timeout: 1m
lost_after: 45s
clouds:
  rack:
    module: ssh
    price: 0.5
    hosts:
      - address: 10.0.0.1
      - {name: big, address: "fe80::1%eth0", port: 2222, user: me, identity: ~/.ssh/id, host_key: `+key+`, proxy_jump: "me@a:22,[::1]:2,b",
         slots: 4, cpus: 8, memory: 64GB, disk: 1TB, gpu: "a100:2", arch: arm64, price: 1.5}
      - {address: Node_2.example.com, proxy_command: "nc %h %p", identity: keys/id, gpu: 4090}
  local: {price: 0.1}
`, nil)
	got, err := LoadSettings(in)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(file)
	want := Settings{
		Home: filepath.Join(dir, "state"), Cloud: "rack,local", Lease: 30 * time.Second, MaxMachines: 4, MaxTerraform: 2,
		Terraform: "/home/me/bin/tofu", StopTimeout: time.Minute, LostAfter: 45 * time.Second,
		Clouds: map[string]CloudSettings{
			"local": {Module: "local", Price: 0.1},
			"rack": {Module: "ssh", Price: 0.5, Hosts: []Host{
				{Name: "10-0-0-1", Address: "10.0.0.1", Slots: 1, Arch: "amd64"},
				{Name: "big", Address: "fe80::1%eth0", Port: 2222, User: "me", Identity: "/home/me/.ssh/id", HostKey: key, ProxyJump: "me@a:22,[::1]:2,b",
					Slots: 4, CPUs: 8, Memory: 64, Disk: 1024, GPU: "a100:2", Arch: "arm64", Price: 1.5},
				{Name: "node-2-example-com", Address: "Node_2.example.com", ProxyCommand: "nc %h %p", Identity: filepath.Join(dir, "keys/id"), GPU: "4090", Slots: 1, Arch: "amd64"},
			}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSettingsPrecedence(t *testing.T) {
	text := "home: /file\nlease: 1m\nmax_machines: 3\nterraform: /file/tofu\nclouds: {rack: {module: ssh, hosts: [{address: a}]}}\n"
	env := map[string]string{"LEVIN_HOME": "env", "LEVIN_LEASE": "2m", "LEVIN_MAX_TERRAFORM": "7", "LEVIN_STOP_TIMEOUT": "9s", "LEVIN_CLOUD": "rack", "LEVIN_TERRAFORM": "tofu", "LEVIN_MAX_MACHINES": "", "LEVIN_LOST_AFTER": "8s"}
	in, _ := world(t, text, env)
	in.Flags = map[string]string{"home": "flag", "cloud": "local"}
	got, err := LoadSettings(in)
	if err != nil {
		t.Fatal(err)
	}
	got.Clouds = nil
	want := Settings{Home: "/work-dir/flag", Cloud: "local", Lease: 2 * time.Minute, MaxMachines: 3, MaxTerraform: 7, Terraform: "tofu", StopTimeout: 9 * time.Second, LostAfter: 8 * time.Second}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	in.Flags = nil
	if got, err = LoadSettings(in); err != nil || got.Home != "/work-dir/env" || got.Cloud != "rack" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSettingsDefaults(t *testing.T) {
	data := "/home/me/.local/share/levin"
	if runtime.GOOS == "darwin" {
		data = "/home/me/Library/Application Support/levin"
	}
	for home, env := range map[string]map[string]string{
		data:          {"HOME": "/home/me"},
		"/data/levin": {"HOME": "/home/me", "XDG_DATA_HOME": "/data", "XDG_CONFIG_HOME": "relative is ignored"},
		"/own":        {"LEVIN_HOME": "/own"},
	} {
		got, err := LoadSettings(input(env))
		if err != nil {
			t.Fatal(err)
		}
		want := Settings{Home: home, Cloud: "local", Lease: 10 * time.Minute, MaxMachines: 16, StopTimeout: 5 * time.Minute, LostAfter: 2 * time.Minute,
			Clouds: map[string]CloudSettings{"local": {Module: "local"}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if _, err := LoadSettings(input(nil)); err == nil || !strings.Contains(err.Error(), "set LEVIN_HOME") {
		t.Errorf("without any folder: %v", err)
	}

	// The file is found in the user's config folder.
	config := t.TempDir()
	if err := os.Mkdir(filepath.Join(config, "levin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config, "levin", "settings.yaml"), []byte("lease: 3s"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LoadSettings(input(map[string]string{"HOME": "/home/me", "XDG_CONFIG_HOME": config}))
	if err != nil || got.Lease != 3*time.Second {
		t.Errorf("%+v, %v", got, err)
	}
	// An empty file is as good as none; one that was named must be there.
	in, _ := world(t, "# nothing\n", nil)
	if _, err := LoadSettings(in); err != nil {
		t.Error(err)
	}
	_, err = LoadSettings(input(map[string]string{"HOME": "/home/me", "LEVIN_CONFIG": "gone.yaml"}))
	if err == nil || !strings.Contains(err.Error(), "could not read the settings /work-dir/gone.yaml") || !strings.Contains(err.Error(), "LEVIN_CONFIG names this file") {
		t.Error(err)
	}
}

func TestSettingsErrors(t *testing.T) {
	host := func(text string) string {
		return "clouds:\n  rack:\n    module: ssh\n    hosts:\n      - {" + text + "}\n"
	}
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "leese: 3s", `1:1: unknown key "leese" in the settings; did you mean lease?`},
		{"lease", "lease: 1s", `1:8: lease must be at least 2s, is 1s`},
		{"lease", "lease: 5", `1:8: lease must be a duration such as 90s, 15m or 2h, is "5"; did you mean 5s?`},
		{"lost_after", "lost_after: 900ms", `1:13: lost_after must be at least 1s, is 900ms`},
		{"lost_after", "lost_after: 0", `1:13: lost_after must be at least 1s, is 0`},
		{"tag", "home: !env HOME", `1:7: the tag !env is not supported; write the value without it`},
		{"stop_timeout", "stop_timeout: 0s", `1:15: stop_timeout must be above 0: clean-up needs time`},
		{"max_machines", "max_machines: 0", `1:15: max_machines must be between 1 and 1000000, is 0`},
		{"unknown cloud", "cloud: local, rak\nclouds: {rack: {module: ssh, hosts: [{address: a}]}}", `1:8: there is no cloud "rak"; the settings have local, rack; did you mean rack?`},
		{"module", "clouds: {a: {module: aws}}", `1:22: module "aws" is not supported yet; it can be local or ssh`},
		{"no module", "clouds: {a: {price: 1}}", `1:10: cloud "a" has no module; it can be local or ssh`},
		{"cloud name", "clouds: {A_b: {module: local}}", `1:10: the cloud's name "A_b" must be lower case letters, digits and dashes, not beginning or ending with a dash; did you mean a-b?`},
		{"local is local", "clouds: {local: {module: ssh, hosts: [{address: a}]}}", `1:26: the cloud local is always of module local; give own hosts another name`},
		{"hosts of local", "clouds: {a: {module: local, hosts: [{address: a}]}}", `1:36: only a cloud of module ssh has hosts`},
		{"no hosts", "clouds: {a: {module: ssh}}", `1:10: cloud "a" has no hosts`},
		{"empty hosts", "clouds: {a: {module: ssh, hosts: []}}", `1:34: hosts is empty`},
		{"list of clouds", "clouds: [a]", `1:9: clouds must be a mapping of names to clouds, is a list`},
		{"negative price", "clouds: {a: {module: local, price: -1}}", `1:36: price cannot be negative, is -1`},
		{"list", "- a", `1:1: the settings must be a mapping, is a list`},
		{"syntax", "a: [", `: not valid YAML: `},
		{"no address", host("name: a"), `5:9: the host has no address`},
		{"host key name", host("address: a, slot: 2"), `5:22: unknown key "slot" in host; did you mean slots?`},
		{"slots", host("address: a, slots: 0"), `5:29: slots must be between 1 and 1000000, is 0`},
		{"user in address", host("address: me@a"), `5:19: address must be a host alone; put the user into user`},
		{"port in address", host("address: 'a:22'"), `5:19: address must be a host alone, is "a:22"; put the port into port`},
		{"option as address", host("address: -oProxyCommand=x"), `5:19: "-oProxyCommand=x" is not the address of a host`},
		{"option as user", host("address: a, user: -l"), `5:28: "-l" is not the name of a user`},
		{"port", host("address: a, port: 65536"), `5:28: port must be between 1 and 65535, is 65536`},
		{"host_key", host("address: a, host_key: ssh-ed25519 AAAA"), `5:32: host_key is not one public key such as ssh-ed25519 AAAA…; ssh-keyscan HOST prints it after the host's name`},
		{"proxy_jump", host("address: a, proxy_jump: '-x'"), `5:34: proxy_jump must be [user@]host[:port], or several with commas, is "-x"`},
		{"proxy_jump", host("address: a, proxy_jump: 'a:99999'"), `5:34: proxy_jump must be`},
		{"two proxies", host("address: a, proxy_command: x, proxy_jump: b"), `5:37: proxy_command and proxy_jump are two ways to one host; keep one`},
		{"gpu", host("address: a, gpu: 2"), `5:27: gpu of a host must be MODEL[:COUNT], is "2"`},
		{"gpu", host("address: a, gpu: 24GB.."), `5:27: gpu of a host must be MODEL[:COUNT], is "24GB.."`},
		{"gpu", host("address: a, gpu: 'A100:x'"), `5:27: gpu must be MODEL[:COUNT] with a whole COUNT from 1, is "A100:x"`},
		{"memory", host("address: a, memory: 1GB.."), `5:30: memory of a host is one size, not a range`},
		{"arch", host("address: a, arch: x86"), `5:28: arch must be amd64 or arm64, is "x86"`},
		{"same name", host("address: a") + "      - {address: b, name: a}\n", `6:28: two hosts have the name "a"; the other is on line 5`},
		{"no name", host("address: ö"), `5:9: no name can be made from the address "ö"; give the host a name`},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, file := world(t, c.text, nil)
			_, err := LoadSettings(in)
			var all Errors
			if cluster.KindOf(err) != cluster.BadInput || !errors.As(err, &all) {
				t.Fatalf("got %v; want %s", err, c.want)
			}
			if !strings.Contains(err.Error(), c.want) || len(all) != 1 || all[0].File != file {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}

	in, _ := world(t, "", map[string]string{"LEVIN_LEASE": "1s", "LEVIN_MAX_MACHINES": "many"})
	in.Flags = map[string]string{"cloud": "rack", "homes": "x"}
	_, err := LoadSettings(in)
	for _, want := range []string{
		"LEVIN_LEASE: lease must be at least 2s, is 1s", `LEVIN_MAX_MACHINES: max_machines must be a whole number, is "many"`,
		`--cloud: there is no cloud "rack"; the settings have local`, "--homes: there is no such setting; did you mean home?",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
}

func FuzzSettings(f *testing.F) {
	f.Add("lease: 3s\ncloud: rack\nclouds: {rack: {module: ssh, hosts: [{address: a, gpu: T4, memory: 4GB, proxy_jump: b}]}}", "2s")
	f.Add("home: ~/x\nterraform: ./tofu\nclouds: {local: {price: 1}, b: &b {module: local}, c: *b}", "")
	f.Add("max_machines: 1e9\nclouds: {a: {module: ssh, hosts: [{address: '::1'}, {address: 1.2.3.4}]}}", "x")
	file := filepath.Join(f.TempDir(), "settings.yaml")
	f.Fuzz(func(t *testing.T, text, lease string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := LoadSettings(input(map[string]string{"HOME": "/home/me", "LEVIN_CONFIG": file, "LEVIN_LEASE": lease}))
		if err != nil {
			if cluster.KindOf(err) != cluster.BadInput {
				t.Fatalf("kind %q: %v", cluster.KindOf(err), err)
			}
			return
		}
		if !filepath.IsAbs(s.Home) || s.Lease < minLease || s.StopTimeout <= 0 || s.LostAfter < minLostAfter || s.MaxMachines < 1 || s.Clouds["local"].Module != "local" {
			t.Fatalf("%+v", s)
		}
		for _, c := range s.Clouds {
			for _, h := range c.Hosts {
				if !isLabel(h.Name) || h.Address == "" || h.Slots < 1 || strings.HasPrefix(h.Address, "-") || h.ProxyJump != "" && h.ProxyCommand != "" {
					t.Fatalf("%+v", h)
				}
			}
		}
	})
}
