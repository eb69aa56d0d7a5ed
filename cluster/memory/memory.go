// Package memory keeps a cluster.Store in the memory of this process: for tests,
// and for coordinators whose state need not outlive them.
package memory

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
)

// Store is a cluster.Store that is gone when the process is.
type Store struct {
	mu     sync.RWMutex
	closed bool

	runs     map[string]*folder
	order    []*folder // in order of creation
	groups   map[string]*cluster.Group
	machines map[string]*cluster.Machine
	made     []*cluster.Machine // every machine, in order of creation
	calls    map[string]*cluster.Call

	cooldowns map[cooldownKey]cluster.Cooldown
}

type cooldownKey struct {
	cloud, region, zone, typ string
	spot                     bool
}

var _ cluster.Store = (*Store)(nil)

// folder is a run with everything in it, each list in order of creation.
type folder struct {
	row      cluster.Run
	groups   []*cluster.Group
	machines []*cluster.Machine
	calls    []*cluster.Call
	attempts []*cluster.Attempt
	attempt  map[attemptKey]*cluster.Attempt
	events   []cluster.Event // Seq is the index plus one
}

type attemptKey struct {
	call   string
	number int
}

var errClosed = errors.New("the store is closed")

// New makes an empty store.
func New() *Store {
	return &Store{
		runs:     map[string]*folder{},
		groups:   map[string]*cluster.Group{},
		machines: map[string]*cluster.Machine{},
		calls:    map[string]*cluster.Call{},

		cooldowns: map[cooldownKey]cluster.Cooldown{},
	}
}

// Commit writes a change, all or nothing.
func (s *Store) Commit(ctx context.Context, c cluster.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if err := cluster.Check(c, s.find); err != nil {
		return err
	}
	if c.Run != nil {
		s.putRun(*c.Run)
	}
	for _, g := range c.Groups {
		r := s.runs[g.Run]
		put(s.groups, &r.groups, g.ID, g.Clone())
	}
	for _, m := range c.Machines {
		r := s.runs[m.Run]
		if added := put(s.machines, &r.machines, m.Name, m.Clone()); added != nil {
			s.made = append(s.made, added)
		}
	}
	for _, call := range c.Calls {
		r := s.runs[call.Run]
		put(s.calls, &r.calls, call.ID, call.Clone())
	}
	if len(c.Cooldowns) > 0 {
		now := time.Now()
		maps.DeleteFunc(s.cooldowns, func(_ cooldownKey, old cluster.Cooldown) bool { return !old.Until.After(now) })
	}
	for _, cd := range c.Cooldowns {
		s.cooldowns[cooldownKey{cd.Cloud, cd.Region, cd.Zone, cd.Type, cd.Spot}] = cd.Clone()
	}
	for _, a := range c.Attempts {
		r := s.runs[a.Run]
		put(r.attempt, &r.attempts, attemptKey{a.Call, a.Number}, a.Clone())
	}
	for i := range c.Events {
		r := s.runs[c.Events[i].Run]
		c.Events[i].Seq = int64(len(r.events)) + 1
		r.events = append(r.events, c.Events[i].Clone())
	}
	return nil
}

func (s *Store) putRun(row cluster.Run) {
	row = row.Clone()
	if old := s.runs[row.ID]; old != nil {
		old.row = row
		return
	}
	r := &folder{row: row, attempt: map[attemptKey]*cluster.Attempt{}}
	s.runs[row.ID] = r
	s.order = append(s.order, r)
}

// put replaces the row called key, or adds it to the end of its run's list and
// gives the row that it added.
func put[K comparable, V any](index map[K]*V, list *[]*V, key K, row V) (added *V) {
	if old := index[key]; old != nil {
		*old = row
		return nil
	}
	index[key] = &row
	*list = append(*list, &row)
	return &row
}

// find answers cluster.Check.
func (s *Store) find(kind cluster.Kind, id string) (cluster.Held, bool, error) {
	switch kind {
	case cluster.KindRun:
		if r := s.runs[id]; r != nil {
			return cluster.Held{Run: id, State: string(r.row.State)}, true, nil
		}
	case cluster.KindGroup:
		if g := s.groups[id]; g != nil {
			return cluster.Held{Run: g.Run, State: string(g.State)}, true, nil
		}
	case cluster.KindMachine:
		if m := s.machines[id]; m != nil {
			return cluster.Held{Run: m.Run, State: string(m.State)}, true, nil
		}
	case cluster.KindCall:
		if c := s.calls[id]; c != nil {
			return cluster.Held{Run: c.Run, State: string(c.State)}, true, nil
		}
	}
	return cluster.Held{}, false, nil
}
