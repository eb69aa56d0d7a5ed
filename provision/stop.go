package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/levinrun/levin/cluster"
)

// fastTimeout bounds one call of a cloud's fast path. Terraform ends what it did
// not.
const fastTimeout = 2 * time.Minute

// Stop asks for a machine to be ended and gives the reason for it. It returns
// once the intent (state stopping, event machine.stop_requested) is committed
// and the cloud's fast path has begun; the rest goes on in the background:
//
//   - The machine is gone (event machine.gone, with its cost) when the fast path
//     has confirmed it, or Terraform has removed it.
//   - Without a fast path, or when it fails, the group is applied without the
//     machine.
//   - Once its last machine has been asked to stop, the group is destroyed, fast
//     path or not.
//
// A machine that is being created is ended when Terraform is through with it;
// Terraform is interrupted if nobody wants any machine of its group. Stopping
// twice is one stop; a name that is not this run's does nothing.
func (p *Provisioner) Stop(name, reason string) {
	p.stopNamed(name, stopOrder{reason: reason})
}

// GiveUp is Stop for a machine that was created and is of no use: one that never
// answered. For a few minutes every run tries its offer after the others, unless
// it was the caller who lost patience (an err that is context.Canceled).
func (p *Provisioner) GiveUp(name, reason string, err error) {
	o := stopOrder{reason: reason, err: err, doubt: !errors.Is(err, context.Canceled)}
	p.stopNamed(name, o)
}

// stopNamed stops one machine. Whoever gets to it first deals with all that were
// asked for meanwhile, so that machines whose work ends together do not wait for
// a commit each.
func (p *Provisioner) stopNamed(name string, o stopOrder) {
	p.asks.Lock()
	p.asked = append(p.asked, stopping{name: name, order: o})
	p.asks.Unlock()

	p.mu.Lock()
	defer p.mu.Unlock()
	p.asks.Lock()
	asked := p.asked
	p.asked = nil
	p.asks.Unlock()
	var known []stopping
	for _, s := range asked {
		if s.machine = p.machines[s.name]; s.machine != nil {
			known = append(known, s)
		}
	}
	p.stopEach(known)
	for _, s := range known {
		p.finish(s.machine)
		if s.machine.group != nil {
			s.machine.group.start()
		}
	}
}

// StopAll is Stop for every machine, and lets no request create another. Groups
// that have no machine left are destroyed too. On a Provisioner of Recover it
// takes up again what the dead controller had begun.
func (p *Provisioner) StopAll(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse()
	all := p.sorted()
	p.stop(stopOrder{reason: reason}, all...)
	for _, m := range all {
		p.finish(m)
	}
	for _, g := range p.groups {
		g.start()
	}
}

// sorted gives all machines in the order of their names. mu is held.
func (p *Provisioner) sorted() []*machine {
	var all []*machine
	for _, name := range slices.Sorted(maps.Keys(p.machines)) {
		all = append(all, p.machines[name])
	}
	return all
}

// stopOrder says why machines are to stop.
type stopOrder struct {
	reason   string
	err      error // why it could not be created or used, when that is why
	innocent bool  // see outcome
	doubt    bool  // it was created, and its offer is not to be trusted for a while
}

// stopping is a machine that is to stop, and why.
type stopping struct {
	name    string
	machine *machine
	order   stopOrder
}

// stop is stopEach for machines that stop for one reason. mu is held.
func (p *Provisioner) stop(o stopOrder, machines ...*machine) {
	all := make([]stopping, len(machines))
	for i, m := range machines {
		all[i] = stopping{machine: m, order: o}
	}
	p.stopEach(all)
}

// stopEach commits that machines are to stop, and what that says about their
// offers, answers those who wait for them, and begins to end them. Machines that
// are stopping already are left out. mu is held.
func (p *Provisioner) stopEach(all []stopping) {
	now := p.cfg.Now()
	var c cluster.Change
	var stopped []stopping
	seen := map[*machine]bool{}
	for _, s := range all {
		m, o := s.machine, s.order
		switch {
		case m.row.State == cluster.MachineStopping, m.row.State == cluster.MachineGone, seen[m]:
			continue
		case !m.stored:
			// Nothing was written down, so nothing was created.
			m.row.State = cluster.MachineGone
			delete(p.machines, m.row.Name)
			if m.group != nil {
				m.group.drop(m)
			}
			m.reply(o.answer(m))
			continue
		}
		seen[m] = true
		row := m.row
		row.State, row.StopRequestedAt = cluster.MachineStopping, now
		e := p.machineEvent(cluster.EventMachineStopRequested, row)
		e.Message = o.reason
		if o.err != nil {
			row.Error = o.err.Error()
			e.Error, e.Kind = row.Error, string(cluster.KindOf(o.err))
		}
		c.Machines = append(c.Machines, row)
		c.Events = append(c.Events, e)
		for _, cd := range o.cooldowns(m, now) {
			if !slices.Contains(c.Cooldowns, cd) { // a hundred machines of a group say the same
				c.Cooldowns = append(c.Cooldowns, cd)
			}
		}
		stopped = append(stopped, s)
	}
	if len(stopped) > 0 {
		p.record(c)
	}
	for i, s := range stopped {
		s.machine.row = c.Machines[i]
		s.machine.reply(s.order.answer(s.machine))
		p.finish(s.machine)
	}
	for _, s := range all {
		if g := s.machine.group; g != nil {
			poke(g.wake)
			if g.interrupt != nil && len(g.live()) == 0 {
				g.interrupt()
			}
		}
	}
	p.notify()
}

// cooldowns are what the end of a machine teaches about its offer.
func (o stopOrder) cooldowns(m *machine, now time.Time) []cluster.Cooldown {
	switch {
	case o.innocent, m.offer.Cloud == "":
		return nil
	case o.doubt:
		return []cluster.Cooldown{{
			Cloud: m.offer.Cloud, Region: m.offer.Region, Zone: m.offer.Zone, Type: m.offer.Type, Spot: m.offer.Spot,
			Kind: cluster.Transient, Words: "a machine that was created could not be reached", Until: now.Add(cooldownDoubt),
		}}
	}
	return cooldowns(m.offer, o.err, now)
}

// answer is what Create hears of a machine that stops before it was ready.
func (o stopOrder) answer(m *machine) outcome {
	if o.err != nil {
		return outcome{err: o.err, innocent: o.innocent, machine: m.row.Name}
	}
	return outcome{err: &cluster.Failure{
		Kind: cluster.Interrupted,
		What: fmt.Sprintf("machine %s was stopped before it was ready (%s)", m.row.Name, o.reason),
	}}
}

// reply answers Create, once. mu is held.
func (m *machine) reply(out outcome) {
	if m.answer != nil && !m.answered {
		m.answered = true
		m.answer <- out
	}
}

// finish begins the fast path for a machine that is stopping, once. One that
// Terraform was never asked for is gone at once. One that Terraform may be
// creating at this moment is left until Terraform is through: ending it now could
// miss it, and could fail the others of its group. mu is held.
func (p *Provisioner) finish(m *machine) {
	creating := m.applying && m.row.ReadyAt.IsZero()
	if m.row.State != cluster.MachineStopping || m.fastAsked || creating {
		return
	}
	m.fastAsked = true
	if m.row.CreatingAt.IsZero() {
		m.stuck = !p.gone(nil, m) // Terraform was never asked for it
		return
	}
	stopper, ok := p.clouds[m.row.Cloud].(Stopper)
	if !ok {
		if m.group == nil {
			m.stuck = true // only Recover makes one: there is no root that holds it
		}
		return
	}
	p.askToEnd(m, stopper)
}

// askToEnd begins the fast path for a machine. mu is held.
func (p *Provisioner) askToEnd(m *machine, stopper Stopper) {
	m.fast = true
	row := m.row.Clone()
	p.spawn(func() {
		// One goroutine a machine: none may wait for another. A cloud that limits the
		// rate of its calls does so in its client.
		ctx, cancel := context.WithTimeout(p.life, fastTimeout)
		defer cancel()
		err := stopper.Stop(ctx, row)
		p.ended(m, err)
	})
}

// ended takes the answer of the fast path.
func (p *Provisioner) ended(m *machine, err error) {
	if err == nil {
		p.confirm.Lock()
		p.confirmed = append(p.confirmed, m)
		p.confirm.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// Whoever gets here first writes for all that were confirmed meanwhile: a
	// thousand machines that end together are not a thousand commits.
	p.confirm.Lock()
	confirmed := p.confirmed
	p.confirmed = nil
	p.confirm.Unlock()
	p.gone(nil, confirmed...)

	m.fast, m.fastError = false, err != nil
	switch {
	case m.row.State == cluster.MachineGone:
		// Here, by another's batch, or because Terraform was faster.
	case err == nil: // the store refused
		m.stuck = m.group == nil
	case p.closed:
		// Whoever recovers the run asks again.
	case m.group == nil:
		m.stuck = true
		m.row.Error = err.Error()
		p.record(cluster.Change{Machines: []cluster.Machine{m.row}})
	default:
		e := p.machineEvent("", m.row)
		e.Message = fmt.Sprintf("%s did not end machine %s; Terraform does, or it is asked again", m.row.Cloud, m.row.Name)
		p.warn(e, err)
	}
	if m.group != nil {
		poke(m.group.wake)
	}
	p.notify()
}

// gone commits that the cloud has confirmed the end of machines, and with them
// the new row of their group, if there is one. It reports whether the store took
// it. mu is held.
func (p *Provisioner) gone(g *cluster.Group, machines ...*machine) bool {
	now := p.cfg.Now()
	var c cluster.Change
	if g != nil {
		c.Groups = append(c.Groups, *g)
	}
	var gone []*machine
	for _, m := range machines {
		if m.row.State == cluster.MachineGone {
			continue
		}
		row := m.row
		row.State, row.GoneAt = cluster.MachineGone, now
		e := p.machineEvent(cluster.EventMachineGone, row)
		cost := 0.0
		for _, entry := range cluster.NewLedger(cluster.Run{}, []cluster.Machine{row}, now).Entries {
			e.Seconds, cost = entry.Seconds, entry.Cost
		}
		e.Cost = &cost
		c.Machines = append(c.Machines, row)
		c.Events = append(c.Events, e)
		gone = append(gone, m)
	}
	if len(c.Groups) == 0 && len(gone) == 0 {
		return true
	}
	if !p.record(c) {
		return false
	}
	for i, m := range gone {
		m.row = c.Machines[i]
	}
	p.notify()
	return true
}
