package provision

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/levinrun/levin/cluster"
)

// Wait waits until every machine is gone and every group is destroyed. Then it
// searches the clouds by tag for what Terraform's states have lost, and removes
// it (see Sweeper). It gives the machines that are not gone, with a
// *cluster.Failure of kind Unclean, when ctx ends before that or when what is left
// has failed to go for good. The failure may also tell of groups that have no
// machine left, of clouds that could not be searched, and of changes that the
// store refused.
//
// Wait stops nothing: StopAll comes first, and without it nothing is searched for.
func (p *Provisioner) Wait(ctx context.Context) ([]cluster.Machine, error) {
	for {
		p.mu.Lock()
		settled, changed := p.settled(), p.changed
		if settled || ctx.Err() != nil || p.closed {
			sweep := settled && !p.closed && p.taking.Err() != nil
			p.mu.Unlock()
			if sweep {
				p.sweepAll(ctx)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.left(settled)
		}
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		case <-p.life.Done():
		}
	}
}

// settled reports whether nothing will change any more. mu is held.
func (p *Provisioner) settled() bool {
	for _, m := range p.machines {
		if m.row.State == cluster.MachineGone {
			continue
		}
		if m.fast || m.group == nil && !m.stuck || m.group != nil && !m.group.done() {
			return false
		}
	}
	for _, g := range p.groups {
		if !g.done() {
			return false
		}
	}
	return true
}

// left gives what is not gone and says why. mu is held.
func (p *Provisioner) left(settled bool) ([]cluster.Machine, error) {
	var machines []cluster.Machine
	var names, words []string
	var causes []error
	for _, m := range p.sorted() {
		if m.stored && m.row.State != cluster.MachineGone {
			machines = append(machines, m.row.Clone())
			names = append(names, m.row.Name)
		}
	}
	var dirs []string
	for _, g := range p.groups {
		if g.row.ID == "" || g.row.State.Final() {
			continue
		}
		dirs = append(dirs, g.row.Dir)
		switch {
		case g.failed != nil:
			words = append(words, fmt.Sprintf("group %s: %v", g.row.ID, g.failed))
			causes = append(causes, g.failed)
		case g.row.Error != "":
			words = append(words, fmt.Sprintf("group %s: %s", g.row.ID, g.row.Error))
		}
	}
	machines = append(machines, p.swept.strays...)
	for _, m := range p.swept.strays {
		names = append(names, m.Name)
	}
	for _, err := range p.swept.errs {
		words = append(words, err.Error())
		causes = append(causes, err)
	}
	for _, err := range p.troubles {
		words = append(words, "the store: "+err.Error())
		causes = append(causes, err)
	}
	if len(machines) == 0 && len(dirs) == 0 && len(p.swept.errs) == 0 && len(p.troubles) == 0 {
		return nil, nil
	}
	f := &cluster.Failure{Kind: cluster.Unclean, Err: errors.Join(causes...), Words: strings.Join(words, "\n  ")}
	switch {
	case len(machines) > 0:
		f.What = fmt.Sprintf("not confirmed gone: %s", strings.Join(names, ", "))
	case len(dirs) > 0:
		f.What = fmt.Sprintf("the machines of run %s are gone, and %d of its Terraform roots could not be destroyed", p.cfg.Run, len(dirs))
	case len(p.swept.errs) > 0:
		f.What = fmt.Sprintf("the machines of run %s are gone as far as Terraform knows, and it could not be made sure that nothing else is left", p.cfg.Run)
	default:
		f.What = fmt.Sprintf("all of run %s is gone, and the store could not be told everything", p.cfg.Run)
	}
	if !settled {
		f.What += " when the time for cleaning up ran out"
	}
	f.Next = "try again with: levin down " + p.cfg.Run
	if len(dirs) > 0 {
		f.Next += "; Terraform's state is in " + strings.Join(dirs, ", ")
	}
	return machines, f
}
