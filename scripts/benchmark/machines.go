package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision/local"
)

const machinesWanted = 100

// hundredMachines lets Levin and a hand-written root create the same machines
// with the same provider, in turns.
func hundredMachines(ctx context.Context, r *rig) ([]row, error) {
	if err := r.build(ctx); err != nil {
		return nil, err
	}
	p, err := r.newPlace("machines-100")
	if err != nil {
		return nil, err
	}
	app, err := p.app(wideApp("machines", machinesWanted, `"true"`))
	if err != nil {
		return nil, err
	}
	hand, err := newHandWritten(r, p)
	if err != nil {
		return nil, err
	}
	defer hand.close()
	var ours, theirs, destroys []time.Duration
	for range r.rounds {
		done, err := p.run(ctx, r.levin, app)
		if err != nil {
			return nil, err
		}
		ours = append(ours, done.last(cluster.EventMachineReady).Time.Sub(done.first(cluster.EventMachineRequested).Time))
		apply, destroy, err := hand.round(ctx)
		if err != nil {
			return nil, err
		}
		theirs, destroys = append(theirs, apply), append(destroys, destroy)
	}
	return []row{measured(fmt.Sprintf("%d local machines in one run: provisioning wall ÷ one hand-written `terraform apply`", machinesWanted),
		median(ours).Seconds()/median(theirs).Seconds(), 1.3, "×", false,
		"medians of %d rounds in turns: from the first machine.requested to the last machine.ready %s, a root with `count = %d` after an `init` that does not count, `apply` %s (its `destroy` %s)",
		r.rounds, seconds(median(ours)), machinesWanted, seconds(median(theirs)), seconds(median(destroys)))}, nil
}

// wideApp is an app with one component that has so many machines.
func wideApp(name string, n int, run string) string {
	var items []string
	for i := range n {
		items = append(items, fmt.Sprintf("i%d", i))
	}
	return fmt.Sprintf("name: %s\ncomponents:\n  w:\n    for_each: [%s]\n    max_machines: %d\n    files: []\n    run: %s\n",
		name, strings.Join(items, ", "), n, run)
}

// handWritten is a root as a person would write it, for the provider that Levin
// serves to its own Terraform processes; here it is served by this process.
type handWritten struct {
	p     *place
	cloud *local.Cloud
	root  *place // the same place, in the root's folder
}

func newHandWritten(r *rig, p *place) (*handWritten, error) {
	h := &handWritten{p: p, cloud: local.New(local.Config{
		Home:  p.path("hand", "home"),
		Agent: func(context.Context) (string, error) { return r.agent, nil },
	})}
	_, providers, err := h.cloud.Module(context.Background(), "")
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	attach, err := json.Marshal(reattach(providers))
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	key, err := newKey(p.path("hand", "key"))
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	dir := p.path("hand", "root")
	h.root = &place{dir: dir, env: append(append([]string{}, p.env...), "TF_REATTACH_PROVIDERS="+string(attach), "CHECKPOINT_DISABLE=1")}
	err = os.MkdirAll(dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "main.tf"), []byte(fmt.Sprintf(handRoot, machinesWanted, key.public)), 0o600)
	}
	if err == nil {
		_, err = h.root.timed(context.Background(), "terraform", "init", "-input=false")
	}
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

const handRoot = `terraform {
  required_providers {
    levin = {
      source = "levinrun/levin"
    }
  }
}

resource "levin_machine" "machine" {
  count          = %d
  name           = "hand-${count.index}"
  run            = "hand"
  ssh_public_key = %q
  lease_seconds  = 600
}

output "machines" {
  value = { for m in levin_machine.machine : m.name => "${m.address}:${m.port}" }
}
`

func (h *handWritten) round(ctx context.Context) (apply, destroy time.Duration, err error) {
	apply, err = h.root.timed(ctx, "terraform", "apply", "-auto-approve", "-input=false")
	// Destroyed whatever happened: machines live on by themselves.
	destroy, derr := h.root.timed(context.WithoutCancel(ctx), "terraform", "destroy", "-auto-approve", "-input=false")
	return apply, destroy, errors.Join(err, derr)
}

func (h *handWritten) close() error { return h.cloud.Close() }
