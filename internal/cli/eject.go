package cli

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/terraform"
)

type ejectOptions struct {
	What  string // an app, or a run
	Dir   string
	Cloud string
	Set   []string
}

func newEject(d *deps) *cobra.Command {
	var o ejectOptions
	cmd := &cobra.Command{
		Use:   "eject APP|RUN DIR",
		Short: "Write the complete Terraform for an app's plan or a run's machines, to go on without levin",
		Long: `Write a folder of plain Terraform (modules, root, variables, README) that creates the machines
which an app would get, or which a run had: terraform init && terraform apply. Nothing is
created here, and the folder holds no key and no secret.`,
		Args: checked(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.What, o.Dir = args[0], args[1]
			return d.eject(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Cloud, "cloud", "", "where machines come from, one name or several with commas")
	cmd.Flags().StringArrayVar(&o.Set, "set", nil, "change a key of the app file: KEY=VALUE")
	return cmd
}

func (d *deps) eject(ctx context.Context, o ejectOptions) error {
	var roots []terraform.Root
	var name string
	var err error
	if _, statErr := os.Stat(d.abs(o.What)); statErr == nil {
		name, roots, err = d.rootsOfApp(ctx, o)
	} else {
		name, roots, err = d.rootsOfRun(ctx, o.What)
	}
	if err != nil {
		return err
	}
	if err := terraform.Eject(d.abs(o.Dir), roots, terraform.EjectOptions{Name: name}); err != nil {
		return err
	}
	machines := 0
	for _, r := range roots {
		machines += len(r.Machines)
	}
	return d.said("eject", "", "", fmt.Sprintf("%s holds the Terraform of %d machines; read its README.md", d.abs(o.Dir), machines))
}

// rootsOfApp makes the roots that running the app would make if all of it ran at
// once.
func (d *deps) rootsOfApp(ctx context.Context, o ejectOptions) (string, []terraform.Root, error) {
	p, err := d.prepare(o.What, o.Cloud, o.Set)
	if err != nil {
		return "", nil, err
	}
	logger, closeLog, err := d.logger()
	if err != nil {
		return "", nil, err
	}
	defer closeLog()
	clouds, closeClouds, err := d.newClouds(p.settings, p.names, cluster.NewJournal(memory.New()), logger)
	if err != nil {
		return "", nil, err
	}
	defer closeClouds()
	plan, err := provision.NewPlan(ctx, p.app, clouds, d.planOptions(p.settings, nil))
	if err != nil {
		return "", nil, err
	}
	roots, err := plannedRoots(ctx, p.app, plan, byName(clouds))
	for i := range roots {
		roots[i].IngressCIDRs, roots[i].TTL = p.settings.Ingress, int(p.app.TTL.Seconds())
	}
	return p.app.Name, roots, err
}

// plannedRoots gives one root for each cloud and region of a plan, with a machine
// for every one that each component may have at a time.
func plannedRoots(ctx context.Context, app *configs.App, plan provision.Plan, clouds map[string]provision.Cloud) ([]terraform.Root, error) {
	var roots []terraform.Root
	at := map[[2]string]int{}
	for i, c := range app.Components {
		offer := plan.Choices[i].Offers[0]
		key := [2]string{offer.Cloud, offer.Region}
		if _, ok := at[key]; !ok {
			module, _, err := clouds[offer.Cloud].Module(ctx, offer.Region)
			if err != nil {
				return nil, err
			}
			at[key] = len(roots)
			roots = append(roots, terraform.Root{
				Run: app.Name, Group: cluster.Name(app.Name, offer.Cloud, offer.Region), Module: module,
				Machines: map[string]terraform.MachineInput{}, Extra: module.Variables,
			})
		}
		alternatives := provision.Alternatives(c.Resources)
		asked := slices.IndexFunc(alternatives, func(r configs.Resources) bool { return provision.Fits(&offer, &r) })
		input, err := clouds[offer.Cloud].Input(offer, alternatives[asked])
		if err != nil {
			return nil, err
		}
		input.Ports = c.Ports
		input.Extra = maps.Clone(input.Extra)
		if input.Extra == nil {
			input.Extra = map[string]any{}
		}
		input.Extra["component"] = c.Name
		for n := range min(max(1, len(c.ForEach)), c.MaxMachines) {
			roots[at[key]].Machines[cluster.Name(app.Name, c.Name, strconv.Itoa(n+1))] = input
		}
	}
	return roots, nil
}

// rootsOfRun reads what a run asked for from the roots in its folder.
func (d *deps) rootsOfRun(ctx context.Context, id string) (string, []terraform.Root, error) {
	settings, store, err := d.open(ctx)
	if err != nil {
		return "", nil, err
	}
	defer store.Close()
	run, err := findRun(ctx, store, id)
	if err != nil {
		return "", nil, fmt.Errorf("%q is neither an app file nor a run: %w", id, err)
	}
	groups, err := store.Groups(ctx, run.ID)
	if err != nil {
		return "", nil, err
	}
	logger, closeLog, err := d.logger()
	if err != nil {
		return "", nil, err
	}
	defer closeLog()
	clouds, closeClouds, err := d.newClouds(settings, cloudsOfGroups(groups, settings), cluster.NewJournal(store), logger)
	if err != nil {
		return "", nil, err
	}
	defer closeClouds()
	byName := byName(clouds)
	var roots []terraform.Root
	for _, g := range groups {
		cloud := byName[g.Cloud]
		if cloud == nil {
			return "", nil, &cluster.Failure{Kind: cluster.BadInput, What: fmt.Sprintf("cloud %q, which run %s used, is not in the settings", g.Cloud, run.ID)}
		}
		module, _, err := cloud.Module(ctx, g.Region)
		if err != nil {
			return "", nil, err
		}
		machines, err := terraform.ReadMachines(g.Dir)
		if err != nil {
			return "", nil, err
		}
		roots = append(roots, terraform.Root{Run: run.ID, Group: g.ID, Module: module, Machines: machines, Extra: module.Variables, IngressCIDRs: settings.Ingress})
	}
	return run.ID, roots, nil
}

func cloudsOfGroups(groups []cluster.Group, s configs.Settings) []string {
	names := map[string]bool{}
	for _, g := range groups {
		if _, ok := s.Clouds[g.Cloud]; ok {
			names[g.Cloud] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
