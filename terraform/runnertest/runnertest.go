// Package runnertest holds every terraform.Runner to its contract, and writes the
// small roots that its tests apply.
package runnertest

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
)

// Hosts describes machines of the module for own hosts, which needs no provider
// that would have to be fetched.
func Hosts(names ...string) map[string]terraform.MachineInput {
	machines := map[string]terraform.MachineInput{}
	for i, name := range names {
		machines[name] = terraform.MachineInput{Type: "host", Extra: map[string]any{
			"address": "127.0.0.1", "port": 2200 + i, "user": "u-" + name, "host_key": "ssh-ed25519 AAAA",
		}}
	}
	return machines
}

// Root writes a root of own hosts to a new folder.
func Root(t testing.TB, machines map[string]terraform.MachineInput) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	write(t, dir, machines)
	return dir
}

func write(t testing.TB, dir string, machines map[string]terraform.MachineInput) {
	t.Helper()
	root := terraform.Root{Run: "run", Group: "run-g1", Module: terraform.SSHModule(), Machines: machines, SSHPublicKey: "ssh-ed25519 AAAA"}
	if err := root.Write(dir); err != nil {
		t.Fatal(err)
	}
}

// Run runs the suite; open gives a new Runner.
func Run(t *testing.T, open func(t *testing.T) terraform.Runner) {
	t.Run("ApplyAndDestroy", func(t *testing.T) {
		r, dir := open(t), Root(t, Hosts("a", "b"))
		for _, names := range [][]string{{"a", "b"}, {"b"}, {"b", "c"}} { // the world follows the root
			write(t, dir, Hosts(names...))
			check(t, r, dir, names)
		}
		destroy(t, r, dir)
		destroy(t, r, dir) // again is no error
	})
	t.Run("DestroyOfNothing", func(t *testing.T) {
		destroy(t, open(t), Root(t, Hosts("a")))
		destroy(t, open(t), filepath.Join(t.TempDir(), "no-such-folder"))
	})
	t.Run("Cancelled", func(t *testing.T) {
		r, dir := open(t), Root(t, Hosts("a"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.Apply(ctx, dir, terraform.Providers{}); !errors.Is(err, context.Canceled) {
			t.Errorf("apply: %v", err)
		}
		destroy(t, r, dir)
	})
	t.Run("Failure", func(t *testing.T) {
		r, dir := open(t), Root(t, map[string]terraform.MachineInput{"bad": {Type: "host"}}) // no address: the module refuses
		_, err := r.Apply(t.Context(), dir, terraform.Providers{})
		var failure *cluster.Failure
		var apply *terraform.ApplyError
		if !errors.As(err, &failure) || failure.Words == "" || !errors.As(err, &apply) {
			t.Errorf("error: %v", err)
		}
		destroy(t, r, dir)
	})
	t.Run("Concurrent", func(t *testing.T) {
		r := open(t)
		done := make(chan struct{})
		const n = 6
		for range n {
			dir := Root(t, Hosts("a"))
			go func() {
				defer func() { done <- struct{}{} }()
				check(t, r, dir, []string{"a"})
				check(t, r, dir, []string{"a"})
				destroy(t, r, dir)
			}()
		}
		for range n {
			<-done
		}
	})
}

func check(t *testing.T, r terraform.Runner, dir string, want []string) {
	t.Helper()
	outputs, err := r.Apply(t.Context(), dir, terraform.Providers{})
	if err != nil {
		t.Errorf("apply: %v", err)
		return
	}
	machines, err := terraform.DecodeMachines(outputs)
	if err != nil {
		t.Error(err)
	}
	var names []string
	for name, m := range machines {
		names = append(names, name)
		if m.Address != "127.0.0.1" || m.User != "u-"+name {
			t.Errorf("machine %s: %+v", name, m)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, want) {
		t.Errorf("machines %v, want %v", names, want)
	}
}

func destroy(t *testing.T, r terraform.Runner, dir string) {
	t.Helper()
	if err := r.Destroy(t.Context(), dir, terraform.Providers{}); err != nil {
		t.Errorf("destroy: %v", err)
	}
	if left, err := terraform.Resources(dir); err != nil || len(left) != 0 {
		t.Errorf("left after destroy: %v %v", left, err)
	}
}
