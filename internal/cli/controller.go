package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/flow"
	"github.com/levinrun/levin/launcher"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/terraform"
)

// controller carries one run from its first row to its last machine.
type controller struct {
	d        *deps
	settings configs.Settings
	app      *configs.App
	plan     provision.Plan
	clouds   []provision.Cloud
	runner   terraform.Runner
	journal  *cluster.Journal
	logger   *slog.Logger
	secrets  map[string]string
	keep     time.Duration
	readyFD  int // who started this process detached is told on it; 0 for nobody

	run  cluster.Run
	dir  string
	lock *flock.Flock
	prov *provision.Provisioner
	exec *executor
	// server takes orders until the run's last event has gone out.
	server *flow.Server
}

// open makes the run's folder, takes its lock and commits its first row. Nothing
// has been created yet.
func (c *controller) open(ctx context.Context, id, cloud string) error {
	spec, err := json.Marshal(c.app)
	if err != nil {
		return err
	}
	c.dir = runDir(c.settings, id)
	for _, dir := range []string{c.dir, tempDir(c.settings)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return &cluster.Failure{Kind: cluster.BadInput, What: "could not make the run's folder", Err: err}
		}
	}
	c.lock = flock.New(lockPath(c.dir))
	if ok, err := c.lock.TryLock(); err != nil || !ok {
		return errors.Join(fmt.Errorf("could not take the lock of run %s", id), err)
	}
	host, _ := os.Hostname() // only shown to people
	c.run = cluster.Run{
		ID: id, App: c.app.Name, AppDir: c.app.Dir, Cloud: cloud, State: cluster.RunPending,
		Spec: spec, CreatedAt: c.d.Now().UTC(), Kept: c.keep > 0,
		Controller: cluster.Controller{Host: host, PID: os.Getpid(), Socket: socketPath(c.dir)},
	}
	return c.journal.Commit(ctx, cluster.Change{
		Run:    &c.run,
		Events: append([]cluster.Event{c.event(cluster.EventRunStarted)}, c.planEvents()...),
	})
}

func (c *controller) event(t cluster.EventType) cluster.Event {
	return cluster.Event{Time: c.d.Now().UTC(), Run: c.run.ID, Type: t}
}

// planEvents tells which offer each component gets, and what it lacks.
func (c *controller) planEvents() []cluster.Event {
	var events []cluster.Event
	for _, choice := range c.plan.Choices {
		o := choice.Offers[0]
		e := c.event(cluster.EventPlanChosen)
		e.Component, e.Cloud, e.Region, e.Zone, e.Offer, e.PricePerHour = choice.Component, o.Cloud, o.Region, o.Zone, o.Type, o.PricePerHour
		e.Spot = o.Spot
		e.Message = missingText(o)
		events = append(events, e)
	}
	return events
}

// work makes the run known to others, runs builds and then the app, until every
// call is final. It returns when no new work will start; machines may still be up.
func (c *controller) work(ctx context.Context) (flow.Result, error) {
	emit := func(e cluster.Event) {
		e.Time, e.Run = c.d.Now().UTC(), c.run.ID
		// A lost build event is not worth a run.
		if err := c.journal.Commit(context.WithoutCancel(ctx), cluster.Change{Events: []cluster.Event{e}}); err != nil {
			c.logger.Warn("event not written", "type", e.Type, "error", err)
		}
	}
	public, err := newKey(keyPath(c.dir), "levin-"+c.run.ID)
	if err != nil {
		return flow.Result{}, err
	}
	cfg := c.provisionConfig(public)
	cfg.TTL, cfg.Unreached = c.app.TTL, unreached(c.app, c.settings)
	// The executor is there before the first machine is.
	cfg.Extend = func(ctx context.Context, m cluster.Machine, until time.Time) error {
		return c.exec.extend(ctx, m, until)
	}
	c.prov, err = provision.New(cfg)
	if err != nil {
		return flow.Result{}, err
	}
	c.exec = &executor{
		app: c.app, plan: c.plan, prov: c.prov, clouds: byName(c.clouds), keyFile: keyPath(c.dir),
		reach: c.d.reach(c.settings, c.logger), secrets: c.secrets, keep: c.keep,
		sessions: map[string]*session{}, spot: map[string]bool{},
		warn: func(component, message string) {
			e := c.event(cluster.EventWarning)
			e.Component, e.Message = component, message
			emit(e)
		},
	}
	c.exec.reach.Status, c.exec.reach.Rotated = c.exec.condition, c.prov.SetHostKey
	c.exec.reach.Warn = func(machine, text string) { c.exec.warn("", machine+": "+text) }
	coordinator, err := flow.New(flow.Config{
		Run: c.run, App: c.app, Journal: c.journal, Executor: c.exec, Dir: c.dir, Reuse: c.plan.Reuses, Now: c.d.Now,
	})
	if err != nil {
		return flow.Result{}, err
	}
	c.server, err = flow.Serve(socketPath(c.dir), c.journal, coordinator)
	if err != nil {
		return flow.Result{}, err
	}
	// From here on the run can be followed and stopped by others.
	if err := announceReady(c.readyFD, c.run.ID); err != nil {
		return flow.Result{}, err
	}
	if err := c.build(ctx, emit); err != nil {
		return flow.Result{}, err
	}
	return coordinator.Run(ctx)
}

// build runs the app's builds. Beside them the agent is found, or built when this
// version of Levin has not run here before: it is needed as soon as the first
// machine answers.
func (c *controller) build(ctx context.Context, emit func(cluster.Event)) error {
	first := c.plan.Choices[0].Offers[0]
	agentReady := make(chan error, 1)
	go func() {
		_, err := c.d.agentSource(c.settings)(ctx, first.OS, first.Arch)
		agentReady <- err
	}()
	err := c.d.runBuilds(ctx, c.app, buildsOf(c.app, c.plan), emit)
	select {
	case agentErr := <-agentReady:
		return errors.Join(err, agentErr)
	case <-time.After(agentNotice):
		emit(cluster.Event{Type: cluster.EventBuildStarted, Message: fmt.Sprintf("levin's agent for %s/%s, once", first.OS, first.Arch)})
		return errors.Join(err, <-agentReady)
	}
}

// agentNotice is how long a person may wonder before being told what is waited
// for.
const agentNotice = 300 * time.Millisecond

func (c *controller) provisionConfig(publicKey string) provision.Config {
	return provision.Config{
		Run: c.run.ID, Dir: c.dir, KeyFile: keyPath(c.dir), PubKey: publicKey,
		Journal: c.journal, Runner: c.runner, Clouds: c.clouds, Now: c.d.Now,
		Tags:       map[string]string{"levin-run": c.run.ID, "levin-owner": c.d.Getenv("USER")},
		Ingress:    c.d.ingress(c.settings),
		Backend:    backend(c.settings),
		BackendEnv: c.d.backendEnv(c.settings),
	}
}

// backend is where Terraform keeps its states; nil is beside the roots.
func backend(s configs.Settings) *terraform.Backend {
	if s.State == nil {
		return nil
	}
	return &terraform.Backend{Type: s.State.Backend, Config: s.State.Config}
}

// backendEnv is what Terraform is given of the user's environment for its
// backend.
func (d *deps) backendEnv(s configs.Settings) map[string]string {
	env := map[string]string{}
	if s.State != nil {
		for _, name := range s.State.Env {
			if v, ok := d.lookupEnv(name); ok {
				env[name] = v
			}
		}
	}
	return env
}

// unreached is after how long a machine of the app that nobody has reached ends
// itself: when its component has stopped waiting for it, and a lease beyond.
func unreached(app *configs.App, s configs.Settings) time.Duration {
	longest := time.Duration(0)
	for _, c := range app.Components {
		longest = max(longest, c.StartTimeout)
	}
	return longest + s.Lease
}

// reach is how machines are reached.
func (d *deps) reach(s configs.Settings, logger *slog.Logger) launcher.Config {
	return launcher.Config{
		Agent: d.agentSource(s), Lease: s.Lease, LostAfter: s.LostAfter,
		Digests: filepath.Join(d.cacheDir(s), "digests"), Logger: logger,
	}
}

// stopMachines ends every machine of the run, or, for a run that keeps them,
// those that are on their way out already. It gives those that could not be
// confirmed gone.
func (c *controller) stopMachines(ctx context.Context, reason string, keep bool) (left []cluster.Machine, err error) {
	if c.prov == nil {
		return nil, nil // nothing was ever asked for
	}
	defer c.prov.Close()
	c.exec.releaseAll(reason)
	if keep {
		return nil, c.waitSettled(ctx)
	}
	c.prov.StopAll(reason) // also machines that never got as far as a connection
	return c.prov.Wait(ctx)
}

// waitSettled waits until each machine is either up or gone.
func (c *controller) waitSettled(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	defer c.journal.Listen(func(cluster.Event) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})()
	for {
		machines, err := c.journal.Store().Machines(ctx, c.run.ID)
		if err != nil {
			return err
		}
		unsettled := slices.ContainsFunc(machines, func(m cluster.Machine) bool {
			return m.State != cluster.MachineReady && !m.State.Final()
		})
		if !unsettled {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// finish writes the run's last row and event.
func (c *controller) finish(ctx context.Context, outcome cluster.RunState, left []cluster.Machine, reason error) error {
	run, err := c.journal.Store().Run(ctx, c.run.ID)
	if err != nil {
		return err
	}
	machines, err := c.journal.Store().Machines(ctx, run.ID)
	if err != nil {
		return err
	}
	if run.State != cluster.RunStopping { // it failed before the coordinator began
		run.State = cluster.RunStopping
		if err := c.journal.Commit(ctx, cluster.Change{Run: &run}); err != nil {
			return err
		}
	}
	run.State, run.Outcome, run.FinishedAt, run.Leaked = outcome, outcome, c.d.Now().UTC(), len(left)
	run.Kept = run.Kept && slices.ContainsFunc(machines, func(m cluster.Machine) bool { return m.State == cluster.MachineReady })
	if reason != nil {
		run.Error = reason.Error()
	}
	ledger := cluster.NewLedger(run, machines, run.FinishedAt)
	e := c.event(cluster.EventRunFinished)
	e.State, e.Error = string(outcome), run.Error
	e.Seconds = run.FinishedAt.Sub(run.CreatedAt).Seconds()
	e.Cost, e.Saved, e.Leaked = &ledger.Cost, &ledger.Saved, &run.Leaked
	e.Message = c.epilogue(run, machines)
	return c.journal.Commit(ctx, cluster.Change{Run: &run, Events: []cluster.Event{e}})
}

// epilogue tells where the outputs are and which machines were kept.
func (c *controller) epilogue(run cluster.Run, machines []cluster.Machine) string {
	var text string
	if entries, err := os.ReadDir(filepath.Join(c.dir, "artifacts")); err == nil && len(entries) > 0 {
		text = "outputs: " + filepath.Join(c.dir, "artifacts")
	}
	if run.Kept {
		for _, m := range machines {
			if !m.State.Final() {
				text += fmt.Sprintf("\nkept for %s: %s  (levin ssh %s; levin down %s)", c.keep, m.Name, m.Name, c.run.ID)
			}
		}
	}
	return text
}

// close removes what only a live run needs.
func (c *controller) close(left []cluster.Machine, keep bool) {
	if len(left) == 0 && !keep {
		os.Remove(keyPath(c.dir)) // no machine accepts it any more
	}
	if c.server != nil {
		c.server.Close()
	}
	if c.lock != nil {
		c.lock.Unlock()
	}
}

func byName(clouds []provision.Cloud) map[string]provision.Cloud {
	m := map[string]provision.Cloud{}
	for _, c := range clouds {
		m[c.Name()] = c
	}
	return m
}
