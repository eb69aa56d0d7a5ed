package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/flow"
)

func newStop(d *deps) *cobra.Command {
	return &cobra.Command{
		Use:   "stop RUN [COMPONENT]",
		Short: "Stop a run, or one component of it, gracefully",
		Long: `Stop a run as its first Ctrl-C would: no new work, running work is told to stop, every
machine is stopped. With a component: only its calls are cancelled and its machines stopped.
Returns once the controller has taken the order.`,
		Args: checked(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			component := ""
			if len(args) == 2 {
				component = args[1]
			}
			return d.stop(cmd.Context(), args[0], component)
		},
	}
}

func (d *deps) stop(ctx context.Context, id, component string) error {
	settings, store, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	run, err := findRun(ctx, store, id)
	if err != nil {
		return err
	}
	if run.State.Final() {
		return d.said("stop", run.ID, component, fmt.Sprintf("run %s has %s already", run.ID, run.State))
	}
	dir := runDir(settings, run.ID)
	if !controllerAlive(dir) {
		return &cluster.Failure{
			Kind: cluster.BadInput, What: fmt.Sprintf("run %s has lost its controller, so nobody can take the order", run.ID),
			Next: "end its machines with: levin down " + run.ID,
		}
	}
	client, err := flow.Dial(socketPath(dir))
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Stop(ctx, component); err != nil {
		return err
	}
	what := "run " + run.ID
	if component != "" {
		what = component + " of " + what
	}
	return d.said("stop", run.ID, component, "stopping "+what)
}

// said prints what an order did.
func (d *deps) said(order, run, component, text string) error {
	if d.json {
		return json.NewEncoder(d.Stdout).Encode(map[string]string{"order": order, "run": run, "component": component, "message": text})
	}
	_, err := fmt.Fprintln(d.Stdout, text)
	return err
}
