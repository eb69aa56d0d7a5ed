package flow_test

import (
	"context"
	"errors"
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

func TestStartTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := comp("train", retries(1))
		c.StartTimeout = 15 * time.Minute
		begun := time.Now()
		w := newWorld(t, app(c), inprocess.NoOp, func(ctx context.Context, _ configs.Component, _ int) error {
			<-ctx.Done()
			return errors.New("gave up waiting")
		})
		result := w.run(context.Background())
		if took := time.Since(begun); took != 30*time.Minute {
			t.Errorf("two attempts took %s", took)
		}
		if call := w.call("r-train"); call.Error != "no machine within 15m" || call.Attempt != 2 {
			t.Errorf("%+v", call)
		}
		if cluster.KindOf(result.Err) != cluster.Provisioning {
			t.Error(result.Err)
		}
	})
}

// The machine ends work that takes too long; one that does not is given up.
func TestTimeoutGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := comp("train", retries(1))
		c.Timeout, c.Grace = time.Hour, 10*time.Second
		begun := time.Now()
		w := newWorld(t, app(c), func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
			time.Sleep(2 * time.Hour) // shipping is not the work's time
			return untilStopped(ctx, m, work, o)
		}, nil)
		w.run(context.Background())
		if took, want := time.Since(begun), 2*(3*time.Hour+10*time.Second+time.Minute); took != want {
			t.Errorf("two attempts took %s, want %s", took, want)
		}
		if call := w.call("r-train"); call.State != cluster.CallFailed || call.Error != "timed out after 1h, and its machine has not ended it" {
			t.Errorf("%s: %s", call.State, call.Error)
		}
		if n := len(w.exec.Releases()); n != 2 {
			t.Errorf("%d machines: one that does not end its work must not be used again", n)
		}
	})
}

// Bringing artifacts back is not the work's time.
func TestTimeoutGuardEndsWithTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := comp("train")
		c.Timeout = time.Minute
		w := newWorld(t, app(c), func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
			outcome, err := inprocess.NoOp(ctx, m, work, o)
			time.Sleep(time.Hour)
			return outcome, errors.Join(err, ctx.Err())
		}, nil)
		if result := w.run(context.Background()); result.Err != nil {
			t.Error(result.Err)
		}
	})
}

func TestIdleTimeout(t *testing.T) {
	at := func(d time.Duration, o flow.Outcome, err error) inprocess.Func {
		return func(ctx context.Context, m string, work flow.Work, obs flow.Observer) (flow.Outcome, error) {
			time.Sleep(d)
			if err != nil {
				return flow.Outcome{}, err
			}
			return ends(o)(ctx, m, work, obs)
		}
	}
	fine, bad := flow.Outcome{}, flow.Outcome{ExitCode: 1}
	lost := errors.New("lost")
	tests := []struct {
		name     string
		idle     time.Duration
		retries  int
		b        []inprocess.Func // its attempts; a takes no time
		released map[string]time.Duration
		second   string // the machine of b's second attempt
	}{
		{
			name: "no timeout", retries: 1, b: []inprocess.Func{at(time.Hour, fine, nil)},
			released: map[string]time.Duration{"wide-1": 0, "wide-2": time.Hour},
		},
		{
			name: "nothing can come", idle: 10 * time.Minute, b: []inprocess.Func{at(time.Hour, fine, nil)},
			released: map[string]time.Duration{"wide-1": 0, "wide-2": time.Hour},
		},
		{
			name: "idle too long", idle: 10 * time.Minute, retries: 1, b: []inprocess.Func{at(time.Hour, fine, nil)},
			released: map[string]time.Duration{"wide-1": 10 * time.Minute, "wide-2": time.Hour},
		},
		{
			name: "nothing can come any more", idle: 10 * time.Minute, retries: 1,
			b:        []inprocess.Func{at(5*time.Minute, bad, nil), at(time.Hour, fine, nil)},
			released: map[string]time.Duration{"wide-1": 5 * time.Minute, "wide-2": 65 * time.Minute}, second: "wide-2",
		},
		{
			name: "taken by the next attempt", idle: 10 * time.Minute, retries: 1,
			b:        []inprocess.Func{at(5*time.Minute, bad, lost), at(time.Hour, fine, nil)},
			released: map[string]time.Duration{"wide-2": 5 * time.Minute, "wide-1": 65 * time.Minute}, second: "wide-1",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := comp("wide", forEach("a", "b"), retries(tt.retries))
				c.IdleTimeout = tt.idle
				second := ""
				spy := &clockSpy{begun: time.Now(), released: map[string]time.Duration{}}
				w := &world{t: t, app: app(c), store: memory.New(), dir: t.TempDir()}
				w.exec = inprocess.New(func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
					if work.Env["LEVIN_EACH"] == "a" {
						return inprocess.NoOp(ctx, m, work, o)
					}
					if work.Env["LEVIN_ATTEMPT"] == "2" {
						second = m
						return tt.b[1](ctx, m, work, o)
					}
					return tt.b[0](ctx, m, work, o)
				}, nil)
				spy.Executor = w.exec
				w.start(spy)
				if result := w.run(context.Background()); result.Err != nil {
					t.Error(result.Err)
				}
				if diff := cmp.Diff(tt.released, spy.released); diff != "" {
					t.Error(diff)
				}
				if second != tt.second {
					t.Errorf("the second attempt ran on %q, want %q", second, tt.second)
				}
			})
		})
	}
}

// clockSpy remembers when each machine was released.
type clockSpy struct {
	*inprocess.Executor
	begun    time.Time
	mu       sync.Mutex
	released map[string]time.Duration
}

func (s *clockSpy) Release(machine, reason string) {
	s.Executor.Release(machine, reason)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released[machine] = time.Since(s.begun)
}

// TestStopAtEachStage stops a run, or the component under way, at each point of
// an attempt's life.
func TestStopAtEachStage(t *testing.T) {
	wait := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	type hooks struct {
		acquire func(ctx context.Context, stop func()) error
		work    func(ctx context.Context, stop func(), o flow.Observer) (flow.Outcome, error)
	}
	stages := []struct {
		name string
		hooks
		done bool // the call has been done all the same
	}{
		{name: "acquiring", hooks: hooks{acquire: func(ctx context.Context, stop func()) error { stop(); return wait(ctx) }}},
		{name: "acquired all the same", hooks: hooks{acquire: func(ctx context.Context, stop func()) error { stop(); _ = wait(ctx); return nil }}},
		{name: "no machine to be had", hooks: hooks{acquire: func(ctx context.Context, stop func()) error { stop(); _ = wait(ctx); return errors.New("none") }}},
		{name: "shipping", hooks: hooks{work: func(ctx context.Context, stop func(), o flow.Observer) (flow.Outcome, error) {
			stop()
			return flow.Outcome{}, wait(ctx)
		}}},
		{name: "running", hooks: hooks{work: func(ctx context.Context, stop func(), o flow.Observer) (flow.Outcome, error) {
			o.Shipped(1)
			o.Running()
			stop()
			return flow.Outcome{}, wait(ctx)
		}}},
		{name: "ended by the machine's TERM", hooks: hooks{work: func(ctx context.Context, stop func(), o flow.Observer) (flow.Outcome, error) {
			o.Shipped(1)
			o.Running()
			stop()
			_ = wait(ctx)
			o.Exited(143, time.Now())
			return flow.Outcome{ExitCode: 143, ExitedAt: time.Now()}, nil
		}}},
		{name: "fetching", hooks: hooks{work: func(ctx context.Context, stop func(), o flow.Observer) (flow.Outcome, error) {
			o.Shipped(1)
			o.Running()
			o.Exited(0, time.Now())
			stop()
			return flow.Outcome{}, wait(ctx)
		}}},
		{name: "fetched all the same", done: true, hooks: hooks{work: func(ctx context.Context, stop func(), o flow.Observer) (flow.Outcome, error) {
			outcome, err := inprocess.NoOp(ctx, "", flow.Work{}, o)
			stop()
			_ = wait(ctx)
			return outcome, err
		}}},
		{name: "before the next attempt", hooks: hooks{work: func(ctx context.Context, stop func(), o flow.Observer) (flow.Outcome, error) {
			stop()
			_ = wait(ctx)
			return flow.Outcome{ExitCode: 1}, nil
		}}},
	}
	for _, how := range []string{"context", "stop", "component"} {
		for _, stage := range stages {
			t.Run(how+"/"+stage.name, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(context.Background())
				defer cancel(nil)
				var w *world
				stop := func() {
					switch how {
					case "context":
						cancel(errors.New("interrupt"))
					case "stop":
						w.coord.Stop("interrupt")
					case "component":
						if err := w.coord.StopComponent("victim"); err != nil {
							t.Error(err)
						}
					}
				}
				acquire := func(ctx context.Context, c configs.Component, _ int) error {
					if c.Name == "victim" && stage.acquire != nil {
						return stage.acquire(ctx, stop)
					}
					return nil
				}
				work := func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
					if work.Component.Name == "victim" && stage.work != nil {
						return stage.work(ctx, stop, o)
					}
					return inprocess.NoOp(ctx, m, work, o)
				}
				w = newWorld(t, app(
					comp("victim", retries(1), forEach("x", "y"), machines(1)),
					comp("down", needs("victim")), comp("far", needs("down")), comp("side"),
				), work, acquire)
				result := w.run(ctx)

				states := w.states()
				first := cluster.CallCancelled
				if stage.done {
					first = cluster.CallSucceeded
				}
				want := map[string]cluster.CallState{"r-victim-0": first, "r-victim-1": cluster.CallCancelled}
				if how == "component" {
					want["r-down"], want["r-far"], want["r-side"] = cluster.CallSkipped, cluster.CallSkipped, cluster.CallSucceeded
					if why := w.call("r-down").Error; why != "needs victim, which was cancelled" {
						t.Error(why)
					}
				} else {
					want["r-down"], want["r-far"], want["r-side"] = cluster.CallCancelled, cluster.CallCancelled, states["r-side"]
					if !strings.Contains(result.Err.Error(), "interrupt") {
						t.Error(result.Err)
					}
				}
				if diff := cmp.Diff(want, states); diff != "" {
					t.Error(diff)
				}
				if result.Outcome != cluster.RunCancelled || cluster.KindOf(result.Err) != cluster.Interrupted {
					t.Errorf("%s: %v", result.Outcome, result.Err)
				}
			})
		}
	}
}

func TestStopBeforeTheBeginning(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w := newWorld(t, app(comp("a"), comp("b", needs("a"))), inprocess.NoOp, nil)
	result := w.run(ctx)
	if n := len(w.exec.Releases()); n != 0 || result.Outcome != cluster.RunCancelled {
		t.Errorf("%s with %d machines", result.Outcome, n)
	}
}

func TestStopComponentThatIsOver(t *testing.T) {
	var w *world
	w = newWorld(t, app(comp("a"), comp("b", needs("a")), comp("c", needs("b"))), byComponent(map[string]inprocess.Func{
		"b": func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
			if err := w.coord.StopComponent("a"); err != nil {
				t.Error(err)
			}
			return inprocess.NoOp(ctx, m, work, o)
		},
	}), nil)
	if result := w.run(context.Background()); result.Err != nil {
		t.Error(result.Err)
	}
	if err := w.coord.StopComponent("d"); err == nil || !strings.Contains(err.Error(), "it has: a, b, c") {
		t.Error(err)
	}
}
