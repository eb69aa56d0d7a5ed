package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/internal/ui"
)

func newCost(d *deps) *cobra.Command {
	return &cobra.Command{
		Use:   "cost [RUN]",
		Short: "Show what each machine cost and what stopping early saved (default: every run)",
		Args:  checked(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			run := ""
			if len(args) == 1 {
				run = args[0]
			}
			return d.cost(cmd.Context(), run)
		},
	}
}

func (d *deps) cost(ctx context.Context, id string) error {
	_, store, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if id != "" {
		run, err := findRun(ctx, store, id)
		if err != nil {
			return err
		}
		ledger, err := d.ledger(ctx, store, run)
		if err != nil {
			return err
		}
		return d.printLedger(ledger)
	}
	runs, err := store.Runs(ctx, cluster.RunFilter{})
	if err != nil {
		return err
	}
	ledgers := make([]cluster.Ledger, len(runs))
	for i, run := range runs {
		if ledgers[i], err = d.ledger(ctx, store, run); err != nil {
			return err
		}
	}
	return d.printLedgers(runs, ledgers)
}

func (d *deps) ledger(ctx context.Context, store cluster.Store, run cluster.Run) (cluster.Ledger, error) {
	machines, err := store.Machines(ctx, run.ID)
	if err != nil {
		return cluster.Ledger{}, err
	}
	return cluster.NewLedger(run, machines, d.Now()), nil
}

func (d *deps) printLedger(l cluster.Ledger) error {
	if d.json {
		enc := json.NewEncoder(d.Stdout)
		for _, e := range l.Entries {
			if err := enc.Encode(e); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(d.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MACHINE\tCLOUD\tTYPE\tTIME\t$/H\tCOST\tSAVED")
	for _, e := range l.Entries {
		time := ui.Duration(e.Seconds)
		if e.Open {
			time += " and counting"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Machine, e.Cloud, dash(e.Type), time, ui.Dollars(e.PricePerHour), ui.Dollars(e.Cost), ui.Dollars(e.Saved))
	}
	fmt.Fprintf(t, "total\t\t\t%s\t\t%s\t%s\n", ui.Duration(l.Seconds), ui.Dollars(l.Cost), ui.Dollars(l.Saved))
	return t.Flush()
}

func (d *deps) printLedgers(runs []cluster.Run, ledgers []cluster.Ledger) error {
	if d.json {
		enc := json.NewEncoder(d.Stdout)
		for i, run := range runs {
			line := struct {
				Run      string  `json:"run"`
				Machines int     `json:"machines"`
				Seconds  float64 `json:"seconds"`
				Cost     float64 `json:"cost"`
				Saved    float64 `json:"saved"`
			}{run.ID, len(ledgers[i].Entries), ledgers[i].Seconds, ledgers[i].Cost, ledgers[i].Saved}
			if err := enc.Encode(line); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(d.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RUN\tMACHINES\tMACHINE TIME\tCOST\tSAVED")
	var cost, saved float64
	for i, run := range runs {
		l := ledgers[i]
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\n", run.ID, len(l.Entries), ui.Duration(l.Seconds), ui.Dollars(l.Cost), ui.Dollars(l.Saved))
		cost, saved = cost+l.Cost, saved+l.Saved
	}
	fmt.Fprintf(t, "total\t\t\t%s\t%s\n", ui.Dollars(cost), ui.Dollars(saved))
	return t.Flush()
}
