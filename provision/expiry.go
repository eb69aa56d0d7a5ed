package provision

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
)

// ErrExpiryFixed is wrapped by what Config.Extend gives for a machine whose end
// cannot be moved: GCP ends a VM when its max_run_duration is over, and changes
// that only while the VM is stopped.
var ErrExpiryFixed = errors.New("the time at which the machine is ended cannot be moved")

const (
	extendTimeout  = 30 * time.Second // bounds one try to put off one machine's end
	extendParallel = 16               // machines whose end is put off at the same time
	extendRetry    = 16               // a try that failed is repeated after so large a part of the TTL
	extendRetryMax = 10 * time.Minute // but no later than this
	fixedNotice    = time.Hour        // how long before an end that is fixed people are told
)

// watch has the end of machines that have just got ready put off in time. One
// goroutine with one timer does it for all of them. mu is held.
func (p *Provisioner) watch(readied []*machine) {
	if p.cfg.TTL <= 0 {
		return
	}
	for _, m := range readied {
		if !m.row.ExpiresAt.IsZero() {
			m.extendAt = m.row.ExpiresAt.Add(-p.cfg.TTL / 2)
		}
	}
	if !p.watching {
		p.watching = true
		p.spawn(p.putOffEnds)
	}
	poke(p.readied)
}

func (p *Provisioner) putOffEnds() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, next := p.ending()
		if len(due) > 0 {
			p.putOff(due)
			continue
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(next.Sub(p.cfg.Now()))
		}
		select {
		case <-timer.C:
		case <-p.readied:
		case <-p.life.Done():
			return
		}
	}
}

// ending gives the machines whose end is to be put off now, and when the next
// ones are due; the zero time is never.
func (p *Provisioner) ending() (due []*machine, next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	for _, m := range p.machines {
		switch {
		case p.closed, m.extendAt.IsZero(), m.row.State != cluster.MachineReady:
		case !m.extendAt.After(now):
			due = append(due, m)
		case next.IsZero() || m.extendAt.Before(next):
			next = m.extendAt
		}
	}
	return due, next
}

// putOff puts off the end of machines and writes down how far.
func (p *Provisioner) putOff(due []*machine) {
	until := p.cfg.Now().Add(p.cfg.TTL)
	errs := make([]error, len(due))
	var tasks sync.WaitGroup
	turns := make(chan struct{}, extendParallel)
	for i, m := range due {
		turns <- struct{}{}
		tasks.Go(func() {
			defer func() { <-turns }()
			errs[i] = p.extend(m, until)
		})
	}
	tasks.Wait()

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	now := p.cfg.Now()
	var c cluster.Change
	var moved []*machine
	for i, m := range due {
		switch {
		case m.row.State != cluster.MachineReady:
		case errs[i] == nil:
			row := m.row
			row.ExpiresAt = until
			c.Machines = append(c.Machines, row)
			moved = append(moved, m)
		case errors.Is(errs[i], ErrExpiryFixed):
			p.endIsFixed(m, now)
		default:
			p.endStays(m, now, errs[i])
		}
	}
	if len(moved) == 0 {
		return
	}
	if err := p.commit(c); err != nil {
		for _, m := range moved {
			p.endStays(m, now, err)
		}
		return
	}
	for i, m := range moved {
		m.row = c.Machines[i]
		m.extendAt = until.Add(-p.cfg.TTL / 2)
	}
}

// extend puts off one machine's end: on the machine first, which is what work
// depends on, then in the cloud's tags, which is what others go by.
func (p *Provisioner) extend(m *machine, until time.Time) error {
	p.mu.Lock()
	row, fixed := m.row.Clone(), m.fixed
	p.mu.Unlock()
	if fixed || p.cfg.Extend == nil {
		return ErrExpiryFixed
	}
	ctx, cancel := context.WithTimeout(p.life, extendTimeout)
	defer cancel()
	if err := p.cfg.Extend(ctx, row, until); err != nil {
		return err
	}
	if extender, ok := p.clouds[row.Cloud].(Extender); ok {
		return extender.Extend(ctx, row, until)
	}
	return nil
}

// endStays warns that a machine's end could not be put off, and has it tried
// again while there is time. mu is held.
func (p *Provisioner) endStays(m *machine, now time.Time, err error) {
	m.extendAt = now.Add(min(p.cfg.TTL/extendRetry, extendRetryMax))
	what := "it is tried again"
	if !m.extendAt.Before(m.row.ExpiresAt) {
		m.extendAt = time.Time{}
		what = "there is no time to try again"
	}
	e := p.machineEvent("", m.row)
	e.Message = fmt.Sprintf("the end of machine %s could not be put off beyond %s; %s", m.row.Name, m.row.ExpiresAt.Format(time.RFC3339), what)
	p.warn(e, err)
}

// endIsFixed warns, an hour before or when the last quarter of the TTL begins,
// that a machine will be ended. mu is held.
func (p *Provisioner) endIsFixed(m *machine, now time.Time) {
	notice := m.row.ExpiresAt.Add(-min(fixedNotice, p.cfg.TTL/4))
	if now.Before(notice) {
		m.fixed, m.extendAt = true, notice
		return
	}
	m.extendAt = time.Time{}
	e := p.machineEvent("", m.row)
	e.Message = fmt.Sprintf("machine %s will be ended by %s at %s, which cannot be put off there; a longer ttl in the app file lets later machines work longer",
		m.row.Name, m.row.Cloud, m.row.ExpiresAt.Format(time.RFC3339))
	p.warn(e, nil)
}
