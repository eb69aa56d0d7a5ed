package flow

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

// Config is what a Coordinator works with.
type Config struct {
	// Run is the run's row, committed in state pending, together with the event
	// run.started, before New. The coordinator moves it to running and to stopping;
	// its final state and run.finished belong to whoever waits for the machines.
	Run      cluster.Run
	App      *configs.App
	Journal  *cluster.Journal
	Executor Executor
	// Dir is the folder of the run. Logs go to logs/<attempt>.log, what comes back
	// to artifacts/<call>/.
	Dir string
	// Reuse says whether a machine that was acquired for one component may also run
	// the calls of another one: then it is not released when it has no call of the
	// first and the other would ask for a machine in that moment. nil: never.
	Reuse func(from, to string) bool
	Now   func() time.Time // default time.Now
}

// Result is how a run went.
type Result struct {
	Outcome cluster.RunState // succeeded, failed or cancelled
	Failed  []FailedCall     // calls that failed, in the order they did; at most 20
	// Err is what to tell people and what decides the exit code: the first call
	// that failed (WorkFailed, Provisioning, …) or that the run was stopped
	// (Interrupted). Nil when it succeeded.
	Err error
}

// FailedCall is a call that failed for good.
type FailedCall struct {
	Call      cluster.Call
	LastLines []string // the end of what its last attempt printed
	Log       string   // the file with all of it; may not exist when nothing was printed
	Err       error
}

// Coordinator carries one app from its first call to its last.
type Coordinator struct {
	cfg   Config
	now   func() time.Time
	graph *graph
	inbox inbox

	// Owned by the loop.
	run        cluster.Run
	turn       turn
	waves      []wave     // calls that are yet to be cancelled or skipped
	ready      readyQueue // components that may be able to start a call
	slots      int        // calls that may still start, under the run's max_parallel
	unfinished int        // calls that are not final
	inflight   int        // attempts that have not ended
	stopping   bool
	outcome    cluster.RunState // when stopping: what the run becomes
	stopErr    error            // when stopped by someone: why
	failed     []FailedCall
	broken     error // the journal does not work any more

	workers sync.WaitGroup // goroutines of attempts and releases
}

// turn is what one turn of the loop has decided: first it is written, then done.
type turn struct {
	change   cluster.Change
	releases []release
	cancels  []*attempt
	proceeds []*attempt
	starts   []*attempt
	settle   []*component // components whose idle machines have to be looked at
	forget   []*call      // calls whose checkpoint nobody needs any more
}

type release struct {
	comp            *component
	machine, reason string
}

// How much one turn takes on, so that a machine whose work has ended waits for
// no long queue of other business.
const (
	maxReports = 256 // reports handled
	maxStarts  = 256 // calls started
	maxEndings = 512 // calls cancelled or skipped without having run
)

// New prepares a run. Nothing happens before Run. The app has been validated;
// needs that do not exist or go round in a circle are refused all the same.
func New(cfg Config) (*Coordinator, error) {
	if cfg.App == nil || cfg.Journal == nil || cfg.Executor == nil {
		return nil, errors.New("flow: App, Journal and Executor are needed")
	}
	if !filepath.IsAbs(cfg.Dir) {
		return nil, fmt.Errorf("flow: the run's folder %q is not absolute", cfg.Dir)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	g, err := newGraph(cfg.Run.ID, cfg.App)
	if err != nil {
		return nil, err
	}
	slots := cfg.App.MaxParallel
	if slots <= 0 {
		slots = int(^uint(0) >> 1)
	}
	return &Coordinator{
		cfg: cfg, now: cfg.Now, graph: g, inbox: newInbox(), run: cfg.Run, slots: slots, unfinished: g.size,
	}, nil
}

// Run carries the app until every call is final and every machine has been asked
// to stop. When ctx ends it stops gracefully: no new work, running work is told
// to stop, machines are released. It is called once.
//
// The error says that the run could not be carried on (the journal failed);
// machines have been released even then. A call that failed is no error here but
// in Result.
func (c *Coordinator) Run(ctx context.Context) (Result, error) {
	defer c.workers.Wait()
	c.begin(ctx)
	ended := ctx.Done()
	for !c.over() {
		select {
		case <-ended:
			ended = nil
			c.stop(cluster.RunCancelled, interrupted(context.Cause(ctx)))
		case <-c.inbox.wake:
		}
		for _, report := range c.inbox.take(maxReports) {
			report()
		}
		c.ebb()
		c.dispatch()
		c.flush(ctx)
	}
	c.finish(ctx)
	return c.result(), c.broken
}

// Stop stops the run as an end of ctx does. It returns at once.
func (c *Coordinator) Stop(reason string) {
	c.inbox.post(func() { c.stop(cluster.RunCancelled, interrupted(errors.New(reason))) })
}

// StopComponent cancels the calls of one component that are not final, releases
// its machines and skips what needs it; the rest goes on. It returns once the
// order is taken, with an error only when there is no such component.
func (c *Coordinator) StopComponent(name string) error {
	comp := c.graph.byName[name]
	if comp == nil {
		names := make([]string, len(c.graph.components))
		for i, other := range c.graph.components {
			names[i] = other.spec.Name
		}
		return &cluster.Failure{
			Kind: cluster.BadInput,
			What: fmt.Sprintf("run %s has no component %q", c.cfg.Run.ID, name),
			Next: "it has: " + strings.Join(names, ", "),
		}
	}
	c.inbox.post(func() { c.stopComponent(comp, "stopped by levin stop") })
	return nil
}

// begin journals the run and all its calls, and starts what needs nothing.
func (c *Coordinator) begin(ctx context.Context) {
	c.run.State, c.run.StartedAt = cluster.RunRunning, c.now().UTC()
	run := c.run
	c.turn.change.Run = &run
	c.turn.change.Calls = make([]cluster.Call, 0, c.graph.size)
	for _, comp := range c.graph.components {
		for i := range comp.calls {
			c.turn.change.Calls = append(c.turn.change.Calls, comp.calls[i].row)
		}
	}
	c.flush(ctx)
	c.turn.change.Calls = nil // do not keep the largest change for the rest of the run
	for _, comp := range c.graph.components {
		if len(comp.needs) == 0 {
			c.needsMet(comp)
		}
	}
	if ctx.Err() == nil {
		c.dispatch()
		c.flush(ctx)
	}
}

// over reports whether nothing is left to wait for.
func (c *Coordinator) over() bool {
	return c.inflight == 0 && (c.unfinished == 0 || c.broken != nil) && c.inbox.empty()
}

// flush writes what the turn has decided and then does it. Releases come first:
// they are what costs money.
func (c *Coordinator) flush(ctx context.Context) {
	t := &c.turn
	if ch := &t.change; c.broken == nil && (ch.Run != nil || len(ch.Calls)+len(ch.Attempts)+len(ch.Events) > 0) {
		// What has been decided is written down even when the run is being stopped.
		if err := c.cfg.Journal.Commit(context.WithoutCancel(ctx), *ch); err != nil {
			c.fail(err)
		}
	}
	for _, r := range t.releases {
		c.workers.Go(func() {
			c.cfg.Executor.Release(r.machine, r.reason)
			c.inbox.post(func() { c.released(r.comp) })
		})
	}
	for _, a := range t.cancels {
		a.cancel(errors.New(a.giveUp))
	}
	for _, a := range t.proceeds {
		close(a.proceed)
	}
	for _, cl := range t.forget {
		if c.broken == nil {
			c.workers.Go(func() { c.removeCheckpoint(cl) })
		}
	}
	for _, a := range t.starts {
		if c.broken != nil {
			a.cancel(c.broken)
		}
		c.workers.Go(func() { c.carry(a) })
	}
	t.reset()
}

func (t *turn) reset() {
	t.change.Run = nil
	t.change.Calls = emptied(t.change.Calls)
	t.change.Attempts = emptied(t.change.Attempts)
	t.change.Events = emptied(t.change.Events)
	t.releases, t.cancels = emptied(t.releases), emptied(t.cancels)
	t.proceeds, t.starts, t.settle = emptied(t.proceeds), emptied(t.starts), emptied(t.settle)
	t.forget = emptied(t.forget)
}

// emptied keeps the array for the next turn but nothing that it pointed to.
func emptied[T any](s []T) []T {
	clear(s)
	return s[:0]
}

// finish journals that the run is stopping, unless it has been for a while.
func (c *Coordinator) finish(ctx context.Context) {
	if !c.stopping && c.broken == nil {
		c.markStopping(c.graph.outcome(), "")
		c.flush(ctx)
	}
}

func (c *Coordinator) result() Result {
	r := Result{Outcome: c.outcome, Failed: c.failed, Err: c.stopErr}
	switch {
	case c.broken != nil:
		r.Outcome, r.Err = cluster.RunFailed, c.broken
	case len(c.failed) > 0:
		r.Err = c.failed[0].Err
	case r.Outcome == cluster.RunCancelled && r.Err == nil:
		r.Err = interrupted(errors.New("some of its calls were cancelled"))
	}
	return r
}

// interrupted is the failure of a run that somebody stopped.
func interrupted(why error) error {
	return &cluster.Failure{Kind: cluster.Interrupted, What: "the run was stopped", Err: why}
}

// inbox is where goroutines leave what they have to report to the loop. Posting
// never blocks.
type inbox struct {
	mu      sync.Mutex
	reports []func()
	taken   int           // reports[:taken] are done with
	wake    chan struct{} // holds a token while there may be reports
}

func newInbox() inbox { return inbox{wake: make(chan struct{}, 1)} }

func (b *inbox) post(report func()) {
	b.mu.Lock()
	b.reports = append(b.reports, report)
	b.mu.Unlock()
	b.ring()
}

func (b *inbox) ring() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.taken == len(b.reports)
}

// take gives at most max reports, oldest first, and rings again for the rest.
func (b *inbox) take(max int) []func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	rest := b.reports[b.taken:]
	if len(rest) <= max {
		b.reports, b.taken = nil, 0
		return rest
	}
	b.taken += max
	b.ring()
	return rest[:max:max]
}
