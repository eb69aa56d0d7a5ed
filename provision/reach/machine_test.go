package reach

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

func TestMachine(t *testing.T) {
	const sshFile = `
Host *
  User nobody
  Port 99
Host 10.0.*
  ProxyJump bastion
Host bastion
  HostName bastion.example
  User ann
  Port 22
  IdentityFile ~/.ssh/bastion
  IdentitiesOnly yes
`
	other := strings.Replace(hostKey, "MMk1j", "MMk1k", 1)
	m := cluster.Machine{Name: "run-train-1", Address: "203.0.113.7", PrivateAddress: "10.0.0.7", Port: 22, User: "ubuntu",
		HostKey: hostKey, CloudID: "i-0abc", Zone: "use1-az1"}
	for _, test := range []struct {
		name     string
		settings configs.CloudSettings
		change   func(*cluster.Machine)
		want     cluster.Target
	}{
		{"public", configs.CloudSettings{}, nil,
			cluster.Target{Address: "203.0.113.7", Port: 22, User: "ubuntu", HostKeys: []string{hostKey}, KeyFiles: []string{"/run/key"}}},
		{"a key that is being rotated", configs.CloudSettings{}, func(m *cluster.Machine) { m.HostKey = other + "\n" + hostKey + "\n" },
			cluster.Target{Address: "203.0.113.7", Port: 22, User: "ubuntu", HostKeys: []string{other, hostKey}, KeyFiles: []string{"/run/key"}}},
		{"settings", configs.CloudSettings{User: "root", Identity: "~/more"}, nil,
			cluster.Target{Address: "203.0.113.7", Port: 22, User: "root", HostKeys: []string{hostKey}, KeyFiles: []string{"/run/key", "HOME/more"}}},
		{"private, by what the SSH configuration says", configs.CloudSettings{Private: true}, nil,
			cluster.Target{Address: "10.0.0.7", Port: 22, User: "ubuntu", HostKeys: []string{hostKey}, KeyFiles: []string{"/run/key"},
				Jumps: []cluster.Target{{Address: "bastion.example", Port: 99, User: "nobody", KnownHosts: []string{"HOME/.ssh/known_hosts"}, KeyFiles: []string{"HOME/.ssh/bastion"}}}}},
		{"private, directly", configs.CloudSettings{Private: true, ProxyJump: "none"}, nil,
			cluster.Target{Address: "10.0.0.7", Port: 22, User: "ubuntu", HostKeys: []string{hostKey}, KeyFiles: []string{"/run/key"}}},
		{"no public address all the same", configs.CloudSettings{ProxyJump: "none"}, func(m *cluster.Machine) { m.Address = "" },
			cluster.Target{Address: "10.0.0.7", Port: 22, User: "ubuntu", HostKeys: []string{hostKey}, KeyFiles: []string{"/run/key"}}},
		{"a tunnel", configs.CloudSettings{Private: true, ProxyCommand: "tunnel %i %z %n %h:%p %r 100%%"}, nil,
			cluster.Target{Address: "10.0.0.7", Port: 22, User: "ubuntu", HostKeys: []string{hostKey}, KeyFiles: []string{"/run/key"},
				ProxyCommand: "tunnel i-0abc use1-az1 run-train-1 10.0.0.7:22 ubuntu 100%"}},
		{"no host key", configs.CloudSettings{}, func(m *cluster.Machine) { m.HostKey = "" },
			cluster.Target{Address: "203.0.113.7", Port: 22, User: "ubuntu", KnownHosts: []string{"HOME/.ssh/known_hosts"}, KeyFiles: []string{"/run/key"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config(t, map[string]string{".ssh/config": sshFile, ".ssh/known_hosts": ""})
			cfg.Settings = test.settings
			machine := m
			if test.change != nil {
				test.change(&machine)
			}
			got, err := mustNew(t, cfg).Machine(machine, "/run/key")
			if err != nil {
				t.Fatal(err)
			}
			home(&test.want, cfg.Home)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("target (-want +got):\n%s", diff)
			}
		})
	}
}

// home puts the test's home folder in place of HOME.
func home(t *cluster.Target, folder string) {
	for _, files := range [][]string{t.KeyFiles, t.KnownHosts} {
		for i, file := range files {
			files[i] = strings.Replace(file, "HOME", folder, 1)
		}
	}
	for i := range t.Jumps {
		home(&t.Jumps[i], folder)
	}
}

func TestMachineRefuses(t *testing.T) {
	m := cluster.Machine{Name: "run-train-1", Address: "203.0.113.7", User: "ubuntu", HostKey: hostKey}
	for _, test := range []struct {
		name, want string
		settings   configs.CloudSettings
		machine    cluster.Machine
		kind       cluster.FailureKind
	}{
		{"no address", "no address", configs.CloudSettings{}, cluster.Machine{Name: "x", User: "u"}, cluster.Provisioning},
		{"no user", "no user", configs.CloudSettings{}, cluster.Machine{Name: "x", Address: "1.2.3.4"}, cluster.Provisioning},
		{"an id for the shell", "as it is", configs.CloudSettings{ProxyCommand: "ssm %i"},
			cluster.Machine{Name: "x", Address: "1.2.3.4", User: "u", CloudID: "$(touch x)"}, cluster.BadInput},
		{"an id that is not known", "as it is", configs.CloudSettings{ProxyCommand: "ssm %i"}, m, cluster.BadInput},
		{"an unknown placeholder", "%h, %i, %n, %p, %r, %z", configs.CloudSettings{ProxyCommand: "ssm %q"}, m, cluster.BadInput},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config(t, nil)
			cfg.Settings = test.settings
			_, err := mustNew(t, cfg).Machine(test.machine, "/run/key")
			if cluster.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Machine gave %v", err)
			}
		})
	}
}

// A configuration that cannot be read is no matter where the settings name the
// way, and stops everything where they do not: it may hold the only way.
func TestMachineWithABrokenConfig(t *testing.T) {
	m := cluster.Machine{Name: "x", Address: "1.2.3.4", User: "u", HostKey: hostKey}
	cfg := config(t, map[string]string{".ssh/exec.conf": "Match exec true\n"})
	writeInclude(t, cfg)
	if _, err := mustNew(t, cfg).Machine(m, ""); cluster.KindOf(err) != cluster.BadInput {
		t.Errorf("Machine gave %v", err)
	}
	cfg.Settings.ProxyJump = "none"
	if _, err := mustNew(t, cfg).Machine(m, ""); err != nil {
		t.Error(err)
	}
}
