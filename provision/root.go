package provision

import (
	"context"
	"errors"
	"fmt"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
)

// prepare gets the module and the address of its providers.
func (g *group) prepare(ctx context.Context) error {
	if g.cloud == nil {
		return notConfigured(g.where.cloud)
	}
	module, providers, err := g.cloud.Module(ctx, g.where.region)
	if err != nil {
		return fmt.Errorf("preparing Terraform for %s: %w", g.where.cloud, err)
	}
	g.module, g.providers = module, providers
	return nil
}

// root is what the group's folder is to hold. mu is held.
func (g *group) root(machines []*machine) terraform.Root {
	root := terraform.Root{
		Run:          g.p.cfg.Run,
		Group:        g.row.ID,
		Module:       g.module,
		Machines:     map[string]terraform.MachineInput{},
		SSHPublicKey: g.p.cfg.PubKey,
		Tags:         g.p.tags,
		Extra:        g.module.Variables,
	}
	for _, m := range machines {
		root.Machines[m.row.Name] = m.input
	}
	return root
}

// blame finds the machines that Terraform names in the errors of an apply: their
// names are the keys under which the module creates them. Each failure has the
// kind of the whole and Terraform's words about that machine alone.
func blame(err error, machines []*machine) map[*machine]error {
	var apply *terraform.ApplyError
	if !errors.As(err, &apply) {
		return nil
	}
	blamed := map[*machine]error{}
	for _, m := range machines {
		var own []terraform.Diagnostic
		for _, d := range apply.Diagnostics {
			if d.Severity == "error" && d.Machine() == m.row.Name {
				own = append(own, d)
			}
		}
		if len(own) == 0 {
			continue
		}
		words := &terraform.ApplyError{Command: apply.Command, Diagnostics: own, Err: apply.Err}
		blamed[m] = &cluster.Failure{
			Kind:  cluster.KindOf(err),
			What:  "Terraform could not create machine " + m.row.Name,
			Words: words.Error(),
			Err:   words,
		}
	}
	return blamed
}
