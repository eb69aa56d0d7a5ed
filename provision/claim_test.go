package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/levinrun/levin/cluster"
)

// rack is a cloud of which each offer exists a number of times.
type rack struct {
	*scripted
	store cluster.Store
	slots int
	turn  sync.Mutex // held by the claim that may commit

	mu    sync.Mutex
	freed chan struct{} // closed and replaced when a machine goes
}

var _ Claimer = (*rack)(nil)

func newRack(b *bench, slots int) *rack {
	r := &rack{
		scripted: &scripted{"rack", b.world, []Offer{offer("rack", "h1", 0), offer("rack", "h2", 0)}},
		store:    b.store, slots: slots, freed: make(chan struct{}),
	}
	b.journal.Listen(func(e cluster.Event) {
		if e.Type == cluster.EventMachineGone {
			r.mu.Lock()
			defer r.mu.Unlock()
			close(r.freed)
			r.freed = make(chan struct{})
		}
	})
	return r
}

func (r *rack) Claim(ctx context.Context, offers []Offer, commit func(Offer) error) (Offer, error) {
	for {
		r.mu.Lock()
		freed := r.freed
		r.mu.Unlock()
		o, ok, err := r.try(offers, commit)
		if err != nil || ok {
			return o, err
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return Offer{}, ctx.Err()
		}
	}
}

func (r *rack) try(offers []Offer, commit func(Offer) error) (Offer, bool, error) {
	r.turn.Lock()
	defer r.turn.Unlock()
	taken := map[string]int{}
	machines, err := r.store.AllMachines(context.Background())
	if err != nil {
		return Offer{}, false, err
	}
	for _, m := range machines {
		if m.Cloud == "rack" {
			taken[m.Type]++
		}
	}
	for _, o := range offers {
		if taken[o.Type] < r.slots {
			return o, true, commit(o)
		}
	}
	return Offer{}, false, nil
}

func newRackBench(t *testing.T, slots int) *bench {
	b := newBench(t, nil)
	b.Close()
	r := newRack(b, slots)
	p, err := New(b.config(func(c *Config) { c.Clouds = append(c.Clouds, r) }))
	if err != nil {
		t.Fatal(err)
	}
	b.use(p)
	return b
}

var rackOffers = []Offer{offer("rack", "h1", 0), offer("rack", "h2", 0)}

// More requests than slots: they take turns, and no slot is taken twice.
func TestClaimsTakeTurns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newRackBench(t, 2)
		results := make(chan error)
		const n = 20
		for i := range n {
			go func() {
				m, err := b.Create(t.Context(), ask("a", i+1, rackOffers...))
				if err == nil {
					time.Sleep(time.Minute)
					b.Stop(m.Name, "finished")
				}
				results <- err
			}()
		}
		for range n {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		b.finish()
		type change struct {
			at  time.Time
			add int
		}
		changes := map[string][]change{}
		for _, m := range b.machines() {
			changes[m.Type] = append(changes[m.Type], change{m.RequestedAt, 0}, change{m.GoneAt, -1}, change{m.CreatingAt, 1})
		}
		for host, list := range changes {
			slices.SortStableFunc(list, func(a, b change) int {
				if c := a.at.Compare(b.at); c != 0 {
					return c
				}
				return a.add - b.add
			})
			used := 0
			for _, c := range list {
				if used += c.add; used > 2 {
					t.Errorf("host %s is used %d times at once", host, used)
				}
			}
		}
		if len(changes) != 2 {
			t.Errorf("%d hosts were used, want both", len(changes))
		}
	})
}

// Claims are had one after the other; they share a root all the same.
func TestClaimsShareAGroup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newRackBench(t, 10)
		const n, apart = 20, 20 * time.Millisecond
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * apart)
				if _, err := b.Create(t.Context(), ask("a", i+1, rackOffers...)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if groups := b.groups(); len(groups) != 1 {
			t.Errorf("%d groups, want 1", len(groups))
		}
		b.finish()
	})
}

func TestClaimGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newRackBench(t, 1)
		b.mustCreate(2, "a", rackOffers...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := b.Create(ctx, ask("b", 1, rackOffers...)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Create gave %v", err)
		}
		if m := b.mustCreate(1, "b", fastSmall)[0]; m.Name != "app-abc123-b-1" {
			t.Errorf("the next try is called %s, though the first was never anything", m.Name)
		}
		result := make(chan error, 1)
		go func() {
			_, err := b.Create(t.Context(), ask("c", 1, rackOffers...))
			result <- err
		}()
		synctest.Wait()
		b.StopAll("interrupted")
		if err := <-result; cluster.KindOf(err) != cluster.Interrupted {
			t.Errorf("Create gave %v", err)
		}
		b.finish()
		if got := len(b.machines()); got != 3 {
			t.Errorf("the store has %d machines; one that was never claimed has no row", got)
		}
	})
}

// When all hosts are taken and the choice has another cloud, that one is taken.
func TestBusyHostsGiveWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newRackBench(t, 1)
		b.mustCreate(2, "a", rackOffers...)
		m := b.mustCreate(1, "b", append(slices.Clone(rackOffers), fastSmall)...)[0]
		if m.Cloud != "fast" {
			t.Errorf("the machine is on %s", m.Cloud)
		}
		_, err := b.Create(t.Context(), ask("c", 1, append(slices.Clone(rackOffers), offer("mars", "rover", 1))...))
		if !strings.Contains(fmt.Sprint(err), "is taken") || !strings.Contains(fmt.Sprint(err), "mars") {
			t.Errorf("the error is %v", err)
		}
		b.finish()
	})
}

// A claim whose request is cancelled before Terraform is asked is free at once.
func TestClaimCancelledInWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newRackBench(t, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := b.Create(ctx, ask("a", 1, rackOffers...)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Create gave %v", err)
		}
		if m := b.machines()[0]; m.State != cluster.MachineGone {
			t.Errorf("the claim is %s", m.State)
		}
		b.finish()
		if got := b.world.calls; len(got) > 0 {
			t.Errorf("Terraform was asked: %v", got)
		}
	})
}
