package ssh

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision"
)

// lockRetry is how often the lock file is tried while another process holds it.
// A lock cannot be waited for and given up at the same time, and the other holds
// it for no longer than one commit.
const lockRetry = 5 * time.Millisecond

// Claim waits for a slot on one of the hosts, the first of offers that has one,
// and commits it. Slots are counted from the machines in the store that are not
// gone, of every run and every process, and the count and the commit are one
// step under the lock file.
//
// A slot that this process lets go of is heard of through the journal. Those of
// other processes cannot be heard of: a store is no file that could be watched,
// and a watch on SQLite's log would wake for every line that any run writes. So
// the store is looked at again each Recheck, and only while a claim waits.
//
// Slots that a dead controller held stay taken until its run is cleaned up with
// `levin down`.
func (c *Cloud) Claim(ctx context.Context, offers []provision.Offer, commit func(provision.Offer) error) (provision.Offer, error) {
	if c.cfg.Journal == nil {
		return provision.Offer{}, errors.New("hosts cannot be claimed without a journal")
	}
	released := make(chan struct{}, 1)
	defer c.cfg.Journal.Listen(func(e cluster.Event) {
		if e.Type == cluster.EventMachineGone && e.Cloud == c.cfg.Name {
			select {
			case released <- struct{}{}:
			default:
			}
		}
	})()
	recheck := time.NewTicker(c.cfg.Recheck)
	defer recheck.Stop()
	for {
		offer, ok, err := c.tryClaim(ctx, offers, commit)
		if err != nil || ok {
			return offer, err
		}
		select {
		case <-released:
		case <-recheck.C:
		case <-ctx.Done():
			return provision.Offer{}, fmt.Errorf("waiting for a free host of %s: %w", c.cfg.Name, ctx.Err())
		}
	}
}

// tryClaim takes a slot if one is free now.
func (c *Cloud) tryClaim(ctx context.Context, offers []provision.Offer, commit func(provision.Offer) error) (provision.Offer, bool, error) {
	none := provision.Offer{}
	unlock, err := c.lock(ctx)
	if err != nil {
		return none, false, err
	}
	defer unlock()
	machines, err := c.cfg.Journal.Store().AllMachines(ctx)
	if err != nil {
		return none, false, fmt.Errorf("counting the free hosts of %s: %w", c.cfg.Name, err)
	}
	taken := map[string]int{}
	for _, m := range machines {
		if m.Cloud == c.cfg.Name {
			taken[m.Type]++
		}
	}
	for _, o := range offers {
		if taken[o.Type] >= c.hosts[o.Type].Slots {
			continue
		}
		if err := commit(o); err != nil {
			return none, false, err
		}
		return o, true, nil
	}
	return none, false, nil
}

// lock keeps out every other claim, of this process and of others.
func (c *Cloud) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting to claim a host of %s: %w", c.cfg.Name, ctx.Err())
	}
	defer func() {
		if err != nil {
			<-c.turn
		}
	}()
	if err := os.MkdirAll(filepath.Dir(c.cfg.LockFile), 0o700); err != nil {
		return nil, fmt.Errorf("claiming a host of %s: %w", c.cfg.Name, err)
	}
	file := flock.New(c.cfg.LockFile)
	if _, err := file.TryLockContext(ctx, lockRetry); err != nil {
		return nil, fmt.Errorf("locking the claims on %s: %w", c.cfg.Name, err)
	}
	return func() {
		file.Unlock()
		<-c.turn
	}, nil
}
