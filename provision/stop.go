package provision

import (
	"context"
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
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.machines[name]
	if m == nil {
		return
	}
	p.stop(stopOrder{reason: reason}, m)
	p.finish(m)
	if m.group != nil {
		m.group.start()
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
	err      error // why it could not be created, when that is why
	innocent bool  // see outcome
}

// stop commits that machines are to stop, answers those who wait for them, and
// begins to end them. Machines that are stopping already are left out. mu is
// held.
func (p *Provisioner) stop(o stopOrder, machines ...*machine) {
	now := p.cfg.Now()
	var c cluster.Change
	var stopped []*machine
	for _, m := range machines {
		switch {
		case m.row.State == cluster.MachineStopping, m.row.State == cluster.MachineGone:
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
		stopped = append(stopped, m)
	}
	if len(stopped) > 0 {
		p.record(c)
	}
	for i, m := range stopped {
		m.row = c.Machines[i]
		m.reply(o.answer(m))
		p.finish(m)
	}
	for _, m := range machines {
		if g := m.group; g != nil {
			poke(g.wake)
			if g.interrupt != nil && len(g.live()) == 0 {
				g.interrupt()
			}
		}
	}
	p.notify()
}

// answer is what Create hears of a machine that stops before it was ready.
func (o stopOrder) answer(m *machine) outcome {
	if o.err != nil {
		return outcome{err: o.err, innocent: o.innocent}
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
	creating := !m.row.CreatingAt.IsZero() && m.row.ReadyAt.IsZero() && m.group != nil && !m.group.applied
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

	m.fast = false
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
		e.Message = fmt.Sprintf("%s did not end machine %s; Terraform will", m.row.Cloud, m.row.Name)
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
