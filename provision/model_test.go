package provision

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
)

// chaos makes things go wrong at random, by a seed.
type chaos struct {
	mu  sync.Mutex
	rng *rand.Rand
	off bool
}

// hits reports whether something happens that has odds of one in n.
func (c *chaos) hits(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.off && c.rng.IntN(n) == 0
}

func (c *chaos) pick(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.IntN(n)
}

// delay is how long something takes.
func (c *chaos) delay(ctx context.Context, most time.Duration) error {
	select {
	case <-time.After(time.Duration(c.pick(int(most)))):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *chaos) apply(ctx context.Context, root terraform.Root) applied {
	if err := c.delay(ctx, 30*time.Second); err != nil {
		return applied{err: err, half: c.hits(2), lost: c.hits(2)}
	}
	if c.hits(12) {
		return applied{err: errors.New("plugin did not respond"), half: c.hits(2), lost: c.hits(2)}
	}
	kinds := []cluster.FailureKind{
		cluster.Capacity, cluster.Quota, cluster.Price, cluster.Throttled, cluster.Transient, cluster.Auth, cluster.BadRequest, cluster.Provisioning,
	}
	scopes := []Scope{ScopeZone, ScopeRegion, ScopeAccount}
	failing := map[string]*cluster.Failure{}
	for name := range root.Machines {
		if c.hits(4) {
			failing[name] = refuseIn(kinds[c.pick(len(kinds))], scopes[c.pick(len(scopes))], "no")
		}
	}
	return applied{failing: failing, outputs: c.hits(2), half: c.hits(3), lost: c.hits(4)}
}

// fails is how an API call or a destroy goes.
func (c *chaos) fails(ctx context.Context, odds int) error {
	if err := c.delay(ctx, 5*time.Second); err != nil {
		return err
	}
	if c.hits(odds) {
		return errors.New("the API is down")
	}
	return nil
}

// Whatever is asked for in whatever order, and whatever fails meanwhile: once all
// is stopped, and what could not be cleaned up has been taken up again by another
// controller, every row is gone and no cloud has anything left.
//
// A seed that fails is run again with -run 'TestModel/seed_N$'.
func TestModel(t *testing.T) {
	seeds := 150
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { testModel(t, uint64(seed)) })
		})
	}
}

func testModel(t *testing.T, seed uint64) {
	c := &chaos{rng: rand.New(rand.NewPCG(seed, 1))}
	ends := &extender{fail: func(cluster.Machine) error {
		switch {
		case c.hits(4):
			return errors.New("no answer")
		case c.hits(8):
			return ErrExpiryFixed
		}
		return nil
	}}
	settings := func(cfg *Config) { cfg.TTL, cfg.Extend = time.Hour, ends.extend }
	b := newBench(t, settings)
	b.world.onApply = c.apply
	b.world.onStop = func(ctx context.Context, m cluster.Machine) error {
		row := b.machine(m.Name)
		if row.State != cluster.MachineStopping && row.State != cluster.MachineGone { // Terraform may be faster
			t.Errorf("the cloud is asked to end %s, which is %s", m.Name, row.State)
		}
		return c.fails(ctx, 4)
	}
	b.world.onDestroy = func(ctx context.Context, _ string) error { return c.fails(ctx, 4) }
	b.world.onFind = func(ctx context.Context, _ string) error { return c.fails(ctx, 6) }
	b.world.onRemove = func(ctx context.Context, _ []Found) error { return c.fails(ctx, 4) }
	b.strangers()

	offers := []Offer{
		placed(vmSmall, "east", "east-a", "spot"), placed(vmSmall, "east", "east-a"), placed(vmSmall, "east", "east-b"), placed(vmBig, "west", "west-a"),
		fastSmall, slowSmall, fastBig, slowBig,
	}
	controllers := 1 + c.pick(3)
	for n := range controllers {
		p := b.Provisioner
		var users sync.WaitGroup
		for i := range 1 + c.pick(12) {
			users.Go(func() {
				if c.hits(2) { // else together with others
					c.delay(t.Context(), time.Minute)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second<<c.pick(10))
				defer cancel()
				component := fmt.Sprint("c", n, "x", c.pick(3))
				m, err := p.Create(ctx, ask(component, i+1, offers[c.pick(len(offers)):]...))
				if err != nil {
					return
				}
				c.delay(t.Context(), 3*time.Hour)
				switch c.pick(5) {
				case 0:
					p.GiveUp(m.Name, "could not be reached", errors.New("no answer"))
				case 1: // the cloud takes it back
					b.world.mu.Lock()
					delete(b.world.alive, m.Name)
					b.world.mu.Unlock()
					p.Stop(m.Name, "lost")
				case 2: // nobody stops it
				default:
					p.Stop(m.Name, "finished")
				}
				if c.hits(4) {
					p.SetHostKey(m.Name, "ssh-ed25519 BBBB")
				}
			})
		}
		if n < controllers-1 { // this one dies under way
			time.Sleep(time.Duration(c.pick(int(2 * time.Hour))))
			b.Close()
			users.Wait()
			b.recoverBench()
			continue
		}
		if c.hits(2) {
			users.Wait()
		} else {
			time.Sleep(time.Duration(c.pick(int(time.Hour))))
		}
		b.StopAll("finished")
		users.Wait()
	}
	left, err := b.Wait(t.Context())
	if err == nil && len(left) > 0 || err != nil && cluster.KindOf(err) != cluster.Unclean {
		t.Errorf("Wait gave %v and %v", left, err)
	}
	if err == nil {
		b.strangersStay()
		b.nothingOfSweepers()
		return
	}
	// Somebody sees it and tries again, when nothing fails any more.
	c.mu.Lock()
	c.off = true
	c.mu.Unlock()
	b.recoverBench()
	b.StopAll("levin down")
	if left, err := b.Wait(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("Wait of the second controller gave %v and %v", left, err)
	}
	b.strangersStay()
	b.nothingOfSweepers()
}

// nothingOfSweepers is nothingLeft, but for what nobody can know of: a machine that
// was lost from Terraform's state in a cloud that cannot be searched.
func (b *bench) nothingOfSweepers() {
	b.t.Helper()
	b.world.mu.Lock()
	for name := range b.world.alive {
		if b.world.made[name].Cloud == "slow" {
			delete(b.world.alive, name)
		}
	}
	for id, f := range b.world.extra {
		if f.Cloud != "vm" {
			delete(b.world.extra, id)
		}
	}
	b.world.mu.Unlock()
	b.nothingLeft()
}
