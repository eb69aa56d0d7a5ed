package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

// patience is how long a request waits for a cloud whose machines are all taken
// when its choice has another cloud to turn to.
const patience = 2 * time.Second

// Create gives a machine that is ready to be reached.
//
// Requests that come within Window of each other and share cloud and region
// share a Terraform root, up to MaxGroup; a later one opens a root of its own,
// so that nothing waits for another root's lock. The intent (the machine's row,
// its group's row, event machine.requested) is committed before anything is
// created.
//
// What a failure means is said by the cloud's own table (Judge). For capacity,
// quota and price the next offer is tried that the failure does not reach, and
// every run tries those that it does reach after the others for a while
// (cluster.Cooldown). What passes (throttled, transient) is tried again with the
// same offer first, after a pause. Anything else fails at once: wrong credentials
// and bad requests are no better elsewhere. Each try is a machine of its own. The
// error names every offer that was tried, with the cloud's own words.
//
// When ctx ends, Create returns and its machine is on its way to gone; other
// machines of the group are not touched. On any error nothing of the request is
// wanted any more, and Wait says when it is gone.
func (p *Provisioner) Create(ctx context.Context, r Request) (cluster.Machine, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.life, cancel)()

	h := newHunt(r.Choice.Offers)
	var trying Offer
	for len(h.left) > 0 && ctx.Err() == nil {
		if !h.again {
			p.order(ctx, h)
		}
		var out outcome
		trying, out = p.createOne(ctx, r, h.left, h.alone)
		if out.err == nil {
			return out.row, nil
		}
		if ctx.Err() != nil {
			break
		}
		wait, goOn := h.learn(trying, out)
		if !goOn {
			return cluster.Machine{}, h.failure(r)
		}
		trying = Offer{}
		if wait > 0 {
			pause(ctx, jitter(time.Duration(wait)*p.cfg.Backoff), nil)
		}
	}
	if ctx.Err() != nil {
		return cluster.Machine{}, h.cut(ctx, r, trying)
	}
	return cluster.Machine{}, h.failure(r)
}

// createOne tries the first of the offers; where machines are claimed, the first
// of that cloud that is free.
func (p *Provisioner) createOne(ctx context.Context, r Request, offers []Offer, alone bool) (Offer, outcome) {
	offer := offers[0]
	cloud := p.clouds[offer.Cloud]
	if cloud == nil {
		return offer, outcome{err: notConfigured(offer.Cloud)}
	}
	m := &machine{answer: make(chan outcome, 1)}
	if err := p.register(m, r, cloud, offer); err != nil {
		return offer, outcome{err: err}
	}
	if claimer, ok := cloud.(Claimer); ok {
		claimed, out := p.claim(ctx, claimer, m, r, offers)
		if out.err != nil {
			return claimed, out
		}
		offer = claimed
	}
	p.join(m, alone)
	select {
	case out := <-m.answer:
		return offer, out
	case <-ctx.Done():
		p.abandon(m)
		return offer, outcome{err: context.Cause(ctx)}
	}
}

// register names a machine and works out its input. Nothing is committed yet.
func (p *Provisioner) register(m *machine, r Request, cloud Cloud, offer Offer) error {
	if err := m.choose(r, cloud, offer); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refused(); err != nil {
		return err
	}
	m.row.Name = p.newName(r)
	m.row.Run = p.cfg.Run
	m.row.Component = r.Component
	m.row.State = cluster.MachineRequested
	m.row.RequestedAt = p.cfg.Now()
	p.machines[m.row.Name] = m
	return nil
}

// choose settles which offer a machine is made of.
func (m *machine) choose(r Request, cloud Cloud, offer Offer) error {
	in, err := cloud.Input(offer, satisfied(offer, r.Resources))
	if err != nil {
		return fmt.Errorf("preparing a machine %s for %s: %w", offer, r.Component, err)
	}
	// The component's name goes with each machine, as machines of several
	// components share a root.
	extra := maps.Clone(in.Extra)
	if extra == nil {
		extra = map[string]any{}
	}
	extra["component"] = r.Component
	in.Extra = extra
	in.Ports = append(slices.Clone(in.Ports), r.Ports...)

	m.offer, m.input = offer, in
	m.row.Cloud, m.row.Region, m.row.Zone = offer.Cloud, offer.Region, offer.Zone
	m.row.Type, m.row.PricePerHour, m.row.Spot = offer.Type, offer.PricePerHour, offer.Spot
	return nil
}

// satisfied gives the alternative of r that the offer was chosen for.
func satisfied(o Offer, r configs.Resources) configs.Resources {
	all := Alternatives(r)
	for _, alt := range all {
		if len(Unmet(o, alt)) == 0 {
			return alt
		}
	}
	return all[0]
}

// claim waits for one of the cloud's offers to be free and commits the machine's
// row for it.
func (p *Provisioner) claim(ctx context.Context, claimer Claimer, m *machine, r Request, offers []Offer) (Offer, outcome) {
	cloud := p.clouds[offers[0].Cloud]
	var here []Offer
	for _, o := range offers {
		if o.Cloud == cloud.Name() {
			here = append(here, o)
		}
	}
	limit, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.taking, cancel)()
	if len(here) < len(offers) {
		var expire context.CancelFunc
		limit, expire = context.WithTimeout(limit, patience)
		defer expire()
	}
	claimed, err := claimer.Claim(limit, here, func(o Offer) error {
		if err := m.choose(r, cloud, o); err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if err := p.refused(); err != nil {
			return err
		}
		return p.commitRequested(nil, m)
	})
	if err == nil {
		return claimed, outcome{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop(stopOrder{reason: "it could not be claimed", err: err}, m)
	if refused := p.refused(); refused != nil {
		return here[0], outcome{err: refused}
	}
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return here[0], outcome{busy: true, err: &cluster.Failure{
			Kind: cluster.Capacity,
			What: fmt.Sprintf("every machine of %s that fits is taken", cloud.Name()),
		}}
	}
	return here[0], outcome{err: err}
}

// commitRequested commits the intent: the rows of machines that have none yet,
// their events, and the group they are to be in. mu is held.
func (p *Provisioner) commitRequested(g *cluster.Group, machines ...*machine) error {
	var c cluster.Change
	if g != nil {
		c.Groups = append(c.Groups, *g)
	}
	for _, m := range machines {
		if !m.stored {
			c.Machines = append(c.Machines, m.row)
			c.Events = append(c.Events, p.machineEvent(cluster.EventMachineRequested, m.row))
		}
	}
	if err := p.commit(c); err != nil {
		return err
	}
	for _, m := range machines {
		m.stored = true
	}
	return nil
}

// abandon ends a machine whose request nobody waits for any more.
func (p *Provisioner) abandon(m *machine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed { // else it stays as it is
		p.stop(stopOrder{reason: "the request was cancelled"}, m)
	}
}

// refused says why no machine can be created any more. mu is held.
func (p *Provisioner) refused() error {
	if p.taking.Err() != nil {
		return &cluster.Failure{
			Kind: cluster.Interrupted,
			What: fmt.Sprintf("run %s is being stopped and gets no more machines", p.cfg.Run),
		}
	}
	return nil
}
