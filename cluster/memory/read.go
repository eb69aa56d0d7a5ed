package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/levinrun/levin/cluster"
)

// Run gives one run.
func (s *Store) Run(ctx context.Context, id string) (cluster.Run, error) {
	var out cluster.Run
	err := s.read(ctx, func() error {
		r := s.runs[id]
		if r == nil {
			return fmt.Errorf("run %q: %w", id, cluster.ErrNotFound)
		}
		out = r.row.Clone()
		return nil
	})
	return out, err
}

// Runs gives runs, newest first.
func (s *Store) Runs(ctx context.Context, f cluster.RunFilter) ([]cluster.Run, error) {
	var out []cluster.Run
	err := s.read(ctx, func() error {
		for _, r := range slices.Backward(s.order) {
			if f.Limit > 0 && len(out) == f.Limit {
				break
			}
			if f.App != "" && r.row.App != f.App || f.Active && !r.active() {
				continue
			}
			out = append(out, r.row.Clone())
		}
		return nil
	})
	return out, err
}

func (r *folder) active() bool {
	return !r.row.State.Final() || slices.ContainsFunc(r.machines, isUp)
}

func isUp(m *cluster.Machine) bool { return !m.State.Final() }

// Groups gives the groups of a run in order of creation.
func (s *Store) Groups(ctx context.Context, run string) ([]cluster.Group, error) {
	var out []cluster.Group
	err := s.readRun(ctx, run, func(r *folder) { out = clones(r.groups, cluster.Group.Clone) })
	return out, err
}

// Machines gives the machines of a run in order of creation.
func (s *Store) Machines(ctx context.Context, run string) ([]cluster.Machine, error) {
	var out []cluster.Machine
	err := s.readRun(ctx, run, func(r *folder) { out = clones(r.machines, cluster.Machine.Clone) })
	return out, err
}

// Cooldowns gives those that last beyond now, the one that ends first in front.
func (s *Store) Cooldowns(ctx context.Context, now time.Time) ([]cluster.Cooldown, error) {
	var out []cluster.Cooldown
	err := s.read(ctx, func() error {
		for _, c := range s.cooldowns {
			if c.Until.After(now) {
				out = append(out, c)
			}
		}
		return nil
	})
	slices.SortFunc(out, func(a, b cluster.Cooldown) int {
		return cmp.Or(
			a.Until.Compare(b.Until), cmp.Compare(a.Cloud, b.Cloud), cmp.Compare(a.Region, b.Region),
			cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.Type, b.Type), compareBools(a.Spot, b.Spot),
		)
	})
	return out, err
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// AllMachines gives the machines of every run that are not gone, in order of
// creation.
func (s *Store) AllMachines(ctx context.Context) ([]cluster.Machine, error) {
	var out []cluster.Machine
	err := s.read(ctx, func() error {
		for _, m := range s.made {
			if isUp(m) {
				out = append(out, m.Clone())
			}
		}
		return nil
	})
	return out, err
}

// Calls gives the calls of a run in order of creation.
func (s *Store) Calls(ctx context.Context, run string) ([]cluster.Call, error) {
	var out []cluster.Call
	err := s.readRun(ctx, run, func(r *folder) { out = clones(r.calls, cluster.Call.Clone) })
	return out, err
}

// Attempts gives the attempts of a run in order of creation.
func (s *Store) Attempts(ctx context.Context, run string) ([]cluster.Attempt, error) {
	var out []cluster.Attempt
	err := s.readRun(ctx, run, func(r *folder) { out = clones(r.attempts, cluster.Attempt.Clone) })
	return out, err
}

// Events gives at most limit events of a run with Seq > after.
func (s *Store) Events(ctx context.Context, run string, after int64, limit int) ([]cluster.Event, error) {
	var out []cluster.Event
	err := s.readRun(ctx, run, func(r *folder) {
		from := int(min(max(after, 0), int64(len(r.events))))
		to := len(r.events)
		if limit > 0 {
			to = min(to, from+limit)
		}
		for _, e := range r.events[from:to] {
			out = append(out, e.Clone())
		}
	})
	return out, err
}

// DeleteRun forgets a run that is over and whose machines are gone.
func (s *Store) DeleteRun(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	r := s.runs[id]
	if r == nil {
		return fmt.Errorf("run %q: %w", id, cluster.ErrNotFound)
	}
	if err := cluster.CheckDelete(r.row, clones(r.machines, cluster.Machine.Clone)); err != nil {
		return err
	}
	for _, g := range r.groups {
		delete(s.groups, g.ID)
	}
	for _, m := range r.machines {
		delete(s.machines, m.Name)
	}
	for _, c := range r.calls {
		delete(s.calls, c.ID)
	}
	s.made = slices.DeleteFunc(s.made, func(m *cluster.Machine) bool { return m.Run == id })
	s.order = slices.DeleteFunc(s.order, func(o *folder) bool { return o == r })
	delete(s.runs, id)
	return nil
}

// Close drops everything.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.runs, s.order, s.groups, s.machines, s.made, s.calls, s.cooldowns = nil, nil, nil, nil, nil, nil, nil
	return nil
}

func (s *Store) read(ctx context.Context, get func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return errClosed
	}
	return get()
}

// readRun calls get with the run, or not at all when there is none.
func (s *Store) readRun(ctx context.Context, id string, get func(*folder)) error {
	return s.read(ctx, func() error {
		if r := s.runs[id]; r != nil {
			get(r)
		}
		return nil
	})
}

func clones[V any](rows []*V, clone func(V) V) []V {
	var out []V
	for _, row := range rows {
		out = append(out, clone(*row))
	}
	return out
}
