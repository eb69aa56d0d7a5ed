package provision

import (
	"cmp"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
)

// openWindows bounds how long a group stays open for requests that keep coming.
const openWindows = 20

// claimWindows is how many windows a group of a Claimer stays open for the next
// request: claims are had one after the other, each with a commit of its own.
const claimWindows = 10

// group is one Terraform root and the goroutine that alone runs Terraform in it.
// Provisioner.mu guards the fields below providers.
//
//	collect ──► begin ──► apply ──► tend ──► destroy
//
// A group of Recover enters at tend.
type group struct {
	p         *Provisioner
	where     place
	cloud     Cloud // nil when a recovered group's cloud is not configured any more
	providers terraform.Providers
	module    terraform.Module

	ingress []string          // who may reach its machines
	tags    map[string]string // of all that it creates; nil until begin

	row     cluster.Group // empty until begin
	members []*machine    // in the order they joined; those that gave up before begin are out
	started bool          // its goroutine was started

	grown chan struct{} // a request joined
	full  chan struct{} // closed when no more may join
	wake  chan struct{} // a member was asked to stop, or its fast path ended

	// interrupt ends the apply that is under way; nil when there is none.
	interrupt context.CancelFunc
	failed    error // destroying it failed for good
	over      bool  // it ended before it began
	recovered bool  // it was read from the store
}

func (p *Provisioner) newGroup(where place) *group {
	return &group{
		p:     p,
		where: where,
		cloud: p.clouds[where.cloud],
		grown: make(chan struct{}, 1),
		full:  make(chan struct{}),
		wake:  make(chan struct{}, 1),
	}
}

// join puts a machine into the group that is open for its place, or into a new
// one. A machine that is to be alone always gets a new one.
func (p *Provisioner) join(m *machine, alone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refused(); err != nil {
		m.reply(outcome{err: err})
		p.stop(stopOrder{reason: "the run is being stopped"}, m)
		return
	}
	if m.row.State != cluster.MachineRequested {
		return // asked to stop already
	}
	where := place{m.offer.Cloud, m.offer.Region}
	g := p.open[where]
	if alone || g == nil {
		g = p.newGroup(where)
		g.started = true
		p.groups = append(p.groups, g)
		p.spawn(g.run)
	}
	g.members = append(g.members, m)
	m.group = g
	switch {
	case alone || len(g.members) >= p.cfg.MaxGroup:
		g.shut()
	default:
		p.open[where] = g
		poke(g.grown)
	}
}

// shut lets nobody join any more. mu is held.
func (g *group) shut() {
	if g.p.open[g.where] == g {
		delete(g.p.open, g.where)
	}
	select {
	case <-g.full:
	default:
		close(g.full)
	}
}

// poke leaves a message for a goroutine that looks for itself what has changed.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run is the life of a new group.
func (g *group) run() {
	g.collect()
	if g.begin() {
		g.apply()
	}
	g.tend()
}

// collect keeps the group open until no request has come for a window.
func (g *group) collect() {
	window := g.p.cfg.Window
	if _, claims := g.cloud.(Claimer); claims {
		window *= claimWindows
	}
	quiet, limit := time.NewTimer(window), time.NewTimer(openWindows*window)
	defer quiet.Stop()
	defer limit.Stop()
	for open := true; open; {
		select {
		case <-g.grown:
			quiet.Reset(window)
		case <-quiet.C:
			open = false
		case <-limit.C:
			open = false
		case <-g.full:
			open = false
		case <-g.p.life.Done():
			open = false
		}
	}
	g.p.mu.Lock()
	g.shut()
	g.p.mu.Unlock()
}

// begin commits the intent for the group and all in it, makes ready what
// Terraform needs, and commits that Terraform is about to be asked. It reports
// whether there is anything to apply.
func (g *group) begin() bool {
	if !g.plan() {
		return false
	}
	err := g.prepare(g.p.life)
	if err == nil && g.module.Firewall {
		g.ingress, err = g.p.ingress.ask(g.p.life, g.p.cfg.Ingress)
	}
	var keys []hostKey
	if err == nil && g.module.HostKeys {
		keys, err = newHostKeys(g.size())
	}
	if err == nil {
		// From the moment the group is applying its folder is there: a folder that is
		// not means that the state was lost, and not that a crash came before it.
		err = os.MkdirAll(g.row.Dir, 0o700)
	}
	if err != nil {
		g.p.mu.Lock()
		defer g.p.mu.Unlock()
		g.p.stop(stopOrder{reason: "it could not be created", err: err}, g.live()...)
		return false
	}

	g.p.mu.Lock()
	defer g.p.mu.Unlock()
	live := g.live()
	if len(live) == 0 || g.p.closed {
		return false
	}
	row := g.row
	row.State = cluster.GroupApplying
	c := cluster.Change{Groups: []cluster.Group{row}}
	now := g.p.cfg.Now()
	g.tags = g.p.tags
	var expires time.Time
	if ttl := g.p.cfg.TTL; ttl > 0 {
		expires = now.Add(ttl)
		g.tags = maps.Clone(g.p.tags)
		g.tags["levin-expires"] = strconv.FormatInt(expires.Unix(), 10)
	}
	for i, m := range live {
		creating := m.row
		creating.State, creating.Group, creating.CreatingAt = cluster.MachineCreating, row.ID, now
		if g.mortal() {
			creating.ExpiresAt = expires
		}
		c.Machines = append(c.Machines, creating)
		if g.module.HostKeys {
			keys[i].put(m.input.Extra)
			m.input.Extra["unreached_seconds"] = seconds(g.p.cfg.Unreached)
		}
	}
	if err := g.p.commit(c); err != nil {
		g.p.stop(stopOrder{reason: "it could not be created", err: err}, live...)
		return false
	}
	g.row = row
	for i, m := range live {
		m.row = c.Machines[i]
	}
	return true
}

// size is how many machines the group has at the most: none joins any more.
func (g *group) size() int {
	g.p.mu.Lock()
	defer g.p.mu.Unlock()
	return len(g.members)
}

// mortal reports whether the TTL ends the group's machines: own hosts are never
// ended, and the machines of a provider inside Levin end with their lease.
func (g *group) mortal() bool {
	if _, ok := g.cloud.(Claimer); ok {
		return false
	}
	for _, r := range g.module.Requires {
		if r.InProcess {
			return false
		}
	}
	return true
}

// plan commits the group's row and its machines' rows. It reports whether there
// are any.
func (g *group) plan() bool {
	p := g.p
	p.mu.Lock()
	defer p.mu.Unlock()
	live := g.live()
	if len(live) == 0 || p.closed {
		return false
	}
	p.groupNo++
	id := cluster.Name(p.cfg.Run, "g"+strconv.Itoa(p.groupNo))
	row := cluster.Group{
		ID: id, Run: p.cfg.Run, Cloud: g.where.cloud, Region: g.where.region,
		Dir:   filepath.Join(p.cfg.Dir, "groups", id),
		State: cluster.GroupPlanned, CreatedAt: p.cfg.Now(),
	}
	if err := p.commitRequested(&row, live...); err != nil {
		for _, m := range live {
			m.reply(outcome{err: err})
		}
		p.stop(stopOrder{reason: "it could not be written down"}, live...)
		return false
	}
	g.row = row
	p.notify()
	return true
}

// live gives the members that nobody has asked to stop. mu is held.
func (g *group) live() []*machine {
	var live []*machine
	for _, m := range g.members {
		switch m.row.State {
		case cluster.MachineStopping, cluster.MachineGone:
		default:
			live = append(live, m)
		}
	}
	return live
}

// leaving gives the members that were asked to stop and are not gone. mu is held.
func (g *group) leaving() []*machine {
	var leaving []*machine
	for _, m := range g.members {
		if m.row.State == cluster.MachineStopping {
			leaving = append(leaving, m)
		}
	}
	return leaving
}

// drop takes a member out that was never written down. mu is held.
func (g *group) drop(m *machine) {
	g.members = slices.DeleteFunc(g.members, func(other *machine) bool { return other == m })
}

// done reports whether nothing more happens to the group. mu is held.
func (g *group) done() bool {
	return g.failed != nil || g.over || g.row.State.Final()
}

// name gives the group's name for people.
func (g *group) name() string { return cmp.Or(g.row.ID, g.where.cloud) }
