package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/flow"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/terraform"
)

type runOptions struct {
	App     string
	Cloud   string
	Set     []string
	Secrets []string
	Detach  bool
	Keep    time.Duration

	id      string // given by `levin run --detach` to its child
	readyFD int    // the child says on it that the run has begun
}

func newRun(d *deps) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run APP",
		Short: "Run an app: machines up, work done, results back, machines gone",
		Long: `Run an app. APP is an app file or the folder that holds app.yaml.

The first Ctrl-C stops gracefully: no new work, running work is told to stop, every
machine is stopped and confirmed gone. The second leaves at once and says what is left.`,
		Example: `  levin run examples/train-analyze
  levin run app.yaml --cloud rack --secret HF_TOKEN --set components.train.retries=2`,
		Args: checked(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.App = args[0]
			if o.Detach {
				return d.runDetached(cmd.Context(), o)
			}
			return d.runApp(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Cloud, "cloud", "", "where machines come from, one name or several with commas (default: settings, else local)")
	f.StringArrayVar(&o.Set, "set", nil, "change a key of the app file for this run: KEY=VALUE, as in components.train.retries=2")
	f.StringArrayVar(&o.Secrets, "secret", nil, "give the work a secret: NAME (from the environment) or NAME=@FILE")
	f.BoolVar(&o.Detach, "detach", false, "go on in the background; print the run's id")
	f.DurationVar(&o.Keep, "keep", 0, "leave machines up this long after the run, to look around (`levin ssh`)")
	f.Lookup("keep").NoOptDefVal = "1h"
	f.StringVar(&o.id, "id", "", "")
	f.IntVar(&o.readyFD, "ready-fd", 0, "")
	f.MarkHidden("id")
	f.MarkHidden("ready-fd")
	return cmd
}

// prepared is an app that could be run: everything that can be refused has been.
type prepared struct {
	settings configs.Settings
	app      *configs.App
	names    []string // of the clouds
}

func (d *deps) prepare(app, cloud string, set []string) (prepared, error) {
	settings, err := d.settings(map[string]string{"cloud": cloud})
	if err != nil {
		return prepared{}, err
	}
	a, err := configs.Load(d.abs(app), set)
	if err != nil {
		return prepared{}, err
	}
	return prepared{settings, a.WithDefaults(settings), splitClouds(settings.Cloud)}, nil
}

// gcPercent is Go's GOGC for a controller: it waits most of the time, and with
// many machines what it holds matters more than the time that collecting takes.
const gcPercent = 50

// runApp runs an app in this process, from the app file to the last machine.
func (d *deps) runApp(ctx context.Context, o runOptions) error {
	if d.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if o.Keep < 0 {
		return usagef("--keep %s: the time cannot be negative", o.Keep)
	}
	p, err := d.prepare(o.App, o.Cloud, o.Set)
	if err != nil {
		return err
	}
	if o.Keep > p.app.TTL {
		return usagef("--keep %s: machines live for %s at the most; set a longer ttl in the app file", o.Keep, p.app.TTL)
	}
	secrets, err := d.readSecrets(o.Secrets)
	if err != nil {
		return err
	}
	logger, closeLog, err := d.logger()
	if err != nil {
		return err
	}
	defer closeLog()
	store, err := openStore(ctx, p.settings)
	if err != nil {
		return err
	}
	defer store.Close()
	journal := cluster.NewJournal(store)
	clouds, closeClouds, err := d.newClouds(p.settings, p.names, journal, logger)
	if err != nil {
		return err
	}
	defer closeClouds()
	cooldowns, err := store.Cooldowns(ctx, d.Now())
	if err != nil {
		return err
	}
	plan, err := provision.NewPlan(ctx, p.app, clouds, d.planOptions(p.settings, cooldowns))
	if err != nil {
		return err
	}
	runner, err := d.newRunner(ctx, p.settings, logger)
	if err != nil {
		return err
	}

	c := &controller{
		d: d, settings: p.settings, app: p.app, plan: plan, clouds: clouds, runner: runner,
		journal: journal, logger: logger, secrets: secrets, keep: o.Keep, readyFD: o.readyFD,
	}
	sink := d.newSink()
	defer sink.Close()
	defer journal.Listen(sink.Event)()

	id := o.id
	if id == "" {
		id = cluster.NewRunID(p.app.Name)
	}
	if err := c.open(ctx, id, p.settings.Cloud); err != nil {
		return err
	}
	d.Interrupts.SetLeft(func() string {
		return fmt.Sprintf("run %s may have left machines behind; remove them with:\n  levin down %s", id, id)
	})
	defer d.Interrupts.SetLeft(nil)
	return c.carryOut(ctx)
}

// carryOut does the work, then cleans up whatever happened, then says how it
// went. Clean-up has its own deadline: ctx may be what ended.
func (c *controller) carryOut(ctx context.Context) error {
	result, workErr := c.work(ctx)
	outcome := outcomeOf(ctx, result, workErr)

	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.settings.StopTimeout)
	defer cancel()
	keep := c.keep > 0 && outcome != cluster.RunCancelled
	left, stopErr := c.stopMachines(cleanup, "run "+string(outcome), keep)
	reason := errors.Join(workErr, result.Err, stopErr)

	final, cancelFinal := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancelFinal()
	finishErr := c.finish(final, outcome, left, reason)
	c.close(left, keep)

	switch {
	case len(left) > 0 || stopErr != nil:
		return &cluster.Failure{
			Kind: cluster.Unclean, What: "could not confirm that these machines are gone: " + ids(left), Err: stopErr,
			Next: fmt.Sprintf("they may still cost money; try again with `levin down %s`, or end them in the cloud's own console", c.run.ID),
		}
	case wasInterrupted(ctx):
		return exitError{ExitInterrupted}
	case finishErr != nil:
		return finishErr
	case outcome == cluster.RunSucceeded:
		return nil
	}
	// The last event has told why; only the code is left to say.
	if code := exitCode(ctx, reason); code != ExitOK {
		return exitError{code}
	}
	return exitError{ExitWorkFailed}
}

func outcomeOf(ctx context.Context, r flow.Result, err error) cluster.RunState {
	switch {
	case wasInterrupted(ctx):
		return cluster.RunCancelled
	case err != nil:
		return cluster.RunFailed
	}
	return r.Outcome
}

// newRunner finds Terraform and makes the runner for it.
func (d *deps) newRunner(ctx context.Context, s configs.Settings, logger logger) (*terraform.Exec, error) {
	binary, err := terraform.Find(ctx, terraform.FindOptions{Path: s.Terraform, CacheDir: d.cacheDir(s), Env: d.Env})
	if err != nil {
		return nil, err
	}
	return terraform.NewRunner(terraform.Config{
		Binary: binary, CacheDir: d.cacheDir(s), TempDir: tempDir(s), Env: d.Env, MaxProcesses: s.MaxTerraform, Logger: logger,
	})
}

// missingText says what an offer lacks and is run without.
func missingText(o provision.Offer) string {
	if len(o.Missing) == 0 {
		return ""
	}
	missing := slices.Clone(o.Missing)
	slices.Sort(missing)
	return fmt.Sprintf("lacks %s; runs all the same", strings.Join(missing, ", "))
}
