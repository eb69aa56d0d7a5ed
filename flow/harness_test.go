package flow_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/flow"
	"github.com/levinrun/levin/flow/inprocess"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is one run on an in-process executor and a store in memory.
type world struct {
	t       testing.TB
	app     *configs.App
	store   cluster.Store
	journal *cluster.Journal
	exec    *inprocess.Executor
	coord   *flow.Coordinator
	dir     string
	reuse   func(from, to string) bool

	mu     sync.Mutex
	events []cluster.Event
}

// acquireFunc is inprocess.New's second argument.
type acquireFunc func(ctx context.Context, c configs.Component, number int) error

func newWorld(t testing.TB, app *configs.App, work inprocess.Func, acquire acquireFunc) *world {
	t.Helper()
	w := &world{t: t, app: app, store: memory.New(), dir: t.TempDir()}
	w.exec = inprocess.New(work, acquire)
	w.start(w.exec)
	return w
}

func (w *world) start(x flow.Executor) {
	w.t.Helper()
	w.journal = cluster.NewJournal(w.store)
	run := cluster.Run{ID: "r", App: w.app.Name, State: cluster.RunPending, CreatedAt: time.Now()}
	if err := w.journal.Commit(context.Background(), cluster.Change{Run: &run}); err != nil {
		w.t.Fatal(err)
	}
	w.journal.Listen(func(e cluster.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e)
	})
	w.exec.Reuse = w.reuse
	coord, err := flow.New(flow.Config{Run: run, App: w.app, Journal: w.journal, Executor: x, Dir: w.dir, Reuse: w.reuse})
	if err != nil {
		w.t.Fatal(err)
	}
	w.coord = coord
}

// run runs the app and checks what holds for every run.
func (w *world) run(ctx context.Context) flow.Result {
	w.t.Helper()
	result, err := w.coord.Run(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	w.check(result)
	return result
}

// check holds a finished run against what every run promises.
func (w *world) check(result flow.Result) {
	w.t.Helper()
	for _, fault := range w.exec.Faults() {
		w.t.Error("fault:", fault)
	}
	if up := w.exec.Up(); len(up) > 0 {
		w.t.Error("machines that were not released:", up)
	}
	for name, reasons := range w.exec.Releases() {
		if len(reasons) != 1 {
			w.t.Errorf("machine %s was released %d times: %q", name, len(reasons), reasons)
		}
	}
	for i := range w.app.Components {
		comp := &w.app.Components[i]
		if most := w.exec.MostMachines(comp.Name); most > max(1, comp.MaxMachines) {
			w.t.Errorf("%s had %d machines at once, at most %d allowed", comp.Name, most, comp.MaxMachines)
		}
	}
	if limit := w.app.MaxParallel; limit > 0 && w.exec.MostAtOnce() > limit {
		w.t.Errorf("%d attempts at once, at most %d allowed", w.exec.MostAtOnce(), limit)
	}
	for _, call := range w.calls() {
		if !call.State.Final() {
			w.t.Errorf("call %s is %s at the end of the run", call.ID, call.State)
		}
		if call.FinishedAt.IsZero() {
			w.t.Errorf("call %s has no end", call.ID)
		}
	}
	run, err := w.store.Run(context.Background(), "r")
	if err != nil {
		w.t.Fatal(err)
	}
	if run.State != cluster.RunStopping || run.Outcome != result.Outcome || run.StartedAt.IsZero() {
		w.t.Errorf("the run is %s to become %q, started %s; result %s", run.State, run.Outcome, run.StartedAt, result.Outcome)
	}
	if (result.Err == nil) != (result.Outcome == cluster.RunSucceeded) {
		w.t.Errorf("outcome %s with error %v", result.Outcome, result.Err)
	}
}

func (w *world) calls() []cluster.Call {
	w.t.Helper()
	calls, err := w.store.Calls(context.Background(), "r")
	if err != nil {
		w.t.Fatal(err)
	}
	return calls
}

func (w *world) call(id string) cluster.Call {
	w.t.Helper()
	for _, call := range w.calls() {
		if call.ID == id {
			return call
		}
	}
	w.t.Fatalf("no call %q", id)
	return cluster.Call{}
}

func (w *world) attempts() []cluster.Attempt {
	w.t.Helper()
	attempts, err := w.store.Attempts(context.Background(), "r")
	if err != nil {
		w.t.Fatal(err)
	}
	return attempts
}

// states maps call IDs to their states.
func (w *world) states() map[string]cluster.CallState {
	m := map[string]cluster.CallState{}
	for _, call := range w.calls() {
		m[call.ID] = call.State
	}
	return m
}

// heard lists the events of a call ("" for all), as type[:attempt], without logs.
func (w *world) heard(call string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, e := range w.events {
		if e.Type != cluster.EventCallLog && (call == "" || e.Call == call) {
			out = append(out, strings.TrimPrefix(string(e.Type), "call."))
		}
	}
	return out
}

func (w *world) lines(call string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, e := range w.events {
		if e.Type == cluster.EventCallLog && e.Call == call {
			out = append(out, e.Line)
		}
	}
	return out
}

func (w *world) event(t cluster.EventType, call string) cluster.Event {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range slices.Backward(w.events) {
		if e.Type == t && e.Call == call {
			return e
		}
	}
	w.t.Fatalf("no event %s of %q", t, call)
	return cluster.Event{}
}

// ends is work that runs and exits with o.
func ends(o flow.Outcome) inprocess.Func {
	return func(_ context.Context, _ string, _ flow.Work, obs flow.Observer) (flow.Outcome, error) {
		obs.Shipped(10)
		obs.Running()
		o.ExitedAt = time.Now()
		obs.Exited(o.ExitCode, o.ExitedAt)
		return o, nil
	}
}

// untilStopped is work that goes on until it is told to stop.
func untilStopped(ctx context.Context, _ string, _ flow.Work, obs flow.Observer) (flow.Outcome, error) {
	obs.Shipped(10)
	obs.Running()
	<-ctx.Done()
	return flow.Outcome{}, errors.New("stopped")
}

// byComponent picks the work by the component's name; NoOp for those not named.
func byComponent(works map[string]inprocess.Func) inprocess.Func {
	return func(ctx context.Context, m string, w flow.Work, o flow.Observer) (flow.Outcome, error) {
		if work := works[w.Component.Name]; work != nil {
			return work(ctx, m, w, o)
		}
		return inprocess.NoOp(ctx, m, w, o)
	}
}

// comp makes a component; options change it.
func comp(name string, options ...func(*configs.Component)) configs.Component {
	c := configs.Component{Name: name, MaxMachines: 16, Run: configs.Command{Shell: "true"}}
	for _, o := range options {
		o(&c)
	}
	return c
}

func needs(names ...string) func(*configs.Component) {
	return func(c *configs.Component) { c.Needs = names }
}

func forEach(items ...string) func(*configs.Component) {
	return func(c *configs.Component) { c.ForEach = items }
}

func retries(n int) func(*configs.Component) { return func(c *configs.Component) { c.Retries = n } }

func machines(n int) func(*configs.Component) {
	return func(c *configs.Component) { c.MaxMachines = n }
}

func app(comps ...configs.Component) *configs.App {
	return &configs.App{Name: "demo", OnFailure: configs.Cancel, Components: comps}
}
