package provision

import (
	"context"
	"fmt"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
)

// rounds bounds how often a group is applied again without the machines that
// failed it.
const rounds = 3

// apply creates the group's machines and tells each request what came of it.
//
// When some machines fail, Terraform fails the apply of the whole root, and what
// it created is known only to its state. The root is then applied again without
// those that failed: that removes what may exist of them, keeps the others, and
// gives the others' outputs. Where Terraform does not say which machine failed,
// all share the failure.
func (g *group) apply() {
	p := g.p
	p.mu.Lock()
	defer p.mu.Unlock()
	named := false // Terraform named a machine that failed
	for round := 1; ; round++ {
		live, leaving := g.live(), g.leaving()
		if len(live) == 0 {
			break
		}
		outputs, err := g.terraform(live)
		if p.closed {
			return // all stays as it is, for Recover
		}
		for _, m := range g.leaving() { // asked to stop while Terraform was at it
			p.finish(m)
		}
		applied := err == nil
		known, decodeErr := terraform.DecodeMachines(outputs)
		if applied {
			err = decodeErr // an apply that failed says more than outputs that are not there
		}
		if !applied {
			// Whatever it says: a machine may exist that its state does not know.
			p.cut[g.where.cloud] = p.cfg.Now()
		}
		blamed := blame(g.cloud, err, live)
		err = understand(g.cloud, err)
		named = named || len(blamed) > 0
		unsettled := g.settle(live, known, err, blamed)
		if applied {
			g.row.State = cluster.GroupApplied
			if _, ok := g.cloud.(Stopper); ok {
				leaving = nil // each is ended by its name: the state may have missed one
			}
			p.gone(&g.row, leaving...) // it is in no root any more
		}
		if len(unsettled) == 0 {
			break
		}
		if len(blamed) > 0 && round < rounds {
			continue
		}
		p.stop(stopOrder{reason: "it could not be created", err: err, innocent: named}, unsettled...)
		break
	}
	p.notify()
}

// terraform makes the world match a root with these machines in it. It gives up
// as soon as nobody wants any of the group's machines. mu is held, and not while
// Terraform runs.
func (g *group) terraform(machines []*machine) (terraform.Outputs, error) {
	p := g.p
	root, dir := g.root(machines), g.row.Dir
	ctx, cancel := context.WithCancel(p.life)
	defer cancel()
	g.interrupt = cancel
	for _, m := range machines {
		m.applying = true
	}
	p.mu.Unlock()
	outputs, err := func() (terraform.Outputs, error) {
		if err := p.writeRoot(dir, root); err != nil {
			return nil, fmt.Errorf("writing the root of group %s: %w", root.Group, err)
		}
		return p.cfg.Runner.Apply(ctx, dir, g.providers)
	}()
	p.mu.Lock()
	g.interrupt = nil
	for _, m := range machines {
		m.applying = false
	}
	return outputs, err
}

// settle makes ready the machines that the outputs know, ends those that failed,
// and gives those of which nothing is known. mu is held.
func (g *group) settle(machines []*machine, known map[string]terraform.MachineOutput, err error, blamed map[*machine]error) []*machine {
	p := g.p
	var ready cluster.Change
	var readied, unsettled []*machine
	var failed []stopping
	fail := func(m *machine, err error) {
		failed = append(failed, stopping{machine: m, order: stopOrder{reason: "it could not be created", err: err}})
	}
	for _, m := range machines {
		out, ok := known[m.row.Name]
		switch {
		case m.row.State != cluster.MachineCreating:
			// Asked to stop meanwhile, or ready since an earlier round.
		case blamed[m] != nil:
			fail(m, blamed[m])
		case ok && out.Address != "":
			row := m.row
			row.State, row.ReadyAt = cluster.MachineReady, p.cfg.Now()
			row.Address, row.PrivateAddress, row.Port = out.Address, out.PrivateAddress, out.Port
			row.User, row.HostKey, row.CloudID = out.User, out.HostKey, out.CloudID
			ready.Machines = append(ready.Machines, row)
			ready.Events = append(ready.Events, p.machineEvent(cluster.EventMachineReady, row))
			readied = append(readied, m)
		case err == nil:
			fail(m, &cluster.Failure{
				Kind: cluster.BadRequest,
				What: fmt.Sprintf("module %s created group %s and says nothing of machine %s", g.module.Name, g.name(), m.row.Name),
				Next: "see what its output \"machines\" gives in " + g.row.Dir,
			})
		default:
			unsettled = append(unsettled, m)
		}
	}
	if len(failed) > 0 {
		p.stopEach(failed)
	}
	if len(readied) == 0 {
		return unsettled
	}
	if err := p.commit(ready); err != nil {
		p.stop(stopOrder{reason: "it could not be written down as ready", err: err}, readied...)
		return unsettled
	}
	for i, m := range readied {
		m.row = ready.Machines[i]
		m.reply(outcome{row: m.row.Clone()})
	}
	p.watch(readied)
	p.notify()
	return unsettled
}
