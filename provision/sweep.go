package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
)

// bookDelay is how long a cloud's books may lag behind: EC2's references call
// them eventually consistent, and an instance can be missing from them for a
// moment after it was created.
const bookDelay = 3 * time.Second

// sweepResult is what the last sweep could not make good. Provisioner.mu guards
// it.
type sweepResult struct {
	strays []cluster.Machine // they are there, no row of theirs says so, and could not be removed
	errs   []error
}

// sweep is the search of one cloud for what this run has left there.
type sweep struct {
	name    string
	sweeper Sweeper
	wait    time.Duration // for its books
	risky   bool          // machines may be there that nobody has confirmed gone
	unsure  []*machine    // asked to stop, and not confirmed gone

	found []Found // what is still there
	err   error
	lost  error      // why found is not all there may be
	gone  []*machine // of unsure: those that the cloud has confirmed gone
}

// sweepAll searches the clouds that this run had machines in, one search each,
// and removes what it finds. What a search does not show is gone.
func (p *Provisioner) sweepAll(ctx context.Context) {
	p.mu.Lock()
	sweeps := p.sweeps()
	p.mu.Unlock()
	var tasks sync.WaitGroup
	for _, s := range sweeps {
		tasks.Go(func() { p.search(ctx, s) })
	}
	tasks.Wait()

	p.mu.Lock()
	defer p.mu.Unlock()
	p.swept = sweepResult{}
	for _, s := range sweeps {
		p.take(s)
	}
	// A group that lost its state is over once the cloud itself has shown that none
	// of its machines is left.
	for _, g := range p.groups {
		if errors.Is(g.failed, errStateLost) && len(g.leaving()) == 0 {
			row := g.row
			row.State, row.Error = cluster.GroupDestroyed, ""
			if p.gone(&row) {
				g.row, g.failed = row, nil
			}
		}
	}
}

// sweeps gives the searches to be made, in the order of the clouds' names. mu is
// held.
func (p *Provisioner) sweeps() []*sweep {
	byCloud := map[string]*sweep{}
	for _, m := range p.machines {
		sweeper, ok := p.clouds[m.row.Cloud].(Sweeper)
		if !ok || m.row.CreatingAt.IsZero() { // Terraform was never asked for it
			continue
		}
		s := byCloud[m.row.Cloud]
		if s == nil {
			s = &sweep{name: m.row.Cloud, sweeper: sweeper}
			byCloud[m.row.Cloud] = s
			cutAt, cut := p.cut[s.name]
			s.risky = cut
			if _, books := p.clouds[s.name].(Inspector); books && cut {
				s.wait = bookDelay - p.cfg.Now().Sub(cutAt)
			}
		}
		s.risky = s.risky || m.row.State != cluster.MachineGone
		if m.row.State == cluster.MachineStopping {
			s.unsure = append(s.unsure, m)
		}
	}
	var all []*sweep
	for _, name := range slices.Sorted(maps.Keys(byCloud)) {
		all = append(all, byCloud[name])
	}
	return all
}

// search finds what is left in one cloud and removes it.
func (p *Provisioner) search(ctx context.Context, s *sweep) {
	if s.wait > 0 {
		pause(ctx, s.wait, nil)
	}
	s.found, s.lost = p.find(ctx, s.sweeper)
	shown := foundMachines(s.found)
	if len(s.found) > 0 {
		p.remove(ctx, s)
	}
	if s.lost != nil {
		return // what it did not show may be where it could not look
	}
	left := foundMachines(s.found)
	var absent []*machine
	for _, m := range s.unsure {
		name := m.row.Name // does not change
		if _, ok := left[name]; ok {
			continue
		}
		if _, ok := shown[name]; ok {
			s.gone = append(s.gone, m) // removed just now
		} else {
			absent = append(absent, m)
		}
	}
	s.gone = append(s.gone, p.confirmAbsent(ctx, s, absent)...)
}

// remove removes what a search has found, and leaves in it what is still there.
func (p *Provisioner) remove(ctx context.Context, s *sweep) {
	p.mu.Lock()
	e := p.event("")
	e.Cloud = s.name
	e.Message = fmt.Sprintf("%s still has what Terraform did not remove, and it is removed now: %s", s.name, listing(s.found))
	p.warn(e, nil)
	p.mu.Unlock()
	if s.err = s.sweeper.Remove(ctx, s.found); s.err == nil {
		s.found = nil
		return
	}
	// Some of it may be gone all the same.
	if again, err := p.find(ctx, s.sweeper); err == nil {
		s.found = again
	}
}

// confirmParallel is how many machines a cloud is asked about at the same time.
const confirmParallel = 16

// confirmAbsent gives those of the machines that a search did not show which are
// gone. A cloud that can be asked about a single machine is: one in a region that
// has been taken out of the settings since is not searched for, and is there.
func (p *Provisioner) confirmAbsent(ctx context.Context, s *sweep, absent []*machine) []*machine {
	inspector, ok := s.sweeper.(Inspector)
	if !ok {
		return absent
	}
	is := make([]bool, len(absent))
	var tasks sync.WaitGroup
	turns := make(chan struct{}, confirmParallel)
	for i, m := range absent {
		p.mu.Lock()
		row := m.row.Clone()
		p.mu.Unlock()
		turns <- struct{}{}
		tasks.Go(func() {
			defer func() { <-turns }()
			status, _, err := inspector.Status(ctx, row)
			is[i] = err == nil && status == StatusGone
		})
	}
	tasks.Wait()
	var gone []*machine
	for i, m := range absent {
		if is[i] {
			gone = append(gone, m)
		}
	}
	return gone
}

// foundMachines gives the machines among what was found, by name.
func foundMachines(found []Found) map[string]Found {
	machines := map[string]Found{}
	for _, f := range found {
		if f.Kind == "machine" {
			machines[f.Name] = f
		}
	}
	return machines
}

// find searches a cloud for this run. What is another run's is never touched,
// whatever the cloud answers.
func (p *Provisioner) find(ctx context.Context, sweeper Sweeper) ([]Found, error) {
	found, err := sweeper.Find(ctx, p.cfg.Run)
	return slices.DeleteFunc(found, func(f Found) bool {
		return f.Run != p.cfg.Run && !(f.Run == "" && belongs(f.Name, p.cfg.Run))
	}), err
}

// belongs reports whether a name is that of a machine of a run.
func belongs(machine, run string) bool { return strings.HasPrefix(machine, run+"-") }

// take writes down what a search has shown. mu is held.
func (p *Provisioner) take(s *sweep) {
	p.gone(nil, s.gone...)
	there := foundMachines(s.found)
	for _, name := range slices.Sorted(maps.Keys(there)) {
		m := p.machines[name]
		switch {
		case m == nil:
			p.swept.strays = append(p.swept.strays, there[name].machine(p.cfg.Run))
		case m.row.State == cluster.MachineGone:
			p.swept.strays = append(p.swept.strays, m.row.Clone())
		}
	}
	if s.err != nil {
		p.swept.errs = append(p.swept.errs, fmt.Errorf("%s: %s: %w", s.name, listing(s.found), s.err))
	}
	switch {
	case s.lost == nil:
	case s.risky:
		p.swept.errs = append(p.swept.errs, fmt.Errorf("%s could not be searched for what is left: %w", s.name, s.lost))
	default:
		e := p.event("")
		e.Cloud = s.name
		e.Message = fmt.Sprintf("%s could not be searched for things of this run; all that is known of is gone", s.name)
		p.warn(e, s.lost)
	}
}

// machine gives what is known of a machine that has no row.
func (f Found) machine(run string) cluster.Machine {
	return cluster.Machine{
		Name: f.Name, Run: run, Component: f.Component, State: cluster.MachineStopping,
		Cloud: f.Cloud, Region: f.Region, Zone: f.Zone, Type: f.Type, Spot: f.Spot, PricePerHour: f.PricePerHour,
		CloudID: f.ID, CreatingAt: f.CreatedAt, ExpiresAt: f.ExpiresAt, Error: "it is in the cloud and not in the store",
	}
}

// String names a thing for people: "machine app-abc123-train-1 (i-0abc, us-east-1)".
func (f Found) String() string {
	s := f.Kind + " " + f.ID
	var more []string
	if f.Name != "" && f.Name != f.ID {
		s = f.Kind + " " + f.Name
		more = append(more, f.ID)
	}
	if f.Region != "" {
		more = append(more, f.Region)
	}
	if len(more) > 0 {
		s += " (" + strings.Join(more, ", ") + ")"
	}
	return s
}

// listing names things, the first few of many.
func listing(found []Found) string {
	const most = 20
	var names []string
	for i, f := range found {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(found)-most))
			break
		}
		names = append(names, f.String())
	}
	return strings.Join(names, ", ")
}
