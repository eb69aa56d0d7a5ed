package flow_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/flow"
	"github.com/levinrun/levin/flow/inprocess"
)

// noticed is work that is told that its machine is taken back, after so long.
func noticed(after time.Duration) inprocess.Func {
	return func(_ context.Context, _ string, _ flow.Work, o flow.Observer) (flow.Outcome, error) {
		o.Shipped(1)
		o.Running()
		time.Sleep(after)
		o.Preempted(time.Now().Add(2*time.Minute), "spot instance-action: terminate")
		o.Exited(143, time.Now())
		return flow.Outcome{ExitCode: 143, ExitedAt: time.Now(), Preempted: true}, nil
	}
}

// vanishes is work whose machine is taken back without a notice, after so long.
func vanishes(after time.Duration) inprocess.Func {
	return func(_ context.Context, m string, _ flow.Work, o flow.Observer) (flow.Outcome, error) {
		o.Running()
		time.Sleep(after)
		return flow.Outcome{}, &cluster.Failure{Kind: cluster.Preempted, What: "the cloud has taken machine " + m + " back", Words: "gone", Err: errors.New("lost")}
	}
}

// inTurn does one thing after the other, attempt by attempt.
func inTurn(works ...inprocess.Func) inprocess.Func {
	next := 0
	return func(ctx context.Context, m string, w flow.Work, o flow.Observer) (flow.Outcome, error) {
		next++
		return works[next-1](ctx, m, w, o)
	}
}

func checkpoint(c *configs.Component) { c.Checkpoint = []string{"ckpt"} }

// An attempt whose machine is taken back is no failure: others follow it, on other
// machines, even where no retry is allowed.
func TestTakenBackIsNoRetry(t *testing.T) {
	for _, tt := range []struct {
		name    string
		retries int
		works   []inprocess.Func
		state   cluster.CallState
		story   []string
	}{
		{"with a notice", 0, []inprocess.Func{noticed(time.Hour), noticed(time.Hour), inprocess.NoOp}, cluster.CallSucceeded,
			[]string{"started", "shipped", "running", "machine.preempted", "exited", "retrying",
				"started", "shipped", "running", "machine.preempted", "exited", "retrying",
				"started", "shipped", "running", "exited", "succeeded"}},
		{"without", 0, []inprocess.Func{vanishes(time.Hour), inprocess.NoOp}, cluster.CallSucceeded,
			[]string{"started", "running", "machine.preempted", "retrying", "started", "shipped", "running", "exited", "succeeded"}},
		{"failures count all the same", 1, []inprocess.Func{ends(flow.Outcome{ExitCode: 1}), noticed(time.Hour), ends(flow.Outcome{ExitCode: 2})}, cluster.CallFailed,
			[]string{"started", "shipped", "running", "exited", "retrying",
				"started", "shipped", "running", "machine.preempted", "exited", "retrying",
				"started", "shipped", "running", "exited", "failed"}},
		{"and none is lost", 1, []inprocess.Func{noticed(time.Hour), ends(flow.Outcome{ExitCode: 1}), inprocess.NoOp}, cluster.CallSucceeded,
			[]string{"started", "shipped", "running", "machine.preempted", "exited", "retrying",
				"started", "shipped", "running", "exited", "retrying",
				"started", "shipped", "running", "exited", "succeeded"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, app(comp("train", retries(tt.retries))), inTurn(tt.works...), nil)
				w.run(context.Background())
				call := w.call("r-train")
				if call.State != tt.state || call.Attempt != len(tt.works) {
					t.Errorf("%s after %d attempts: %s", call.State, call.Attempt, call.Error)
				}
				if diff := cmp.Diff(tt.story, w.heard("r-train")); diff != "" {
					t.Error(diff)
				}
				numbers := []int{}
				for _, a := range w.attempts() {
					numbers = append(numbers, a.Number)
				}
				for i, n := range numbers {
					if n != i+1 {
						t.Errorf("attempts %v", numbers)
					}
				}
			})
		})
	}
}

func TestTakenBackSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, app(comp("train")), inTurn(noticed(time.Hour), inprocess.NoOp), nil)
		w.run(context.Background())
		e := w.event(cluster.EventCallRetrying, "r-train")
		if e.Kind != string(cluster.Preempted) || e.Error != "the cloud took machine train-1 back: spot instance-action: terminate" || e.Message != "" {
			t.Errorf("%+v", e)
		}
		if e := w.event(cluster.EventMachinePreempted, "r-train"); e.Machine != "train-1" || !strings.Contains(e.Message, "instance-action") {
			t.Errorf("%+v", e)
		}
		if r := w.exec.Releases(); len(r) != 2 || !strings.Contains(r["train-1"][0], "took machine train-1 back") {
			t.Errorf("%v", r)
		}
	})
}

// Only the machine that is taken back is replaced.
func TestOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := app(comp("wide", forEach("a", "b", "c"), machines(3)))
		w := newWorld(t, a, func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
			if work.Env["LEVIN_EACH"] == "b" && work.Env["LEVIN_ATTEMPT"] == "1" {
				return noticed(time.Hour)(ctx, m, work, o)
			}
			time.Sleep(2 * time.Hour)
			return inprocess.NoOp(ctx, m, work, o)
		}, nil)
		w.run(context.Background())
		ran := map[string]string{}
		for _, at := range w.attempts() {
			ran[flow.AttemptID(at.Call, at.Number)] = at.Machine
		}
		want := map[string]string{"r-wide-0-a1": "wide-1", "r-wide-1-a1": "wide-2", "r-wide-2-a1": "wide-3", "r-wide-1-a2": "wide-4"}
		if diff := cmp.Diff(want, ran); diff != "" {
			t.Error(diff)
		}
	})
}

// Machines that are taken back as soon as they are there are asked for ever more
// slowly, and as before once one has lasted.
func TestTakenBackInAHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var works []inprocess.Func
		for range 8 {
			works = append(works, noticed(10*time.Second))
		}
		works = append(works, vanishes(time.Hour), vanishes(0), func(context.Context, string, flow.Work, flow.Observer) (flow.Outcome, error) {
			return flow.Outcome{ExitedAt: time.Now()}, nil
		})
		w := newWorld(t, app(comp("train")), inTurn(works...), nil)
		w.run(context.Background())
		var rests []time.Duration
		attempts := w.attempts()
		for i := range attempts[1:] {
			rests = append(rests, attempts[i+1].StartedAt.Sub(attempts[i].EndedAt))
		}
		s := time.Second
		if diff := cmp.Diff([]time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 60 * s, 60 * s, 0, s}, rests); diff != "" {
			t.Error(diff)
		}
		if e := w.event(cluster.EventCallRetrying, "r-train"); e.Message != "next attempt in 1s" {
			t.Errorf("%+v", e)
		}
	})
}

// A call that rests takes a machine that has come to idle meanwhile.
func TestRestingCallTakesAnIdleMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, app(comp("wide", forEach("a", "b"), idle(time.Hour))), func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
			if work.ID == "r-wide-0-a1" {
				return noticed(0)(ctx, m, work, o)
			}
			time.Sleep(100 * time.Millisecond)
			return inprocess.NoOp(ctx, m, work, o)
		}, nil)
		w.run(context.Background())
		if call := w.call("r-wide-0"); call.Machine != "wide-2" || len(w.exec.Releases()) != 2 {
			t.Errorf("it ran on %s, of %v", call.Machine, w.exec.Releases())
		}
	})
}

// A machine may be taken back before it was ever reached.
func TestTakenBackWhileItIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		w := newWorld(t, app(comp("train", machines(1))), inprocess.NoOp, func(context.Context, configs.Component, int) error {
			if tries++; tries < 4 {
				return &cluster.Failure{Kind: cluster.Preempted, What: "the cloud has taken the machine back"}
			}
			return nil
		})
		if result := w.run(context.Background()); result.Err != nil {
			t.Error(result.Err)
		}
		if call := w.call("r-train"); call.Attempt != 4 || call.Machine != "train-4" {
			t.Errorf("%+v", call)
		}
	})
}

// A call that rests is ended like one that waits.
func TestStopWhileACallRests(t *testing.T) {
	for name, stop := range map[string]func(w *world, cancel func()){
		"run":       func(w *world, _ func()) { w.coord.Stop("enough") },
		"context":   func(_ *world, cancel func()) { cancel() },
		"component": func(w *world, _ func()) { _ = w.coord.StopComponent("train") },
		"both": func(w *world, _ func()) {
			_ = w.coord.StopComponent("train")
			w.coord.Stop("enough")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				w := newWorld(t, app(comp("train", forEach("a", "b")), comp("after", needs("train"))), noticed(0), nil)
				begun := time.Now()
				time.AfterFunc(100*time.Millisecond, func() { stop(w, cancel) })
				result := w.run(ctx)
				if result.Outcome != cluster.RunCancelled || time.Since(begun) != 100*time.Millisecond {
					t.Errorf("%s after %s", result.Outcome, time.Since(begun))
				}
				for id, state := range w.states() {
					if state != cluster.CallCancelled && (id != "r-after" || state != cluster.CallSkipped) {
						t.Errorf("%s is %s", id, state)
					}
				}
			})
		})
	}
}

// What an attempt has saved is there for the next one, and gone with the call's
// success.
func TestCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		dirs := map[string]string{}
		w := newWorld(t, app(comp("train", checkpoint), comp("plain")), func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
			mu.Lock()
			dirs[work.ID] = work.CheckpointDir
			mu.Unlock()
			file := filepath.Join(work.CheckpointDir, "ckpt")
			switch work.ID {
			case "r-train-a1":
				if err := errors.Join(os.MkdirAll(work.CheckpointDir, 0o700), os.WriteFile(file, []byte("7"), 0o600)); err != nil {
					t.Error(err)
				}
				return noticed(time.Hour)(ctx, m, work, o)
			case "r-train-a2":
				return vanishes(time.Hour)(ctx, m, work, o) // saves nothing
			case "r-train-a3":
				if p, err := os.ReadFile(file); err != nil || string(p) != "7" {
					t.Errorf("the attempt goes on from %q, %v", p, err)
				}
			}
			return inprocess.NoOp(ctx, m, work, o)
		}, nil)
		if result := w.run(context.Background()); result.Err != nil {
			t.Error(result.Err)
		}
		dir := flow.CheckpointDir(w.dir, "r-train")
		if diff := cmp.Diff(map[string]string{"r-train-a1": dir, "r-train-a2": dir, "r-train-a3": dir, "r-plain-a1": ""}, dirs); diff != "" {
			t.Error(diff)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the checkpoint is still there: %v", err)
		}
	})
}

// any reuse is allowed, but for what is in not ("from>to").
func reuse(not ...string) func(from, to string) bool {
	return func(from, to string) bool {
		for _, pair := range not {
			if pair == from+">"+to {
				return false
			}
		}
		return true
	}
}

func TestReuse(t *testing.T) {
	took := func(d time.Duration) inprocess.Func {
		return func(ctx context.Context, m string, w flow.Work, o flow.Observer) (flow.Outcome, error) {
			time.Sleep(d)
			return inprocess.NoOp(ctx, m, w, o)
		}
	}
	lost := func(context.Context, string, flow.Work, flow.Observer) (flow.Outcome, error) {
		return flow.Outcome{}, errors.New("lost")
	}
	for _, tt := range []struct {
		name  string
		app   *configs.App
		reuse func(from, to string) bool
		works map[string]inprocess.Func
		ran   map[string]string // call → machine
		gone  map[string]time.Duration
	}{
		{name: "never", app: app(comp("a"), comp("b", needs("a"))),
			ran: map[string]string{"a": "a-1", "b": "b-1"}, gone: map[string]time.Duration{"a-1": 0, "b-1": 0}},
		{name: "from one to the next", app: app(comp("a"), comp("b", needs("a")), comp("c", needs("b"))), reuse: reuse(),
			ran: map[string]string{"a": "a-1", "b": "a-1", "c": "a-1"}, gone: map[string]time.Duration{"a-1": 0}},
		{name: "it is judged by what it was made for", app: app(comp("a"), comp("b", needs("a")), comp("c", needs("b"))), reuse: reuse("a>c"),
			ran: map[string]string{"a": "a-1", "b": "a-1", "c": "c-1"}, gone: map[string]time.Duration{"a-1": 0, "c-1": 0}},
		{name: "only if allowed", app: app(comp("a"), comp("b", needs("a"))), reuse: reuse("a>b"),
			ran: map[string]string{"a": "a-1", "b": "b-1"}, gone: map[string]time.Duration{"a-1": 0, "b-1": 0}},
		{name: "one goes on, the other asks", app: app(comp("a"), comp("b", needs("a")), comp("c", needs("a"))), reuse: reuse(),
			works: map[string]inprocess.Func{"b": took(time.Hour), "c": took(time.Minute)},
			ran:   map[string]string{"a": "a-1", "b": "a-1", "c": "c-1"}, gone: map[string]time.Duration{"a-1": time.Hour, "c-1": time.Minute}},
		{name: "its own calls come first", app: app(comp("a", forEach("x", "y"), machines(1)), comp("b")), reuse: reuse(),
			works: map[string]inprocess.Func{"a": took(time.Hour), "b": took(time.Minute)},
			ran:   map[string]string{"a-0": "a-1", "a-1": "a-1", "b": "b-1"}, gone: map[string]time.Duration{"a-1": 2 * time.Hour, "b-1": time.Minute}},
		{name: "a machine that is lost goes to nobody", app: app(comp("a", retries(1)), comp("b", needs("a"))), reuse: reuse(),
			works: map[string]inprocess.Func{"a": inTurn(lost, took(time.Hour))},
			ran:   map[string]string{"a": "a-2", "b": "a-2"}, gone: map[string]time.Duration{"a-1": 0, "a-2": time.Hour}},
		{name: "it counts for who has it", app: app(comp("a"), comp("b", needs("a"), forEach("x", "y"), machines(1))), reuse: reuse(),
			ran: map[string]string{"a": "a-1", "b-0": "a-1", "b-1": "a-1"}, gone: map[string]time.Duration{"a-1": 0}},
		{name: "it idles as its new owner's", app: app(comp("a"), comp("b", needs("a"), forEach("x", "y"), retries(1), idle(10*time.Minute))), reuse: reuse(),
			works: map[string]inprocess.Func{"b": func(ctx context.Context, m string, w flow.Work, o flow.Observer) (flow.Outcome, error) {
				if w.Env["LEVIN_EACH"] == "y" {
					time.Sleep(time.Hour)
				}
				return inprocess.NoOp(ctx, m, w, o)
			}},
			ran: map[string]string{"a": "a-1", "b-0": "a-1", "b-1": "b-1"}, gone: map[string]time.Duration{"a-1": 10 * time.Minute, "b-1": time.Hour}},
		{name: "one that idles is still wanted", app: app(comp("a", forEach("x", "y"), retries(1), idle(10*time.Minute)), comp("z"), comp("b", needs("z"))), reuse: reuse("z>b"),
			works: map[string]inprocess.Func{"a": func(ctx context.Context, m string, w flow.Work, o flow.Observer) (flow.Outcome, error) {
				if w.Env["LEVIN_EACH"] == "y" {
					time.Sleep(time.Hour)
				}
				return inprocess.NoOp(ctx, m, w, o)
			}, "z": took(time.Minute)},
			ran: map[string]string{"a-0": "a-1", "a-1": "a-2", "z": "z-1", "b": "b-1"}, gone: map[string]time.Duration{"a-1": 10 * time.Minute, "a-2": time.Hour, "z-1": time.Minute, "b-1": time.Minute}},
		{name: "one that would be let go all the same", app: limited(2, comp("a", forEach("x", "y"), retries(1)), comp("b")), reuse: reuse(),
			works: map[string]inprocess.Func{"a": func(ctx context.Context, m string, w flow.Work, o flow.Observer) (flow.Outcome, error) {
				if w.Env["LEVIN_EACH"] == "y" {
					time.Sleep(time.Hour)
				}
				return inprocess.NoOp(ctx, m, w, o)
			}, "b": took(time.Minute)},
			ran: map[string]string{"a-0": "a-1", "a-1": "a-2", "b": "a-1"}, gone: map[string]time.Duration{"a-1": time.Minute, "a-2": time.Hour}},
		{name: "one call at a time", app: limited(1, comp("a"), comp("b"), comp("c", needs("a"))), reuse: reuse("b>c"),
			works: map[string]inprocess.Func{"a": took(time.Minute), "b": took(time.Hour)},
			ran:   map[string]string{"a": "a-1", "b": "a-1", "c": "a-1"}, gone: map[string]time.Duration{"a-1": time.Hour + time.Minute}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{t: t, app: tt.app, store: memory.New(), dir: t.TempDir(), reuse: tt.reuse}
				w.exec = inprocess.New(byComponent(tt.works), nil)
				spy := &clockSpy{Executor: w.exec, begun: time.Now(), released: map[string]time.Duration{}}
				w.start(spy)
				if result := w.run(context.Background()); result.Err != nil {
					t.Error(result.Err)
				}
				ran := map[string]string{}
				for _, call := range w.calls() {
					ran[strings.TrimPrefix(call.ID, "r-")] = call.Machine
				}
				if diff := cmp.Diff(tt.ran, ran); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff(tt.gone, spy.released); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// Reuse takes no time: the machine of a call that has ended runs the next one in
// the same turn, without having been released.
func TestReuseChain(t *testing.T) {
	const n = 200
	a := app(comp("c0"))
	for i := 1; i < n; i++ {
		a.Components = append(a.Components, comp(fmt.Sprint("c", i), needs(fmt.Sprint("c", i-1))))
	}
	w := &world{t: t, app: a, store: memory.New(), dir: t.TempDir(), reuse: reuse()}
	w.exec = inprocess.New(inprocess.NoOp, nil)
	w.start(w.exec)
	w.run(context.Background())
	if r := w.exec.Releases(); len(r) != 1 {
		t.Errorf("%d machines", len(r))
	}
}

func idle(d time.Duration) func(*configs.Component) {
	return func(c *configs.Component) { c.IdleTimeout = d }
}

func limited(calls int, comps ...configs.Component) *configs.App {
	a := app(comps...)
	a.MaxParallel = calls
	return a
}
