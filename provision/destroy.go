package provision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/levinrun/levin/cluster"
)

const (
	// attempts is how often a clean-up is tried before it has failed for good.
	attempts = 3
	// cleanTimeout bounds one Terraform run that cleans up.
	cleanTimeout = 30 * time.Minute
)

// errStateLost says that a root's folder, and with it the state, is not there.
var errStateLost = errors.New("its folder and the Terraform state in it are gone")

// start runs the goroutine of a recovered group. mu is held.
func (g *group) start() {
	if !g.started {
		g.started = true
		g.p.spawn(g.tend)
	}
}

// tend waits for members to be asked to stop, takes out of the root those that
// the fast path did not end, and destroys the root when no member is wanted any
// more.
func (g *group) tend() {
	p := g.p
	for {
		p.mu.Lock()
		closed, live, slow := p.closed, len(g.live()), len(g.slow())
		if live == 0 && g.row.ID == "" {
			g.over = true // it never began
			p.notify()
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		switch {
		case closed:
			return
		case live == 0:
			g.destroy()
			return
		case slow > 0 && !g.recovered:
			g.shrink()
			continue
		}
		select {
		case <-g.wake:
		case <-p.life.Done():
		}
	}
}

// slow gives the members that only Terraform can end. mu is held.
func (g *group) slow() []*machine {
	var slow []*machine
	for _, m := range g.leaving() {
		if !m.fast && !m.stuck {
			slow = append(slow, m)
		}
	}
	return slow
}

// shrink applies the root without the members that are stopping.
func (g *group) shrink() {
	p := g.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for try := 1; ; try++ {
		live, leaving := g.live(), g.leaving()
		if len(live) == 0 || p.closed {
			return
		}
		g.row.State = cluster.GroupApplying
		p.record(cluster.Change{Groups: []cluster.Group{g.row}})
		_, err := g.terraform(live)
		if err == nil {
			g.row.State, g.row.Error = cluster.GroupApplied, ""
			g.makeSure()
			sure, unsure := g.sure(leaving)
			if !p.gone(&g.row, sure...) {
				stick(sure)
			}
			stick(unsure) // until the whole group goes
			return
		}
		if p.closed || len(g.live()) == 0 {
			return
		}
		g.complain(fmt.Sprintf("could not take machines out of group %s", g.name()), try, err)
		if try == attempts {
			stick(leaving) // until the whole group goes
			return
		}
		g.rest(try, func() bool { return len(g.live()) == 0 })
	}
}

func stick(machines []*machine) {
	for _, m := range machines {
		m.stuck = true
	}
}

// destroy removes all that the group's root holds. Every member has been asked
// to stop.
func (g *group) destroy() {
	p := g.p
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.notify()
	if g.row.State != cluster.GroupPlanned { // of a planned one Terraform knows nothing
		g.row.State = cluster.GroupDestroying
		p.record(cluster.Change{Groups: []cluster.Group{g.row}})
		for try := 1; ; try++ {
			err := g.destroyOnce()
			if err == nil {
				break
			}
			if p.closed {
				return
			}
			g.complain(fmt.Sprintf("could not destroy group %s", g.name()), try, err)
			if try == attempts || errors.Is(err, errStateLost) {
				g.failed = err
				return
			}
			g.rest(try, nil)
		}
	}
	g.makeSure()
	if p.closed {
		return
	}
	row := g.row
	row.State, row.Error = cluster.GroupDestroyed, ""
	gone, unsure := g.sure(g.leaving())
	if !p.gone(&row, gone...) {
		g.failed = fmt.Errorf("group %s is destroyed and the store could not be told", g.name())
		return
	}
	g.row = row
	stick(unsure)
}

// sure parts members that are stopping into those that Terraform has removed for
// certain and those that it has not: a machine that was never ready may have been
// created and never come into the state, and where the cloud can be asked for it
// by name, only the cloud's answer counts. mu is held.
func (g *group) sure(leaving []*machine) (sure, unsure []*machine) {
	for _, m := range leaving {
		if m.row.ReadyAt.IsZero() && (m.fast || m.fastError) {
			unsure = append(unsure, m)
		} else {
			sure = append(sure, m)
		}
	}
	return sure, unsure
}

// makeSure asks the fast path again for members that Terraform may have missed. mu
// is held, and not while anything is waited for.
func (g *group) makeSure() {
	p := g.p
	for try := 1; ; try++ {
		p.await(func() bool {
			return !slices.ContainsFunc(g.leaving(), func(m *machine) bool { return m.fast && m.row.ReadyAt.IsZero() })
		})
		_, unsure := g.sure(g.leaving())
		if len(unsure) == 0 || try == attempts || p.closed {
			return
		}
		g.rest(try, nil)
		if p.closed {
			return
		}
		for _, m := range unsure {
			if stopper, ok := g.cloud.(Stopper); ok && m.row.State == cluster.MachineStopping {
				p.askToEnd(m, stopper)
			}
		}
	}
}

// destroyOnce runs Terraform and waits for fast paths that are under way, which
// may know of machines that an interrupted apply lost from the state. mu is
// held, and not while anything is waited for.
func (g *group) destroyOnce() error {
	p := g.p
	dir := g.row.Dir
	p.mu.Unlock()
	err := func() error {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return errStateLost
		}
		ctx, cancel := context.WithTimeout(p.life, cleanTimeout)
		defer cancel()
		if g.module.Files == nil { // recovered
			if err := g.prepare(ctx); err != nil {
				return err
			}
		}
		return p.cfg.Runner.Destroy(ctx, dir, g.providers)
	}()
	p.mu.Lock()
	p.await(func() bool {
		for _, m := range g.members {
			if m.fast {
				return false
			}
		}
		return true
	})
	if errors.Is(err, errStateLost) && len(g.leaving()) == 0 {
		return nil // the cloud itself has confirmed the end of every machine
	}
	return err
}

// complain writes down that a clean-up failed, and warns. mu is held.
func (g *group) complain(what string, try int, err error) {
	p := g.p
	g.row.Error = err.Error()
	c := cluster.Change{Groups: []cluster.Group{g.row}}
	last := try == attempts || errors.Is(err, errStateLost)
	if last {
		for _, m := range g.leaving() {
			m.row.Error = err.Error()
			c.Machines = append(c.Machines, m.row)
		}
	}
	p.record(c)
	e := p.event(cluster.EventWarning)
	e.Cloud, e.Region = g.row.Cloud, g.row.Region
	e.Message = fmt.Sprintf("%s (try %d of %d)", what, try, attempts)
	if last {
		e.Message = what + ", and it is not tried again now"
	}
	p.warn(e, err)
}

// rest waits before the next try: Backoff after the first, twice as long after
// each further one, and no longer than until enough is true. mu is held, and not
// while it waits.
func (g *group) rest(try int, enough func() bool) {
	p := g.p
	timer := time.NewTimer(p.cfg.Backoff << (try - 1))
	defer timer.Stop()
	for enough == nil || !enough() {
		changed := p.changed
		p.mu.Unlock()
		over := false
		select {
		case <-timer.C:
			over = true
		case <-changed:
		case <-p.life.Done():
			over = true
		}
		p.mu.Lock()
		if over {
			return
		}
	}
}

// await waits until something is true or the Provisioner is closed. mu is held,
// and not while it waits.
func (p *Provisioner) await(met func() bool) {
	for !met() && !p.closed {
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-p.life.Done():
		}
		p.mu.Lock()
	}
}
