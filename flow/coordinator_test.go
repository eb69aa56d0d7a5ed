package flow_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/flow"
	"github.com/levinrun/levin/flow/inprocess"
)

func TestOneCall(t *testing.T) {
	exited := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	w := newWorld(t, app(comp("train")), func(_ context.Context, _ string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
		o.Shipped(42)
		o.Running()
		o.Exited(0, exited)
		return flow.Outcome{
			ExitedAt: exited, Result: json.RawMessage(`{"accuracy":0.9}`),
			Artifacts: []cluster.Artifact{{Path: "model.pt", Size: 3}},
		}, nil
	}, nil)
	result := w.run(context.Background())
	if result.Outcome != cluster.RunSucceeded || len(result.Failed) > 0 {
		t.Error(result)
	}
	want := []string{"started", "shipped", "running", "exited", "succeeded"}
	if diff := cmp.Diff(want, w.heard("r-train")); diff != "" {
		t.Error(diff)
	}
	call := w.call("r-train")
	if call.State != cluster.CallSucceeded || call.Machine != "train-1" || call.Attempt != 1 ||
		string(call.Result) != `{"accuracy":0.9}` || len(call.Artifacts) != 1 ||
		call.ExitCode == nil || *call.ExitCode != 0 || !call.ExitedAt.Equal(exited) {
		t.Errorf("%+v", call)
	}
	if e := w.event(cluster.EventCallExited, "r-train"); *e.ExitCode != 0 || !e.ExitedAt.Equal(exited) || e.Machine != "train-1" {
		t.Errorf("%+v", e)
	}
	if e := w.event(cluster.EventCallShipped, "r-train"); e.Bytes != 42 {
		t.Errorf("%+v", e)
	}
	if e := w.event(cluster.EventCallSucceeded, "r-train"); string(e.Result) != `{"accuracy":0.9}` {
		t.Errorf("%+v", e)
	}
	attempt := w.attempts()[0]
	if attempt.Machine != "train-1" || attempt.ExitCode == nil || attempt.EndedAt.IsZero() || attempt.Error != "" {
		t.Errorf("%+v", attempt)
	}
}

// An executor that tells nothing on the way leaves the same rows behind.
func TestSilentExecutor(t *testing.T) {
	w := newWorld(t, app(comp("a")), func(context.Context, string, flow.Work, flow.Observer) (flow.Outcome, error) {
		return flow.Outcome{ExitedAt: time.Now()}, nil
	}, nil)
	w.run(context.Background())
	if diff := cmp.Diff([]string{"started", "exited", "running", "succeeded"}, w.heard("r-a")); diff != "" {
		t.Error(diff)
	}
}

func TestAttemptsThatFail(t *testing.T) {
	lost := errors.New("the machine does not answer")
	noMachine := &cluster.Failure{Kind: cluster.Capacity, What: "no T4 in us-east-1", Next: "ask for another GPU"}
	tests := []struct {
		name      string
		outcome   flow.Outcome
		err       error
		acquire   error
		permanent bool
		machines  int // that two attempts use
		want      string
		kind      cluster.FailureKind
	}{
		{name: "exit code", outcome: flow.Outcome{ExitCode: 3}, machines: 1, want: "exited with code 3", kind: cluster.WorkFailed},
		{name: "setup", outcome: flow.Outcome{ExitCode: 1, Setup: true}, machines: 1, want: "setup exited with code 1", kind: cluster.WorkFailed},
		{name: "killed", outcome: flow.Outcome{ExitCode: 137}, machines: 1, want: "exited with code 137 (killed; often the machine had too little memory)", kind: cluster.WorkFailed},
		{name: "timed out", outcome: flow.Outcome{ExitCode: 143, TimedOut: true}, machines: 1, want: "timed out after 2h", kind: cluster.WorkFailed},
		{name: "missing output", outcome: flow.Outcome{Missing: []string{"model.pt", "*.csv"}}, machines: 1, want: "it exited with code 0 but did not write model.pt, *.csv", kind: cluster.WorkFailed},
		{name: "result not JSON", outcome: flow.Outcome{Result: json.RawMessage(`{"a":`)}, machines: 1, want: `what it wrote to $LEVIN_RESULT is not JSON: "{\"a\":"`, kind: cluster.WorkFailed},
		{name: "machine's words", outcome: flow.Outcome{ExitCode: 126, Error: "exec format error"}, machines: 2, want: "exited with code 126: exec format error", kind: cluster.WorkFailed},
		{name: "machine's words after success", outcome: flow.Outcome{Error: "no space left"}, machines: 2, want: "no space left", kind: cluster.WorkFailed},
		{name: "machine lost", err: lost, machines: 2, want: "the machine does not answer", kind: cluster.Provisioning},
		{name: "no machine", acquire: noMachine, machines: 0, want: "no T4 in us-east-1", kind: cluster.Capacity},
		{name: "host key", err: &cluster.Failure{Kind: cluster.Untrusted, What: "wrong host key"}, permanent: true, machines: 1, want: "wrong host key", kind: cluster.Untrusted},
		{name: "no permission", acquire: &cluster.Failure{Kind: cluster.Auth, What: "access denied"}, permanent: true, want: "access denied", kind: cluster.Auth},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := comp("train", retries(1))
			c.Timeout = 2 * time.Hour
			work := func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
				if tt.err != nil {
					return flow.Outcome{}, tt.err
				}
				return ends(tt.outcome)(ctx, m, work, o)
			}
			w := newWorld(t, app(c, comp("after", needs("train"))), work, func(context.Context, configs.Component, int) error { return tt.acquire })
			result := w.run(context.Background())

			attempts := 2
			if tt.permanent {
				attempts = 1
			}
			if n := len(w.attempts()); n != attempts {
				t.Errorf("%d attempts, want %d", n, attempts)
			}
			if n := len(w.exec.Releases()); n != tt.machines {
				t.Errorf("%d machines, want %d: %v", n, tt.machines, w.exec.Releases())
			}
			call := w.call("r-train")
			if call.State != cluster.CallFailed || call.Error != tt.want {
				t.Errorf("call is %s: %q, want %q", call.State, call.Error, tt.want)
			}
			if e := w.event(cluster.EventCallFailed, "r-train"); e.Error != tt.want || e.Kind != string(tt.kind) {
				t.Errorf("event %+v", e)
			}
			if got := slices.Contains(w.heard("r-train"), "retrying"); got == tt.permanent {
				t.Errorf("events %v", w.heard("r-train"))
			}
			for _, a := range w.attempts() {
				if a.Error != tt.want {
					t.Errorf("attempt %d: %q, want %q", a.Number, a.Error, tt.want)
				}
			}
			after := w.call("r-after")
			if after.State != cluster.CallSkipped || after.Error != "needs train, which failed" {
				t.Errorf("after is %s: %s", after.State, after.Error)
			}
			if result.Outcome != cluster.RunFailed || cluster.KindOf(result.Err) != tt.kind ||
				!strings.HasPrefix(result.Err.Error(), "train failed: "+tt.want) {
				t.Errorf("%s: %v", result.Outcome, result.Err)
			}
			if len(result.Failed) != 1 || result.Failed[0].Call.ID != "r-train" {
				t.Errorf("%+v", result.Failed)
			}
		})
	}
}

// A second attempt that goes well is a success without a trace of the first,
// apart from the attempts.
func TestRetryThatSucceeds(t *testing.T) {
	c := comp("train", retries(2))
	w := newWorld(t, app(c, comp("after", needs("train"))), byComponent(map[string]inprocess.Func{
		"train": func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
			stale := filepath.Join(work.ArtifactDir, "stale")
			if work.Env["LEVIN_ATTEMPT"] == "1" {
				if err := os.MkdirAll(work.ArtifactDir, 0o700); err != nil {
					return flow.Outcome{}, err
				}
				if err := os.WriteFile(stale, nil, 0o600); err != nil {
					return flow.Outcome{}, err
				}
				return ends(flow.Outcome{ExitCode: 1})(ctx, m, work, o)
			}
			if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("what the first attempt left is still there: %v", err)
			}
			return inprocess.NoOp(ctx, m, work, o)
		},
	}), nil)
	if result := w.run(context.Background()); result.Outcome != cluster.RunSucceeded {
		t.Error(result.Err)
	}
	want := []string{"started", "shipped", "running", "exited", "retrying", "started", "shipped", "running", "exited", "succeeded"}
	if diff := cmp.Diff(want, w.heard("r-train")); diff != "" {
		t.Error(diff)
	}
	call := w.call("r-train")
	if call.Attempt != 2 || call.Error != "" || *call.ExitCode != 0 {
		t.Errorf("%+v", call)
	}
	attempts := w.attempts()
	if attempts[0].Error != "exited with code 1" || *attempts[0].ExitCode != 1 || attempts[1].Error != "" {
		t.Errorf("%+v", attempts)
	}
}

// A machine goes to the component's next call at once.
func TestMachinesAreReused(t *testing.T) {
	for _, parallel := range []int{0, 1, 2} {
		a := app(comp("wide", forEach("a", "b", "c", "d", "e", "f", "g"), machines(2)))
		a.MaxParallel = parallel
		w := newWorld(t, a, inprocess.NoOp, nil)
		w.run(context.Background())
		want := 2
		if parallel == 1 {
			want = 1
		}
		if got := len(w.exec.Releases()); got != want {
			t.Errorf("max_parallel %d: wide had %d machines, want %d", parallel, got, want)
		}
	}
}

// All machines that a component can use are asked for together.
func TestMachinesAreAskedForTogether(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	all := make(chan struct{})
	acquire := func(ctx context.Context, _ configs.Component, _ int) error {
		mu.Lock()
		if asked++; asked == 5 {
			close(all)
		}
		mu.Unlock()
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	w := newWorld(t, app(comp("wide", forEach("a", "b", "c", "d", "e", "f"), machines(3)), comp("x"), comp("y")), inprocess.NoOp, acquire)
	if result := w.run(context.Background()); result.Outcome != cluster.RunSucceeded {
		t.Error(result.Err)
	}
}

// A machine is released while other work of the run goes on.
func TestReleasedAtOnce(t *testing.T) {
	released := make(chan string, 10)
	w := &world{t: t, app: app(comp("short"), comp("long")), store: memory.New(), dir: t.TempDir()}
	w.exec = inprocess.New(byComponent(map[string]inprocess.Func{
		"long": func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
			if name := <-released; name != "short-1" {
				t.Errorf("%s was released first", name)
			}
			return inprocess.NoOp(ctx, m, work, o)
		},
	}), nil)
	w.start(releaseSpy{w.exec, released})
	w.run(context.Background())
}

type releaseSpy struct {
	*inprocess.Executor
	released chan string
}

func (s releaseSpy) Release(machine, reason string) {
	s.Executor.Release(machine, reason)
	s.released <- machine
}

func TestOnFailure(t *testing.T) {
	// bad fails once side runs; other does not need it.
	build := func(mode configs.OnFailure) (*world, chan struct{}) {
		sideRuns := make(chan struct{})
		a := app(
			comp("bad"), comp("next", needs("bad")), comp("last", needs("next", "side")),
			comp("side"), comp("other", needs("side")),
			comp("wide", forEach("a", "b", "c"), machines(1), needs("side")),
		)
		a.OnFailure = mode
		w := newWorld(t, a, byComponent(map[string]inprocess.Func{
			"bad": func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
				<-sideRuns
				return ends(flow.Outcome{ExitCode: 7})(ctx, m, work, o)
			},
			"side": func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
				close(sideRuns)
				if mode == configs.Cancel {
					return untilStopped(ctx, m, work, o)
				}
				return inprocess.NoOp(ctx, m, work, o)
			},
		}), nil)
		return w, sideRuns
	}
	t.Run("cancel", func(t *testing.T) {
		w, _ := build(configs.Cancel)
		result := w.run(context.Background())
		want := map[string]cluster.CallState{
			"r-bad": cluster.CallFailed, "r-next": cluster.CallSkipped, "r-last": cluster.CallSkipped,
			"r-side": cluster.CallCancelled, "r-other": cluster.CallCancelled,
			"r-wide-0": cluster.CallCancelled, "r-wide-1": cluster.CallCancelled, "r-wide-2": cluster.CallCancelled,
		}
		if diff := cmp.Diff(want, w.states()); diff != "" {
			t.Error(diff)
		}
		if why := w.call("r-last").Error; why != "needs next, which was skipped" {
			t.Error(why)
		}
		if why := w.call("r-side").Error; why != "bad failed" {
			t.Error(why)
		}
		if why := w.call("r-other").Error; why != "bad failed" {
			t.Error(why)
		}
		if e := w.event(cluster.EventRunStopping, ""); e.Message != "bad failed" {
			t.Error(e.Message)
		}
		if result.Outcome != cluster.RunFailed {
			t.Error(result.Outcome)
		}
	})
	t.Run("continue", func(t *testing.T) {
		w, _ := build(configs.Continue)
		result := w.run(context.Background())
		want := map[string]cluster.CallState{
			"r-bad": cluster.CallFailed, "r-next": cluster.CallSkipped, "r-last": cluster.CallSkipped,
			"r-side": cluster.CallSucceeded, "r-other": cluster.CallSucceeded,
			"r-wide-0": cluster.CallSucceeded, "r-wide-1": cluster.CallSucceeded, "r-wide-2": cluster.CallSucceeded,
		}
		if diff := cmp.Diff(want, w.states()); diff != "" {
			t.Error(diff)
		}
		if result.Outcome != cluster.RunFailed || len(result.Failed) != 1 {
			t.Error(result)
		}
	})
	t.Run("continue within for_each", func(t *testing.T) {
		a := app(comp("wide", forEach("a", "b", "c"), machines(1)), comp("after", needs("wide")))
		a.OnFailure = configs.Continue
		w := newWorld(t, a, func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
			if work.Env["LEVIN_EACH"] == "a" {
				return ends(flow.Outcome{ExitCode: 1})(ctx, m, work, o)
			}
			return inprocess.NoOp(ctx, m, work, o)
		}, nil)
		result := w.run(context.Background())
		want := map[string]cluster.CallState{
			"r-wide-0": cluster.CallFailed, "r-wide-1": cluster.CallSucceeded, "r-wide-2": cluster.CallSucceeded,
			"r-after": cluster.CallSkipped,
		}
		if diff := cmp.Diff(want, w.states()); diff != "" {
			t.Error(diff)
		}
		if !strings.HasPrefix(result.Err.Error(), "wide[a] failed: exited with code 1") {
			t.Error(result.Err)
		}
	})
}

// A wave of calls that are skipped or cancelled is larger than what one turn
// takes on.
func TestManyCallsEndWithoutRunning(t *testing.T) {
	items := make([]string, 3000)
	for i := range items {
		items[i] = "x"
	}
	w := newWorld(t, app(comp("bad"), comp("skipped", needs("bad"), forEach(items...)), comp("side", forEach(items...), machines(1))),
		byComponent(map[string]inprocess.Func{"bad": ends(flow.Outcome{ExitCode: 1}), "side": untilStopped}), nil)
	w.run(context.Background())
	count := map[cluster.CallState]int{}
	for _, state := range w.states() {
		count[state]++
	}
	want := map[cluster.CallState]int{cluster.CallFailed: 1, cluster.CallSkipped: 3000, cluster.CallCancelled: 3000}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyForEach(t *testing.T) {
	w := newWorld(t, app(comp("none", func(c *configs.Component) { c.ForEach = []string{} }), comp("after", needs("none"))), inprocess.NoOp, nil)
	if result := w.run(context.Background()); result.Outcome != cluster.RunSucceeded {
		t.Error(result.Err)
	}
	if diff := cmp.Diff(map[string]cluster.CallState{"r-after": cluster.CallSucceeded}, w.states()); diff != "" {
		t.Error(diff)
	}
}

// Components without calls that need each other count once for whoever needs
// them.
func TestEmptyForEachInAChain(t *testing.T) {
	empty := func(c *configs.Component) { c.ForEach = []string{} }
	slowEnded := make(chan struct{})
	w := newWorld(t, app(comp("one", empty), comp("two", empty, needs("one")), comp("slow"), comp("after", needs("two", "slow"))),
		byComponent(map[string]inprocess.Func{
			"slow": func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
				defer close(slowEnded)
				return inprocess.NoOp(ctx, m, work, o)
			},
			"after": func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
				select {
				case <-slowEnded:
				default:
					t.Error("after began before slow had ended")
				}
				return inprocess.NoOp(ctx, m, work, o)
			},
		}), nil)
	if result := w.run(context.Background()); result.Err != nil {
		t.Error(result.Err)
	}
}

func TestLastLinesOfAFailure(t *testing.T) {
	w := newWorld(t, app(comp("train")), func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
		for i := range 30 {
			line := []byte(strings.Repeat("x", i) + "\n")
			o.Log(int64(i*(i+1)/2), line)
		}
		o.Log(30*31/2, []byte("ValueError: no"))
		return ends(flow.Outcome{ExitCode: 1})(ctx, m, work, o)
	}, nil)
	result := w.run(context.Background())
	failed := result.Failed[0]
	if len(failed.LastLines) != 20 || failed.LastLines[19] != "ValueError: no" || failed.LastLines[0] != strings.Repeat("x", 11) {
		t.Errorf("%q", failed.LastLines)
	}
	if failed.Log != flow.LogPath(w.dir, "r-train", 1) {
		t.Error(failed.Log)
	}
	if text := result.Err.Error(); !strings.Contains(text, "\n  ValueError: no\n") || !strings.Contains(text, "levin logs r train") {
		t.Error(text)
	}
	if e := w.event(cluster.EventCallFailed, "r-train"); !strings.HasSuffix(e.Message, "\nValueError: no") || *e.ExitCode != 1 {
		t.Errorf("%+v", e)
	}
}

// failingStore takes so many changes and no more.
type failingStore struct {
	cluster.Store
	mu   sync.Mutex
	left int
}

var errDisk = errors.New("disk full")

func (s *failingStore) Commit(ctx context.Context, c cluster.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		return errDisk
	}
	s.left--
	return s.Store.Commit(ctx, c)
}

// When the journal fails nothing new happens, and no machine is left.
func TestJournalFails(t *testing.T) {
	sawMachines := false
	for commits := range 5 { // the shortest way through takes six
		w := &world{t: t, app: app(comp("a"), comp("wide", forEach("x", "y", "z"), machines(2)), comp("b", needs("a")), comp("c", needs("b"))), dir: t.TempDir()}
		w.store = &failingStore{Store: memory.New(), left: 1 + commits}
		w.exec = inprocess.New(inprocess.NoOp, nil)
		w.start(w.exec)
		result, err := w.coord.Run(context.Background())
		if !errors.Is(err, errDisk) || result.Outcome != cluster.RunFailed || !errors.Is(result.Err, errDisk) {
			t.Errorf("after %d commits: %v, %v", commits, result, err)
		}
		if up := w.exec.Up(); len(up) > 0 || len(w.exec.Faults()) > 0 {
			t.Errorf("after %d commits: machines %v, faults %v", commits, up, w.exec.Faults())
		}
		sawMachines = sawMachines || len(w.exec.Releases()) > 0
	}
	if !sawMachines {
		t.Error("the journal never failed while there were machines")
	}
}

func TestNewRefuses(t *testing.T) {
	ok := flow.Config{App: app(comp("a")), Journal: cluster.NewJournal(memory.New()), Executor: inprocess.New(inprocess.NoOp, nil), Dir: t.TempDir()}
	tests := []struct {
		name   string
		change func(*flow.Config)
		want   string
	}{
		{"no app", func(c *flow.Config) { c.App = nil }, "are needed"},
		{"relative folder", func(c *flow.Config) { c.Dir = "x" }, "not absolute"},
		{"unknown need", func(c *flow.Config) { c.App = app(comp("a", needs("b"))) }, `a needs "b"`},
		{"twice", func(c *flow.Config) { c.App = app(comp("a"), comp("a")) }, "two components"},
		{"circle", func(c *flow.Config) {
			c.App = app(comp("x"), comp("a", needs("c", "x")), comp("b", needs("a")), comp("c", needs("b")))
		}, "wait for each other: a, b, c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := ok
			tt.change(&cfg)
			if _, err := flow.New(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	if _, err := flow.New(ok); err != nil {
		t.Error(err)
	}
}
