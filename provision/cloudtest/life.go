package cloudtest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
)

// slow hides a cloud's fast path, so that only Terraform can end its machines.
type slow struct{ provision.Cloud }

// slowClaimer is slow for a cloud that must be claimed.
type slowClaimer struct {
	provision.Cloud
	provision.Claimer
}

func withoutFastPath(c provision.Cloud) provision.Cloud {
	if claimer, ok := c.(provision.Claimer); ok {
		return slowClaimer{c, claimer}
	}
	return slow{c}
}

// testLife creates machines through a real Provisioner, ends them one by one,
// and checks that each stayed until it was asked to go and that nothing is left.
func testLife(t *testing.T, cfg Config, terraformOnly bool) {
	const run = "cloudtest-abc123"
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	store := memory.New()
	journal := cluster.NewJournal(store)
	cloud := open(t, cfg, journal)
	if terraformOnly {
		cloud = withoutFastPath(cloud)
	}
	row := cluster.Run{ID: run, App: "cloudtest", State: cluster.RunPending, CreatedAt: time.Now()}
	if err := journal.Commit(ctx, cluster.Change{Run: &row}); err != nil {
		t.Fatal(err)
	}
	n := cfg.Machines
	if n == 0 {
		n = 2
	}
	gone := make(chan string, n)
	journal.Listen(func(e cluster.Event) {
		if e.Type == cluster.EventMachineGone {
			gone <- e.Machine
		}
	})

	dir := t.TempDir()
	keyFile := filepath.Join(dir, "key")
	if err := os.WriteFile(keyFile, []byte("not read by this test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := provision.New(provision.Config{
		Run: run, Dir: dir, KeyFile: keyFile, PubKey: cfg.PubKey,
		Journal: journal, Runner: cfg.Runner, Clouds: []provision.Cloud{cloud},
		// Long enough for the requests to share a root on a busy machine.
		Window: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })

	offers, err := cloud.Offers(ctx, configs.Resources{})
	if err != nil || len(offers) == 0 {
		t.Fatalf("Offers: %v, %v", offers, err)
	}
	machines := make([]cluster.Machine, n)
	var creating sync.WaitGroup
	for i := range machines {
		creating.Go(func() {
			m, err := p.Create(ctx, provision.Request{
				Component: "thing", Number: i + 1,
				Choice: provision.Choice{Component: "thing", Offers: offers},
			})
			if err != nil {
				t.Errorf("Create: %v", err)
			}
			machines[i] = m
		})
	}
	creating.Wait()
	if t.Failed() {
		p.StopAll("the test failed")
		p.Wait(ctx)
		return
	}

	alive := func(m cluster.Machine) bool { return cfg.Alive == nil || cfg.Alive(m) }
	for _, m := range machines {
		if m.State != cluster.MachineReady || m.Address == "" || m.Port == 0 || m.User == "" {
			t.Errorf("machine %s is not ready to be reached: %+v", m.Name, m)
		}
		target, err := cloud.Target(m, keyFile)
		if err != nil {
			t.Errorf("Target(%s): %v", m.Name, err)
		}
		if target.Address == "" || target.Port == 0 || target.User == "" {
			t.Errorf("Target(%s) lacks address, port or user: %+v", m.Name, target)
		}
		if len(target.HostKeys) == 0 && len(target.KnownHosts) == 0 {
			t.Errorf("Target(%s) pins no host key: %+v", m.Name, target)
		}
		if !alive(m) {
			t.Errorf("machine %s is ready and not there", m.Name)
		}
	}

	p.Stop(machines[0].Name, "finished")
	select {
	case name := <-gone:
		if name != machines[0].Name {
			t.Errorf("%s went, and not %s", name, machines[0].Name)
		}
	case <-ctx.Done():
		t.Fatalf("machine %s is not gone: %v", machines[0].Name, ctx.Err())
	}
	for _, m := range machines[1:] {
		if !alive(m) {
			t.Errorf("machine %s went with %s, which shared its root", m.Name, machines[0].Name)
		}
	}
	p.StopAll("finished")
	left, err := p.Wait(ctx)
	if err != nil || len(left) > 0 {
		t.Errorf("Wait: left %v, error %v", left, err)
	}
	for _, m := range machines {
		if cfg.Alive != nil && cfg.Alive(m) {
			t.Errorf("machine %s is said to be gone and is there", m.Name)
		}
	}
	groups, err := store.Groups(ctx, run)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if g.State != cluster.GroupDestroyed {
			t.Errorf("group %s is %s after Wait", g.ID, g.State)
		}
	}
}
