package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/internal/ui"
	"github.com/levinrun/levin/provision"
)

type planOptions struct {
	App   string
	Cloud string
	Set   []string
}

func newPlan(d *deps) *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "plan APP",
		Short: "Show which machine each component would get, and what that costs; create nothing",
		Args:  checked(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.App = args[0]
			return d.plan(cmd, o)
		},
	}
	cmd.Flags().StringVar(&o.Cloud, "cloud", "", "where machines come from, one name or several with commas")
	cmd.Flags().StringArrayVar(&o.Set, "set", nil, "change a key of the app file: KEY=VALUE")
	return cmd
}

// planLine is one component of `levin plan --json`.
type planLine struct {
	Component   string             `json:"component"`
	Calls       int                `json:"calls"`
	MaxMachines int                `json:"max_machines"` // at the same time
	Offer       provision.Offer    `json:"offer"`
	DataCost    float64            `json:"data_cost,omitempty"` // USD per call
	Reuse       []string           `json:"reuse,omitempty"`     // components whose machine it takes over
	Runners     []provision.Runner `json:"runners,omitempty"`
	Fallbacks   []provision.Offer  `json:"fallbacks,omitempty"`
}

func (d *deps) plan(cmd *cobra.Command, o planOptions) error {
	p, err := d.prepare(o.App, o.Cloud, o.Set)
	if err != nil {
		return err
	}
	logger, closeLog, err := d.logger()
	if err != nil {
		return err
	}
	defer closeLog()
	// A plan claims nothing, so it needs no store of its own.
	clouds, closeClouds, err := d.newClouds(p.settings, p.names, cluster.NewJournal(memory.New()), logger)
	if err != nil {
		return err
	}
	defer closeClouds()
	cooldowns, err := d.cooldowns(cmd.Context(), p.settings)
	if err != nil {
		return err
	}
	plan, err := provision.NewPlan(cmd.Context(), p.app, clouds, d.planOptions(p.settings, cooldowns))
	if err != nil {
		return err
	}
	if d.json {
		enc := json.NewEncoder(d.Stdout)
		for i, c := range p.app.Components {
			if err := enc.Encode(lineOf(c, plan.Choices[i])); err != nil {
				return err
			}
		}
		return nil
	}
	return d.printPlan(p.app, plan)
}

// cooldowns are what earlier runs could not have. A home without runs stays as
// it is.
func (d *deps) cooldowns(ctx context.Context, s configs.Settings) ([]cluster.Cooldown, error) {
	if _, err := os.Stat(storePath(s)); err != nil {
		return nil, nil
	}
	store, err := openStore(ctx, s)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	return store.Cooldowns(ctx, d.Now())
}

// planOptions is what every plan takes into account. Machines of this host move
// their data for nothing, wherever it is.
func (d *deps) planOptions(s configs.Settings, cooldowns []cluster.Cooldown) provision.PlanOptions {
	return provision.PlanOptions{
		Location: s.Location, Cooldowns: cooldowns, Now: d.Now(),
		Place: func(cloud, region string) string {
			switch module := s.Clouds[cloud].Module; {
			case module == "local":
				return s.Location
			case region == "" || strings.Contains(module, "/"):
				return ""
			default:
				return module + "/" + region
			}
		},
	}
}

func lineOf(c configs.Component, choice provision.Choice) planLine {
	calls := max(1, len(c.ForEach))
	return planLine{
		Component: c.Name, Calls: calls, MaxMachines: min(calls, c.MaxMachines),
		Offer: choice.Offers[0], DataCost: choice.DataCost, Reuse: choice.Reuse,
		Runners: choice.Runners, Fallbacks: choice.Offers[1:],
	}
}

func (d *deps) printPlan(app *configs.App, plan provision.Plan) error {
	t := tabwriter.NewWriter(d.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "COMPONENT\tCALLS\tMACHINES\tCLOUD\tREGION\tTYPE\tCPUS\tMEMORY\tGPU\t$/H EACH")
	var notes []string
	note := func(component, format string, args ...any) {
		notes = append(notes, component+": "+fmt.Sprintf(format, args...))
	}
	for i, c := range app.Components {
		l := lineOf(c, plan.Choices[i])
		f := l.Offer
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Component, l.Calls, l.MaxMachines,
			f.Cloud, dash(cmp.Or(f.Zone, f.Region)), typeText(f), amount(f.CPUs, ""), amount(f.Memory, " GiB"), gpuText(f), ui.Dollars(f.PricePerHour))
		if len(f.Missing) > 0 {
			note(l.Component, "%s %s", f.Cloud, missingText(f))
		}
		if l.DataCost > 0 {
			note(l.Component, "moving its data costs %s a call", ui.Dollars(l.DataCost))
		}
		if len(l.Reuse) > 0 {
			note(l.Component, "takes over a machine of %s that is free", strings.Join(l.Reuse, " or "))
		}
	}
	t.Flush()
	fmt.Fprintf(d.Stdout, "if everything ran at once: %s/h\n", ui.Dollars(plan.PricePerHour))
	for _, n := range notes {
		fmt.Fprintln(d.Stdout, n)
	}
	for _, c := range plan.Choices {
		if len(c.Runners) == 0 {
			continue
		}
		fmt.Fprintf(d.Stdout, "\n%s gets %s; not chosen:\n", c.Component, c.Offers[0])
		for _, r := range c.Runners {
			fmt.Fprintf(t, "  %s\t%s/h\t%s\n", r.Offer, ui.Dollars(r.Offer.PricePerHour), r.Why)
		}
		t.Flush()
	}
	return nil
}

// typeText names a machine type and says whether it is spot.
func typeText(o provision.Offer) string {
	if o.Spot {
		return o.Type + " (spot)"
	}
	return o.Type
}

// gpuText gives what GPUs an offer has, "-" without.
func gpuText(o provision.Offer) string {
	if o.GPUs == 0 {
		return "-"
	}
	return fmt.Sprintf("%s x%d", o.GPU, o.GPUs)
}

// amount prints a quantity, "-" when it is not known.
func amount(v float64, unit string) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.4g%s", v, unit)
}
