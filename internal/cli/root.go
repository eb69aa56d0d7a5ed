package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"
)

// Main runs one command line and gives its exit code.
func Main(ctx context.Context, w World) int {
	ctx, stop := w.Interrupts.Watch(ctx)
	defer stop()

	d := &deps{World: w}
	root := newRoot(d)
	root.SetArgs(w.Args)
	root.SetIn(w.Stdin)
	root.SetOut(w.Stdout)
	root.SetErr(w.Stderr)
	err := root.ExecuteContext(ctx)
	code := exitCode(ctx, err)
	if err != nil {
		report(w.Stderr, d.json || slices.Contains(w.Args, "--json"), err, code)
	}
	return code
}

func newRoot(d *deps) *cobra.Command {
	root := &cobra.Command{
		Use:   "levin",
		Short: "Run an app of several components, each on the machine it needs",
		Long: `Levin gives every component of an app the machine it asks for (this machine, your own
SSH hosts, a cloud), ships the code over SSH, runs it, hands results on, and stops
each machine the moment its work is done.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q; `levin help` lists the commands", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w\n  `%s --help` lists the flags", err, cmd.CommandPath())
	})
	root.PersistentFlags().StringVar(&d.home, "home", "", "folder for Levin's state (default: $LEVIN_HOME, else the platform's data folder)")
	root.PersistentFlags().BoolVar(&d.json, "json", false, "one JSON object a line, with stable names")
	root.AddCommand(
		newRun(d), newPlan(d), newPs(d), newLogs(d), newSSH(d), newStop(d), newDown(d),
		newCost(d), newOffers(d), newGC(d), newEject(d), newGraph(d), newDoctor(d), newVersion(d),
	)
	root.SetHelpCommand(&cobra.Command{Use: "help [command]", Short: "Help about any command", RunE: func(cmd *cobra.Command, args []string) error {
		found, _, err := root.Find(args)
		if err != nil {
			return usageError{err}
		}
		return found.Help()
	}})
	return root
}

// exactly and its siblings give cobra's argument checks our exit code.
func checked(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usagef("%w\n  usage: %s", err, cmd.UseLine())
		}
		return nil
	}
}
