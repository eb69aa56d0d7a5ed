package ssh

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

// A machine is reached as the settings and the SSH configuration say of its host.
func TestTarget(t *testing.T) {
	jumped := configs.Host{Name: "a", Address: "10.0.0.1", Port: 2022, User: "ann", Identity: "/k", HostKey: hostKey, ProxyJump: "b"}
	b := configs.Host{Name: "b", Address: "192.0.2.1", User: "root", HostKey: hostKey, Identity: "/b"}
	c := mustNew(t, config(t, map[string]string{".ssh/config": "Host 192.0.2.1\n  Port 2222\n"}, jumped, b))
	got, err := c.Target(cluster.Machine{Type: "a"}, "/run/key")
	if err != nil {
		t.Fatal(err)
	}
	want := cluster.Target{
		Address: "10.0.0.1", Port: 2022, User: "ann", HostKeys: []string{hostKey}, KeyFiles: []string{"/k"},
		Jumps: []cluster.Target{{Address: "192.0.2.1", Port: 2222, User: "root", HostKeys: []string{hostKey}, KeyFiles: []string{"/b"}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("target (-want +got):\n%s", diff)
	}
}

// A host that the settings have lost is reached as the row says.
func TestTargetOfALostHost(t *testing.T) {
	c := mustNew(t, config(t, nil, host("other")))
	got, err := c.Target(cluster.Machine{Type: "lost", Address: "10.0.0.1", Port: 2022, User: "ann", HostKey: hostKey}, "")
	if err != nil {
		t.Fatal(err)
	}
	if got.PowerOff {
		t.Error("own hosts are never powered off")
	}
	want := cluster.Target{Address: "10.0.0.1", Port: 2022, User: "ann", HostKeys: []string{hostKey}, Agent: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("target (-want +got):\n%s", diff)
	}
}
