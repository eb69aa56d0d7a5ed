package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

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
		return fmt.Errorf("preparing Terraform for %s: %w", g.where.cloud, understand(g.cloud, err))
	}
	if len(g.p.cfg.BackendEnv) > 0 {
		env := maps.Clone(g.p.cfg.BackendEnv)
		maps.Copy(env, providers.Env)
		providers.Env = env
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
		IngressCIDRs: g.ingress,
		Tags:         g.tags,
		TTL:          seconds(g.p.cfg.TTL),
		Extra:        g.module.Variables,
		Backend:      g.p.cfg.Backend,
	}
	for _, m := range machines {
		root.Machines[m.row.Name] = m.input
	}
	return root
}

// blame finds the machines that Terraform names in the errors of an apply: their
// names are the keys under which the module creates them. Each failure is what
// the cloud's table makes of Terraform's words about that machine alone.
func blame(cloud Cloud, err error, machines []*machine) map[*machine]error {
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
		blamed[m] = understand(cloud, &cluster.Failure{
			Kind:  cluster.KindOf(err),
			What:  "Terraform could not create machine " + m.row.Name,
			Words: words.Error(),
			Err:   words,
		})
	}
	return blamed
}

// seconds rounds up to whole ones, which is how modules count.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// ingress remembers who may reach machines.
type ingress struct {
	turn  sync.Mutex // held by the one who asks
	known []string
}

// ask asks once; after a failure, again.
func (i *ingress) ask(ctx context.Context, ask func(context.Context) ([]string, error)) ([]string, error) {
	i.turn.Lock()
	defer i.turn.Unlock()
	if i.known != nil {
		return i.known, nil
	}
	if ask == nil {
		return nil, errors.New("nothing says who may reach the machines behind their firewall")
	}
	cidrs, err := ask(ctx)
	if err != nil {
		return nil, err
	}
	i.known = cidrs
	return cidrs, nil
}
