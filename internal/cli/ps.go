package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/internal/ui"
)

type psOptions struct {
	Run string
	All bool
}

func newPs(d *deps) *cobra.Command {
	var o psOptions
	cmd := &cobra.Command{
		Use:   "ps [RUN]",
		Short: "List runs, or the calls and machines of one run",
		Args:  checked(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.Run = args[0]
			}
			return d.ps(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVarP(&o.All, "all", "a", false, "also runs that have finished")
	return cmd
}

// runStatus is one run of `levin ps --json`.
type runStatus struct {
	cluster.Run
	// Orphaned: the run is not finished and no process looks after it.
	Orphaned bool              `json:"orphaned"`
	Up       int               `json:"up"`   // machines that are not gone
	Rate     float64           `json:"rate"` // USD per hour, now
	Cost     float64           `json:"cost"` // USD so far
	Calls    []cluster.Call    `json:"calls,omitempty"`
	Machines []cluster.Machine `json:"machines,omitempty"`
}

func (d *deps) ps(ctx context.Context, o psOptions) error {
	settings, store, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if o.Run != "" {
		run, err := findRun(ctx, store, o.Run)
		if err != nil {
			return err
		}
		s, err := d.status(ctx, store, run, runDir(settings, run.ID), true)
		if err != nil {
			return err
		}
		return d.printRun(s)
	}
	runs, err := store.Runs(ctx, cluster.RunFilter{Active: !o.All})
	if err != nil {
		return err
	}
	var all []runStatus
	for _, run := range runs {
		s, err := d.status(ctx, store, run, runDir(settings, run.ID), false)
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	return d.printRuns(all)
}

func (d *deps) status(ctx context.Context, store cluster.Store, run cluster.Run, dir string, details bool) (runStatus, error) {
	machines, err := store.Machines(ctx, run.ID)
	if err != nil {
		return runStatus{}, err
	}
	s := runStatus{Run: run, Orphaned: !run.State.Final() && !controllerAlive(dir), Cost: cluster.NewLedger(run, machines, d.Now()).Cost}
	for _, m := range machines {
		if !m.State.Final() {
			s.Up++
			s.Rate += m.PricePerHour
		}
	}
	if details {
		s.Machines = machines
		s.Calls, err = store.Calls(ctx, run.ID)
	}
	return s, err
}

func (d *deps) printRuns(all []runStatus) error {
	if d.json {
		enc := json.NewEncoder(d.Stdout)
		for _, s := range all {
			if err := enc.Encode(s); err != nil {
				return err
			}
		}
		return nil
	}
	if len(all) == 0 {
		fmt.Fprintln(d.Stdout, "nothing is running (levin ps --all lists finished runs)")
		return nil
	}
	t := tabwriter.NewWriter(d.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RUN\tSTATE\tCLOUD\tMACHINES\t$/H\tCOST\tAGE")
	for _, s := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", s.ID, stateText(s), s.Cloud, s.Up, ui.Dollars(s.Rate), ui.Dollars(s.Cost), ui.Duration(d.Now().Sub(s.CreatedAt).Seconds()))
	}
	t.Flush()
	for _, s := range all {
		if s.Orphaned {
			fmt.Fprintf(d.Stdout, "%s has lost its controller; clean up with: levin down %s\n", s.ID, s.ID)
		}
	}
	return nil
}

func stateText(s runStatus) string {
	switch {
	case s.Orphaned:
		return "orphaned"
	case s.State.Final() && s.Up > 0 && s.Kept:
		return string(s.State) + ", kept"
	case s.State.Final() && s.Up > 0:
		return string(s.State) + ", LEAKED"
	}
	return string(s.State)
}

func (d *deps) printRun(s runStatus) error {
	if d.json {
		return json.NewEncoder(d.Stdout).Encode(s)
	}
	fmt.Fprintf(d.Stdout, "%s  %s  %s  cost %s\n", s.ID, stateText(s), s.AppDir, ui.Dollars(s.Cost))
	if s.Error != "" {
		fmt.Fprintln(d.Stdout, ui.CleanLines(s.Error))
	}
	t := tabwriter.NewWriter(d.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nCALL\tSTATE\tATTEMPT\tMACHINE\tEXIT\tTIME\tERROR")
	for _, c := range s.Calls {
		exit := "-"
		if c.ExitCode != nil {
			exit = fmt.Sprint(*c.ExitCode)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", ui.Who(c.Component, c.Each), c.State, c.Attempt, dash(c.Machine), exit, d.span(c.StartedAt, c.FinishedAt), ui.Clean(firstLine(c.Error)))
	}
	if len(s.Machines) > 0 {
		fmt.Fprintln(t, "\nMACHINE\tSTATE\tCLOUD\tTYPE\tADDRESS\t$/H\tTIME")
		for _, m := range s.Machines {
			address := "-"
			if m.Address != "" {
				address = fmt.Sprintf("%s:%d", m.Address, m.Port)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, m.State, m.Cloud, dash(m.Type), address, ui.Dollars(m.PricePerHour), d.span(m.CreatingAt, m.GoneAt))
		}
	}
	return t.Flush()
}

// span is how long something took, or has taken so far.
func (d *deps) span(from, to time.Time) string {
	if from.IsZero() {
		return "-"
	}
	if to.IsZero() {
		to = d.Now()
	}
	return ui.Duration(to.Sub(from).Seconds())
}
