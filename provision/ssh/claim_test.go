package ssh

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/sqlite"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
)

// process is one Levin process: its own connection to the store, its own
// journal, its own Cloud; the lock file and the store's file are shared.
type process struct {
	*Cloud
	journal *cluster.Journal
	store   cluster.Store
	run     string
}

// processes opens n of them over one store and one lock file.
func processes(t *testing.T, n int, recheck time.Duration, hosts ...configs.Host) []*process {
	t.Helper()
	base := config(t, nil, hosts...)
	var all []*process
	for i := range n {
		store, err := sqlite.Open(t.Context(), filepath.Join(base.Home, "levin.db"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		p := &process{store: store, journal: cluster.NewJournal(store), run: fmt.Sprintf("run-%d", i)}
		row := cluster.Run{ID: p.run, App: "app", State: cluster.RunPending, CreatedAt: time.Now()}
		if err := p.journal.Commit(t.Context(), cluster.Change{Run: &row}); err != nil {
			t.Fatal(err)
		}
		cfg := base
		cfg.Journal, cfg.Recheck = p.journal, recheck
		p.Cloud = mustNew(t, cfg)
		all = append(all, p)
	}
	return all
}

// claim claims a host and commits the row for it.
func (p *process) claim(ctx context.Context, name string) (cluster.Machine, error) {
	offers, err := p.Offers(ctx, configs.Resources{})
	if err != nil {
		return cluster.Machine{}, err
	}
	m := cluster.Machine{Name: p.run + "-" + name, Run: p.run, Component: name, Cloud: p.Name(), State: cluster.MachineRequested}
	_, err = p.Claim(ctx, offers, func(o provision.Offer) error {
		m.Type = o.Type
		return p.journal.Commit(ctx, cluster.Change{Machines: []cluster.Machine{m}})
	})
	return m, err
}

// release lets a claimed host go.
func (p *process) release(m cluster.Machine) error {
	for _, s := range []cluster.MachineState{cluster.MachineStopping, cluster.MachineGone} {
		m.State = s
		c := cluster.Change{Machines: []cluster.Machine{m}}
		if s == cluster.MachineGone {
			c.Events = []cluster.Event{{Run: p.run, Type: cluster.EventMachineGone, Machine: m.Name, Cloud: m.Cloud}}
		}
		if err := p.journal.Commit(context.Background(), c); err != nil {
			return err
		}
	}
	return nil
}

// Several processes with many claims each never take a slot twice, and all get
// their turn.
func TestClaimNeverTakesTwice(t *testing.T) {
	a, b := host("a"), host("b")
	a.Slots, b.Slots = 2, 1
	slots := map[string]int{"a": 2, "b": 1}
	ps := processes(t, 3, 5*time.Millisecond, a, b)

	var mu sync.Mutex
	used := map[string]int{}
	var claims sync.WaitGroup
	for _, p := range ps {
		for i := range 8 {
			claims.Go(func() {
				m, err := p.claim(t.Context(), fmt.Sprint("c", i))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if used[m.Type]++; used[m.Type] > slots[m.Type] {
					t.Errorf("host %s is used %d times at once", m.Type, used[m.Type])
				}
				mu.Unlock()
				runtime.Gosched()
				mu.Lock()
				used[m.Type]--
				mu.Unlock()
				if err := p.release(m); err != nil {
					t.Error(err)
				}
			})
		}
	}
	claims.Wait()
}

// While a claim is counted and committed, no other process can claim.
func TestClaimHoldsTheLock(t *testing.T) {
	p := processes(t, 1, time.Hour, host("a"))[0]
	if err := os.MkdirAll(filepath.Dir(p.cfg.LockFile), 0o700); err != nil {
		t.Fatal(err)
	}
	free := func() bool {
		t.Helper()
		lock := flock.New(p.cfg.LockFile)
		ok, err := lock.TryLock()
		if err != nil {
			t.Fatal(err)
		}
		lock.Unlock()
		return ok
	}
	offers, err := p.Offers(t.Context(), configs.Resources{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Claim(t.Context(), offers, func(provision.Offer) error {
		if free() {
			t.Error("the lock is free during the commit")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !free() {
		t.Error("the lock is held after the claim")
	}
}

// A slot that the same process lets go of is taken without a look at the clock.
func TestClaimHearsOfARelease(t *testing.T) {
	p := processes(t, 1, time.Hour, host("a"))[0]
	m, err := p.claim(t.Context(), "first")
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error)
	go func() {
		_, err := p.claim(t.Context(), "second")
		second <- err
	}()
	if err := p.release(m); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
}

// A slot that another process lets go of is found.
func TestClaimSeesOtherProcesses(t *testing.T) {
	ps := processes(t, 2, time.Millisecond, host("a"))
	m, err := ps[0].claim(t.Context(), "first")
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error)
	go func() {
		_, err := ps[1].claim(t.Context(), "second")
		second <- err
	}()
	if err := ps[0].release(m); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
}

func TestClaimGivesUp(t *testing.T) {
	p := processes(t, 1, time.Hour, host("a"))[0]
	if _, err := p.claim(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() {
		_, err := p.claim(ctx, "second")
		result <- err
	}()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("Claim gave %v", err)
	}
	// The lock is free again.
	unlock, err := p.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestClaimEndsWithCommitsError(t *testing.T) {
	p := processes(t, 1, time.Hour, host("a"))[0]
	offers, err := p.Offers(t.Context(), configs.Resources{})
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	if _, err := p.Claim(t.Context(), offers, func(provision.Offer) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("Claim gave %v", err)
	}
	if _, err := p.claim(t.Context(), "next"); err != nil {
		t.Errorf("the host is not free after a claim that failed: %v", err)
	}
}
