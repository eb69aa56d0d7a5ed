package cli

import (
	"encoding/json"
	"fmt"
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
	Component   string            `json:"component"`
	Calls       int               `json:"calls"`
	MaxMachines int               `json:"max_machines"` // at the same time
	Offer       provision.Offer   `json:"offer"`
	Fallbacks   []provision.Offer `json:"fallbacks,omitempty"`
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
	plan, err := provision.NewPlan(cmd.Context(), p.app, clouds)
	if err != nil {
		return err
	}
	keepTarget(p.app, plan)
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

func lineOf(c configs.Component, choice provision.Choice) planLine {
	calls := max(1, len(c.ForEach))
	return planLine{c.Name, calls, min(calls, c.MaxMachines), choice.Offers[0], choice.Offers[1:]}
}

func (d *deps) printPlan(app *configs.App, plan provision.Plan) error {
	t := tabwriter.NewWriter(d.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "COMPONENT\tCALLS\tMACHINES\tCLOUD\tTYPE\tCPUS\tMEMORY\tGPU\t$/H EACH")
	total := 0.0
	var notes []string
	for i, c := range app.Components {
		l := lineOf(c, plan.Choices[i])
		f := l.Offer
		gpu := "-"
		if f.GPUs > 0 {
			gpu = fmt.Sprintf("%s x%d", f.GPU, f.GPUs)
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Component, l.Calls, l.MaxMachines, f.Cloud, f.Type, amount(f.CPUs, ""), amount(f.Memory, " GiB"), gpu, ui.Dollars(f.PricePerHour))
		total += f.PricePerHour * float64(l.MaxMachines)
		if len(f.Missing) > 0 {
			notes = append(notes, fmt.Sprintf("%s: %s %s", l.Component, f.Cloud, missingText(f)))
		}
	}
	t.Flush()
	fmt.Fprintf(d.Stdout, "if everything ran at once: %s/h\n", ui.Dollars(total))
	for _, n := range notes {
		fmt.Fprintln(d.Stdout, n)
	}
	return nil
}

// amount prints a quantity, "-" when it is not known.
func amount(v float64, unit string) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.4g%s", v, unit)
}
