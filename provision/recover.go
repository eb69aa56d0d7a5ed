package provision

import (
	"context"
	"fmt"
	"time"

	"github.com/levinrun/levin/cluster"
)

// Recover makes a Provisioner for a run that has machines and groups already,
// from the store alone: for a run whose controller is dead. StopAll and Wait
// then end all of it, whatever state it was left in; nothing is done before
// they are called.
//
// The cloud of each group must be among cfg.Clouds for the group to be
// destroyed. A group that lost its folder is settled by the cloud's fast path
// where there is one; else Wait says that it is left. Taking single machines out
// of a recovered group needs a fast path: without one they go with their group.
func Recover(ctx context.Context, cfg Config) (*Provisioner, error) {
	p, err := New(cfg)
	if err != nil {
		return nil, err
	}
	store := cfg.Journal.Store()
	groups, err := store.Groups(ctx, cfg.Run)
	if err != nil {
		return nil, fmt.Errorf("reading the groups of run %s: %w", cfg.Run, err)
	}
	machines, err := store.Machines(ctx, cfg.Run)
	if err != nil {
		return nil, fmt.Errorf("reading the machines of run %s: %w", cfg.Run, err)
	}
	byID := map[string]*group{}
	for _, row := range groups {
		g := p.newGroup(place{row.Cloud, row.Region})
		g.row = row
		g.recovered = true
		g.shut()
		byID[row.ID] = g
		if !row.State.Final() {
			p.groups = append(p.groups, g)
		}
		if row.State == cluster.GroupApplying {
			p.cut[row.Cloud] = time.Time{} // how long ago is not known; the state is read before anything is swept
		}
	}
	p.groupNo = len(groups)
	for _, row := range machines {
		m := &machine{row: row, stored: true}
		p.machines[row.Name] = m
		if g := byID[row.Group]; g != nil && !g.row.State.Final() {
			g.members = append(g.members, m)
			m.group = g
		}
	}
	return p, nil
}
