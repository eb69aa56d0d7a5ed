package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/spf13/cobra"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/flow"
	"github.com/levinrun/levin/launcher"
	"github.com/levinrun/levin/provision"
)

// shutdownTimeout bounds how long an own host may take to answer before its
// agent is left to its lease.
const shutdownTimeout = 15 * time.Second

type downOptions struct {
	Run string
	All bool
}

func newDown(d *deps) *cobra.Command {
	var o downOptions
	cmd := &cobra.Command{
		Use:   "down RUN | --all",
		Short: "Remove everything a run has left: machines, their Terraform state, agents on own hosts",
		Long: `Remove everything that a run has left, from the store alone: it works when the run's
controller was killed, when Terraform was, and after --keep. A run that is still under
way is stopped first. Doing it twice does no harm.`,
		Args: checked(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == o.All {
				return usagef("say which run, or --all")
			}
			if len(args) == 1 {
				o.Run = args[0]
			}
			return d.down(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.All, "all", false, "every run that has something left")
	return cmd
}

func (d *deps) down(ctx context.Context, o downOptions) error {
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
	var runs []cluster.Run
	if o.All {
		runs, err = store.Runs(ctx, cluster.RunFilter{Active: true})
	} else {
		var run cluster.Run
		run, err = findRun(ctx, store, o.Run)
		runs = []cluster.Run{run}
	}
	if err != nil {
		return err
	}
	sink := d.newSink()
	journal := cluster.NewJournal(store)
	unlisten := journal.Listen(sink.Event)
	var clean []cluster.Run
	for _, run := range runs {
		if downErr := d.downRun(ctx, settings, run, journal, logger); downErr != nil {
			err = errors.Join(err, downErr)
			continue
		}
		clean = append(clean, run)
	}
	unlisten()
	sink.Close() // what was done stands above what is said of it
	for _, run := range clean {
		err = errors.Join(err, d.said("down", run.ID, "", "nothing is left of run "+run.ID))
	}
	return err
}

// downRun ends one run's controller if it lives, then removes what is left.
func (d *deps) downRun(ctx context.Context, s configs.Settings, run cluster.Run, journal *cluster.Journal, logger *slog.Logger) error {
	dir := runDir(s, run.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil { // somebody may have removed it
		return err
	}
	lock, err := d.takeOver(ctx, run.ID, dir)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	run, err = journal.Store().Run(ctx, run.ID) // its controller may have finished it meanwhile
	if err != nil {
		return err
	}
	machines, err := journal.Store().Machines(ctx, run.ID)
	if err != nil {
		return err
	}
	clouds, closeClouds, err := d.newClouds(s, cloudsOf(machines, s), journal, logger)
	if err != nil {
		return err
	}
	defer closeClouds()
	runner, err := d.newRunner(ctx, s, logger)
	if err != nil {
		return err
	}
	c := &controller{d: d, settings: s, clouds: clouds, runner: runner, journal: journal, logger: logger, run: run, dir: dir, lock: lock}
	d.shutdownHosts(ctx, s, byName(clouds), machines, dir, logger)
	c.prov, err = provision.Recover(ctx, c.provisionConfig(""))
	if err != nil {
		return err
	}
	defer c.prov.Close()
	c.prov.StopAll("levin down")
	cleanup, cancel := context.WithTimeout(ctx, s.StopTimeout)
	defer cancel()
	left, stopErr := c.prov.Wait(cleanup)

	if err := c.closeRun(context.WithoutCancel(ctx), run, left); err != nil {
		return err
	}
	if len(left) > 0 || stopErr != nil {
		return &cluster.Failure{
			Kind: cluster.Unclean, What: "could not confirm that these machines are gone: " + ids(left), Err: stopErr,
			Next: "they may still cost money; try again, or end them in the cloud's own console",
		}
	}
	os.Remove(keyPath(dir))
	os.Remove(socketPath(dir))
	return nil
}

// takeOver stops a controller that still lives and waits for it to end, then
// holds the run's lock. The kernel frees the lock of a controller that died.
func (d *deps) takeOver(ctx context.Context, run, dir string) (*flock.Flock, error) {
	lock := flock.New(lockPath(dir))
	if ok, err := lock.TryLock(); err != nil || ok {
		return lock, err
	}
	fmt.Fprintf(d.Stderr, "levin: run %s is still under way; stopping it first\n", run)
	if client, err := flow.Dial(socketPath(dir)); err == nil {
		err = client.Stop(ctx, "")
		client.Close()
		if err != nil {
			return nil, err
		}
	}
	taken := make(chan error, 1)
	go func() { taken <- lock.Lock() }() // ends when the controller does
	select {
	case err := <-taken:
		return lock, err
	case <-ctx.Done():
		go func() {
			if <-taken == nil {
				lock.Unlock()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// cloudsOf lists the clouds of machines that still are in the settings; the
// provisioner names those that are not.
func cloudsOf(machines []cluster.Machine, s configs.Settings) []string {
	var names []string
	for _, m := range machines {
		if _, ok := s.Clouds[m.Cloud]; ok {
			names = append(names, m.Cloud)
		}
	}
	return unique(names)
}

// shutdownHosts tells agents on own hosts to end: such a host is not powered
// off, so nothing else would end the work there before the lease does.
func (d *deps) shutdownHosts(ctx context.Context, s configs.Settings, clouds map[string]provision.Cloud, machines []cluster.Machine, dir string, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, m := range machines {
		cloud := clouds[m.Cloud]
		if cloud == nil || m.Address == "" || m.State.Final() {
			continue
		}
		target, err := cloud.Target(m, keyPath(dir))
		if err != nil || target.PowerOff {
			continue
		}
		wg.Go(func() {
			session, err := launcher.Connect(ctx, d.reach(s, logger), m.Name, target)
			if err == nil {
				err = session.Shutdown(ctx)
				session.Close()
			}
			if err != nil {
				fmt.Fprintf(d.Stderr, "levin: the agent of %s on %s did not answer; it ends itself when its lease runs out: %v\n", m.Name, m.Address, err)
			}
		})
	}
	wg.Wait()
}

// closeRun brings the run's row to its end.
func (c *controller) closeRun(ctx context.Context, run cluster.Run, left []cluster.Machine) error {
	if run.State.Final() {
		run.Leaked, run.Kept = len(left), false
		return c.journal.Commit(ctx, cluster.Change{Run: &run})
	}
	if err := c.cancelCalls(ctx, run.ID); err != nil {
		return err
	}
	return c.finish(ctx, cluster.RunCancelled, left, errors.New("its controller ended before it did; cleaned up by `levin down`"))
}

// cancelCalls ends the calls of a run that nobody will carry on.
func (c *controller) cancelCalls(ctx context.Context, run string) error {
	calls, err := c.journal.Store().Calls(ctx, run)
	if err != nil {
		return err
	}
	var change cluster.Change
	for _, call := range calls {
		if call.State.Final() {
			continue
		}
		call.State, call.FinishedAt, call.Error = cluster.CallCancelled, c.d.Now().UTC(), "the run was ended by `levin down`"
		e := c.event(cluster.EventCallCancelled)
		e.Component, e.Call, e.Each, e.Attempt, e.Error = call.Component, call.ID, call.Each, call.Attempt, call.Error
		change.Calls, change.Events = append(change.Calls, call), append(change.Events, e)
	}
	if len(change.Calls) == 0 {
		return nil
	}
	return c.journal.Commit(ctx, change)
}
