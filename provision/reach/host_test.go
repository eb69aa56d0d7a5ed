package reach

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMk1jBkUUCJ3tTfJ2Ph0RJc6Zb1m1c7yB3kqXkU2n8sF"

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// config is a Config whose home folder holds the given files.
func config(t *testing.T, files map[string]string, hosts ...configs.Host) Config {
	t.Helper()
	home := t.TempDir()
	for name, content := range files {
		write(t, filepath.Join(home, name), content)
	}
	return Config{
		Cloud: "rack", Settings: configs.CloudSettings{Hosts: hosts},
		Home: home, User: "me", KnownHosts: []string{filepath.Join(home, ".ssh", "known_hosts")},
	}
}

func mustNew(t *testing.T, cfg Config) *Resolver {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const sshConfig = `
Include extra/*.conf

Host alias
  HostName real.example
  User ann
  Port 2222
  IdentityFile ~/.ssh/ann_%h
  IdentitiesOnly yes

Host jumped
  ProxyJump bob@gate:2200,inner

Host gate
  HostName gate.example
  ProxyJump outer

Host outer
  ProxyCommand nc -x proxy %h %p

Host inner
  ProxyJump never-used

Host commanded
  ProxyCommand connect --user %r --to %n=%h:%p --percent %%

Host loop
  ProxyJump loop

Match host matched,also
  User match

Match host cond exec "touch /tmp/never"
  User never
  Port 9

Match all
  User everyone
`

func TestHost(t *testing.T) {
	files := map[string]string{
		".ssh/config":      strings.Replace(sshConfig, "extra/", "", 1),
		".ssh/known_hosts": "",
		".ssh/id_rsa":      "key",
		".ssh/id_ed25519":  "key",
	}
	for _, test := range []struct {
		name string
		host configs.Host
		want cluster.Target
	}{
		{"settings say all", configs.Host{Address: "alias", Port: 7, User: "u", Identity: "~/my.key", HostKey: hostKey},
			cluster.Target{Address: "real.example", Port: 7, User: "u", HostKeys: []string{hostKey}, KeyFiles: []string{"HOME/my.key"}}},
		{"ssh config", configs.Host{Address: "alias"},
			cluster.Target{Address: "real.example", Port: 2222, User: "ann", KeyFiles: []string{"HOME/.ssh/ann_real.example"}}},
		{"defaults", configs.Host{Address: "10.1.2.3"},
			cluster.Target{Address: "10.1.2.3", Port: 22, User: "everyone", KeyFiles: []string{"HOME/.ssh/id_ed25519", "HOME/.ssh/id_rsa"}, Agent: true}},
		{"match", configs.Host{Address: "also"},
			cluster.Target{Address: "also", Port: 22, User: "match", KeyFiles: []string{"HOME/.ssh/id_ed25519", "HOME/.ssh/id_rsa"}, Agent: true}},
		{"match with exec never applies", configs.Host{Address: "cond", Identity: "/k"},
			cluster.Target{Address: "cond", Port: 22, User: "everyone", KeyFiles: []string{"/k"}}},
		{"proxy command", configs.Host{Address: "commanded", Identity: "/k"},
			cluster.Target{Address: "commanded", Port: 22, User: "everyone", KeyFiles: []string{"/k"},
				ProxyCommand: "connect --user everyone --to commanded=commanded:22 --percent %"}},
		{"proxy command of the settings", configs.Host{Address: "jumped", Identity: "/k", User: "x", ProxyCommand: "nc %h %p"},
			cluster.Target{Address: "jumped", Port: 22, User: "x", KeyFiles: []string{"/k"}, ProxyCommand: "nc jumped 22"}},
		{"no proxy after all", configs.Host{Address: "jumped", Identity: "/k", User: "x", ProxyJump: "none"},
			cluster.Target{Address: "jumped", Port: 22, User: "x", KeyFiles: []string{"/k"}}},
		{"jumps, with the first one's own before it", configs.Host{Address: "jumped", Identity: "/k"},
			cluster.Target{Address: "jumped", Port: 22, User: "everyone", KeyFiles: []string{"/k"}, Jumps: []cluster.Target{
				{Address: "outer", Port: 22, User: "everyone", Agent: true, KeyFiles: []string{"HOME/.ssh/id_ed25519", "HOME/.ssh/id_rsa"}, ProxyCommand: "nc -x proxy outer 22"},
				{Address: "gate.example", Port: 2200, User: "bob", Agent: true, KeyFiles: []string{"HOME/.ssh/id_ed25519", "HOME/.ssh/id_rsa"}},
				{Address: "inner", Port: 22, User: "everyone", Agent: true, KeyFiles: []string{"HOME/.ssh/id_ed25519", "HOME/.ssh/id_rsa"}},
			}}},
		{"jump through another host of the settings", configs.Host{Address: "10.9.9.9", Identity: "/k", ProxyJump: "bastion"},
			cluster.Target{Address: "10.9.9.9", Port: 22, User: "everyone", KeyFiles: []string{"/k"}, Jumps: []cluster.Target{
				{Address: "192.0.2.1", Port: 2022, User: "root", HostKeys: []string{hostKey}, KeyFiles: []string{"/b"}},
			}}},
		{"jump by an IPv6 address", configs.Host{Address: "10.9.9.9", Identity: "/k", ProxyJump: "ssh://me@[2001:db8::1]:2022"},
			cluster.Target{Address: "10.9.9.9", Port: 22, User: "everyone", KeyFiles: []string{"/k"}, Jumps: []cluster.Target{
				{Address: "2001:db8::1", Port: 2022, User: "me", Agent: true, KeyFiles: []string{"HOME/.ssh/id_ed25519", "HOME/.ssh/id_rsa"}},
			}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.host.Name = "host"
			bastion := configs.Host{Name: "bastion", Address: "192.0.2.1", Port: 2022, User: "root", HostKey: hostKey, Identity: "/b"}
			cfg := config(t, files, test.host, bastion)
			got, err := mustNew(t, cfg).Host(test.host)
			if err != nil {
				t.Fatal(err)
			}
			want := test.want
			expect := func(target *cluster.Target) {
				target.KnownHosts = []string{filepath.Join(cfg.Home, ".ssh", "known_hosts")}
				for i, file := range target.KeyFiles {
					target.KeyFiles[i] = strings.Replace(file, "HOME", cfg.Home, 1)
				}
			}
			expect(&want)
			for i := range want.Jumps {
				expect(&want.Jumps[i])
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("target (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHostRefuses(t *testing.T) {
	for _, test := range []struct {
		name, want string
		host       configs.Host
		config     string
	}{
		{"a loop of jumps", "more than 8 jumps", configs.Host{Address: "loop"}, sshConfig},
		{"an unknown placeholder", "%k", configs.Host{Address: "a", ProxyCommand: "nc %k"}, ""},
		{"a lone percent", "lone %", configs.Host{Address: "a", ProxyCommand: "nc %"}, ""},
		{"a user for the shell", "as it is", configs.Host{Address: "a", User: "x; rm -rf /", ProxyCommand: "nc %r"}, ""},
		{"an address that is an option", "as it is", configs.Host{Address: "-oProxyCommand=x", ProxyCommand: "nc %h"}, ""},
		{"a jump that is none", "proxy jump", configs.Host{Address: "a", ProxyJump: "a b"}, ""},
		{"a jump to nowhere", "proxy jump", configs.Host{Address: "a", ProxyJump: "a,,b"}, ""},
		{"a port that is none", `port "ssh"`, configs.Host{Address: "a"}, "Host a\n  Port ssh\n"},
		{"a broken configuration", "could not be read", configs.Host{Address: "a"}, "Include ~/.ssh/exec.conf\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.host.Name = "host"
			cfg := config(t, map[string]string{".ssh/config": test.config}, test.host)
			if strings.HasPrefix(test.config, "Include") {
				// The library looks for what is included in the real home folder.
				cfg = config(t, map[string]string{".ssh/exec.conf": "Match exec true\n"}, test.host)
				writeInclude(t, cfg)
			}
			_, err := mustNew(t, cfg).Host(test.host)
			if cluster.KindOf(err) != cluster.BadInput || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Host gave %v", err)
			}
		})
	}
}

// writeInclude writes a configuration that includes exec.conf beside it.
func writeInclude(t *testing.T, cfg Config) {
	t.Helper()
	write(t, filepath.Join(cfg.Home, ".ssh", "config"), "Include "+filepath.Join(cfg.Home, ".ssh", "exec.conf")+"\n")
}

// A configuration that cannot be read is no matter where the settings say all.
func TestBrokenConfigIsNotNeeded(t *testing.T) {
	cfg := config(t, map[string]string{".ssh/exec.conf": "Match exec true\n"})
	writeInclude(t, cfg)
	if _, err := mustNew(t, cfg).Host(configs.Host{Name: "host", Address: "a", Port: 22, User: "u", Identity: "/k"}); err != nil {
		t.Error(err)
	}
}

func TestInclude(t *testing.T) {
	cfg := config(t, map[string]string{".ssh/more/a.conf": "Host a\n  Port 2022\n"})
	write(t, filepath.Join(cfg.Home, ".ssh", "config"), "Include "+filepath.Join(cfg.Home, ".ssh", "more")+"/*.conf\nHost a\n  User ann\n")
	got, err := mustNew(t, cfg).Host(configs.Host{Name: "host", Address: "a"})
	if err != nil || got.Port != 2022 || got.User != "ann" {
		t.Errorf("target is %+v, error %v", got, err)
	}
}

// Whatever the placeholders and the values, what is put into the line is plain.
func FuzzFill(f *testing.F) {
	for _, s := range []string{"nc %h %p", "%%h %r", "%", "%n%h", "a 'b' %x"} {
		f.Add(s, "host.example", "user")
	}
	f.Add("nc %h", "a;b", "$(c)")
	f.Fuzz(func(t *testing.T, command, address, user string) {
		got, err := fill(command, placeholders(address, endpoint{address: address, port: 22, user: user}))
		if err != nil {
			return
		}
		if !strings.Contains(command, "%") && got != command {
			t.Errorf("%q became %q", command, got)
		}
		if (strings.Contains(strings.ReplaceAll(command, "%%", ""), "%h") && !plain(address)) ||
			(strings.Contains(strings.ReplaceAll(command, "%%", ""), "%r") && !plain(user)) {
			t.Errorf("%q, which is not plain, was put into %q", address+" "+user, got)
		}
	})
}

func FuzzJumpHost(f *testing.F) {
	for _, s := range []string{"a", "u@a:22", "ssh://u@[::1]:22", "a b", "", "@", ":22", "a:99999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		h, err := (&Resolver{}).jumpHost(spec)
		if err == nil && (h.Address == "" || h.Port < 0 || h.Port > 65535) {
			t.Errorf("%q is %+v", spec, h)
		}
	})
}

// Nothing that a Match block with exec holds is ever left in.
func FuzzWithoutMatch(f *testing.F) {
	f.Add(sshConfig)
	f.Add("Match exec x\n User never")
	f.Add("match=EXEC x\nUser never\nHost *\nUser y")
	f.Fuzz(func(t *testing.T, config string) {
		for _, line := range strings.Split(withoutMatch(config), "\n") {
			fields := strings.Fields(strings.Replace(line, "=", " ", 1))
			if len(fields) > 1 && strings.EqualFold(fields[0], "match") && !strings.EqualFold(fields[1], "all") {
				t.Errorf("%q was left in", line)
			}
		}
	})
}
