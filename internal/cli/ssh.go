package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher"
)

func newSSH(d *deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ssh RUN|MACHINE [COMPONENT] [-- COMMAND...]",
		Short: "Open a shell on a machine of a run, or run one command there",
		Example: `  levin ssh train-analyze-k3v9q2 train
  levin ssh train-analyze-k3v9q2-train-1 -- nvidia-smi`,
		Args: checked(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var command []string
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				args, command = args[:at], args[at:]
			}
			if len(args) < 1 || len(args) > 2 {
				return usagef("say which run or machine, and after -- the command\n  usage: %s", cmd.UseLine())
			}
			component := ""
			if len(args) == 2 {
				component = args[1]
			}
			return d.ssh(cmd.Context(), args[0], component, command)
		},
	}
	return cmd
}

func (d *deps) ssh(ctx context.Context, name, component string, command []string) error {
	settings, store, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	logger, closeLog, err := d.logger()
	if err != nil {
		return err
	}
	defer closeLog()
	m, err := findMachine(ctx, store, name, component)
	if err != nil {
		return err
	}
	clouds, closeClouds, err := d.newClouds(settings, []string{m.Cloud}, cluster.NewJournal(store), logger)
	if err != nil {
		return err
	}
	defer closeClouds()
	target, err := clouds[0].Target(m, keyPath(runDir(settings, m.Run)))
	if err != nil {
		return err
	}
	code, err := launcher.Shell(ctx, d.reach(settings, logger), target, command, launcher.Stdio{In: d.Stdin, Out: d.Stdout, Err: d.Stderr})
	if err != nil {
		return err
	}
	if code != 0 {
		return exitError{code}
	}
	return nil
}

// findMachine finds a machine that is up, by its own name or by run and
// component.
func findMachine(ctx context.Context, store cluster.Store, name, component string) (cluster.Machine, error) {
	up, err := store.AllMachines(ctx)
	if err != nil {
		return cluster.Machine{}, err
	}
	var found []cluster.Machine
	for _, m := range up {
		if m.State != cluster.MachineReady {
			continue
		}
		if m.Name == name {
			return m, nil
		}
		if strings.HasPrefix(m.Run, name) && (component == "" || m.Component == component) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return cluster.Machine{}, usagef("no machine of %s is up\n  machines are stopped the moment their work is done; `levin run --keep` leaves them up", strings.TrimSpace(name+" "+component))
	}
	var names []string
	for _, m := range found {
		names = append(names, m.Name)
	}
	return cluster.Machine{}, usagef("several machines are up, say which: %s", strings.Join(names, ", "))
}
