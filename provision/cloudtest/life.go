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

// ttl is how long the suite's machines may live, in the cloud's own seconds.
const ttl = time.Hour

// bench is a Provisioner for one run, and what a test does with it.
type bench struct {
	*provision.Provisioner
	cfg     Config
	run     string
	keyFile string
	gone    chan string
}

// newStore makes a store and the journal over it.
func newStore() (cluster.Store, *cluster.Journal) {
	store := memory.New()
	return store, cluster.NewJournal(store)
}

func newBench(t *testing.T, cfg Config, run string, journal *cluster.Journal, cloud provision.Cloud) *bench {
	t.Helper()
	row := cluster.Run{ID: run, App: "cloudtest", State: cluster.RunPending, CreatedAt: time.Now()}
	if err := journal.Commit(t.Context(), cluster.Change{Run: &row}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b := &bench{cfg: cfg, run: run, keyFile: filepath.Join(dir, "key"), gone: make(chan string, 100)}
	t.Cleanup(journal.Listen(func(e cluster.Event) {
		if e.Type == cluster.EventMachineGone && e.Run == run {
			b.gone <- e.Machine
		}
	}))
	if err := os.WriteFile(b.keyFile, []byte("not read by this test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	b.Provisioner, err = provision.New(provision.Config{
		Run: run, Dir: dir, KeyFile: b.keyFile, PubKey: cfg.PubKey,
		Journal: journal, Runner: cfg.Runner, Clouds: []provision.Cloud{cloud},
		TTL: ttl, Unreached: ttl / 2,
		Ingress: func(context.Context) ([]string, error) { return []string{"127.0.0.1/32"}, nil },
		// Long enough for the requests to share a root on a busy machine.
		Window: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// create creates n machines at once. A test that gets less than that is over.
func (b *bench) create(ctx context.Context, t *testing.T, n int, cloud provision.Cloud) []cluster.Machine {
	t.Helper()
	offers, err := cloud.Offers(ctx, configs.Resources{})
	if err != nil || len(offers) == 0 {
		t.Fatalf("Offers: %v, %v", offers, err)
	}
	machines := make([]cluster.Machine, n)
	var creating sync.WaitGroup
	for i := range machines {
		creating.Go(func() {
			m, err := b.Create(ctx, provision.Request{
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
		b.StopAll("the test failed")
		b.Wait(ctx)
		t.FailNow()
	}
	return machines
}

// finish ends everything and checks that nothing is left.
func (b *bench) finish(ctx context.Context, t *testing.T, machines []cluster.Machine) {
	t.Helper()
	b.StopAll("finished")
	left, err := b.Wait(ctx)
	if err != nil || len(left) > 0 {
		t.Errorf("Wait: left %v, error %v", left, err)
	}
	for _, m := range machines {
		if b.cfg.Alive != nil && b.cfg.Alive(m) {
			t.Errorf("machine %s is said to be gone and is there", m.Name)
		}
	}
}

// alive says whether a machine is there, as far as that can be found out.
func (b *bench) alive(m cluster.Machine) bool { return b.cfg.Alive == nil || b.cfg.Alive(m) }

// testLife creates machines through a real Provisioner, ends them one by one,
// and checks that each stayed until it was asked to go and that nothing is left.
func testLife(t *testing.T, cfg Config, terraformOnly bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	store, journal := newStore()
	cloud := open(t, cfg, journal)
	if terraformOnly {
		cloud = withoutFastPath(cloud)
	}
	b := newBench(t, cfg, "cloudtest-abc123", journal, cloud)
	machines := b.create(ctx, t, max(cfg.Machines, 2), cloud)

	for _, m := range machines {
		if m.State != cluster.MachineReady || m.Address == "" || m.Port == 0 || m.User == "" {
			t.Errorf("machine %s is not ready to be reached: %+v", m.Name, m)
		}
		target, err := cloud.Target(m, b.keyFile)
		if err != nil {
			t.Errorf("Target(%s): %v", m.Name, err)
		}
		if target.Address == "" || target.Port == 0 || target.User == "" {
			t.Errorf("Target(%s) lacks address, port or user: %+v", m.Name, target)
		}
		if len(target.HostKeys) == 0 && len(target.KnownHosts) == 0 {
			t.Errorf("Target(%s) pins no host key: %+v", m.Name, target)
		}
		if !b.alive(m) {
			t.Errorf("machine %s is ready and not there", m.Name)
		}
	}

	testStatus(ctx, t, cloud, machines, provision.StatusRunning)
	testFind(ctx, t, cloud, machines)
	testExtend(ctx, t, cloud, machines[0])

	b.Stop(machines[0].Name, "finished")
	select {
	case name := <-b.gone:
		if name != machines[0].Name {
			t.Errorf("%s went, and not %s", name, machines[0].Name)
		}
	case <-ctx.Done():
		t.Fatalf("machine %s is not gone: %v", machines[0].Name, ctx.Err())
	}
	for _, m := range machines[1:] {
		if !b.alive(m) {
			t.Errorf("machine %s went with %s, which shared its root", m.Name, machines[0].Name)
		}
	}
	testStatus(ctx, t, cloud, machines[:1], provision.StatusGone)
	testStatus(ctx, t, cloud, machines[1:], provision.StatusRunning)
	testFind(ctx, t, cloud, machines[1:])
	b.finish(ctx, t, machines)
	testFind(ctx, t, cloud, nil)
	groups, err := store.Groups(ctx, b.run)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if g.State != cluster.GroupDestroyed {
			t.Errorf("group %s is %s after Wait", g.ID, g.State)
		}
	}
}
