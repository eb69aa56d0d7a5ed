package flow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/flow"
	"github.com/levinrun/levin/flow/inprocess"
)

// TestRandomGraphs runs random apps in which work fails, machines are lost, taken
// back or never come, go from one component to another, and people stop things,
// and holds each run to what must always be true.
func TestRandomGraphs(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 100
	}
	for seed := range rounds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(seed), 1))
			if rng.IntN(2) == 0 {
				randomRun(t, rng, 0)
				return
			}
			// Calls whose machine was taken back rest: that is to take no real time.
			synctest.Test(t, func(t *testing.T) { randomRun(t, rng, 15) })
		})
	}
}

// fate is what a random app does to its attempts, in per cent.
type fate struct{ exit, lost, noMachine, taken int }

func randomRun(t *testing.T, rng *rand.Rand, taken int) {
	app := randomApp(rng)
	fates := []fate{{}, {}, {exit: 10}, {lost: 10}, {noMachine: 10}, {exit: 5, lost: 5, noMachine: 5}}
	f := fates[rng.IntN(len(fates))]
	f.taken = taken

	r := &recorder{t: t, app: app, fate: f, rng: rng, done: map[string]int{}, finished: map[string]int{}, taken: map[string]int{}}
	w := &world{t: t, app: app, store: memory.New(), dir: t.TempDir(), reuse: randomReuse(rng)}
	w.exec = inprocess.New(r.work, r.acquire)
	w.start(w.exec)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// After so many attempts somebody stops something, or nobody does.
	r.stopAfter = rng.IntN(30)
	target := app.Components[rng.IntN(len(app.Components))].Name
	interference := []func(){
		func() {}, func() {},
		cancel,
		func() { w.coord.Stop("enough") },
		func() {
			if err := w.coord.StopComponent(target); err != nil {
				t.Error(err)
			}
		},
	}
	which := rng.IntN(len(interference))
	r.stop = interference[which]

	result := w.run(ctx)
	r.checkCalls(w, result, which < 2)
}

// randomReuse forbids some machines to some components, or all to all.
func randomReuse(rng *rand.Rand) func(from, to string) bool {
	if rng.IntN(3) == 0 {
		return nil
	}
	salt := rng.Uint64()
	return func(from, to string) bool {
		h := fnv.New64a()
		fmt.Fprint(h, salt, from, to)
		return h.Sum64()%4 != 0
	}
}

func randomApp(rng *rand.Rand) *configs.App {
	a := app()
	if rng.IntN(2) == 0 {
		a.OnFailure = configs.Continue
	}
	if rng.IntN(2) == 0 {
		a.MaxParallel = 1 + rng.IntN(4)
	}
	for i := range 1 + rng.IntN(9) {
		c := comp("c"+strconv.Itoa(i), retries(rng.IntN(3)), machines(1+rng.IntN(3)))
		if rng.IntN(3) == 0 {
			c.ForEach = []string{}
			for k := range max(0, rng.IntN(8)-2) {
				c.ForEach = append(c.ForEach, "i"+strconv.Itoa(k))
			}
		}
		if rng.IntN(4) == 0 {
			c.IdleTimeout = time.Duration(rng.IntN(300)) * time.Microsecond
		}
		for _, up := range a.Components {
			if rng.IntN(3) == 0 {
				c.Needs = append(c.Needs, up.Name)
			}
		}
		a.Components = append(a.Components, c)
	}
	return a
}

// recorder is the work of a random app. It sees the order in which things happen
// without asking the coordinator.
type recorder struct {
	t         *testing.T
	app       *configs.App
	fate      fate
	stopAfter int
	stop      func()

	mu       sync.Mutex
	rng      *rand.Rand
	begun    int
	done     map[string]int // successful attempts by call
	taken    map[string]int // attempts by call whose machine was taken back
	finished map[string]int // successful calls by component
}

// dice throws the dice for one attempt; true comes with the given probability.
func (r *recorder) dice(percent int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rng.IntN(100) < percent
}

func (r *recorder) acquire(ctx context.Context, c configs.Component, _ int) error {
	r.checkNeeds(c)
	runtime.Gosched()
	if r.dice(r.fate.taken) {
		return &cluster.Failure{Kind: cluster.Preempted, What: "the machine was taken back before it answered"}
	}
	if r.dice(r.fate.noMachine) {
		return &cluster.Failure{Kind: cluster.Capacity, What: "no machine to be had"}
	}
	return ctx.Err()
}

// checkNeeds fails the test when a component begins before its needs are met.
func (r *recorder) checkNeeds(c configs.Component) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, need := range c.Needs {
		for _, up := range r.app.Components {
			if up.Name == need && r.finished[need] != callsOf(up) {
				r.t.Errorf("%s began when %d of %d calls of %s had succeeded", c.Name, r.finished[need], callsOf(up), need)
			}
		}
	}
}

func (r *recorder) work(ctx context.Context, _ string, w flow.Work, o flow.Observer) (flow.Outcome, error) {
	r.checkNeeds(w.Component)
	r.mu.Lock()
	r.begun++
	stop := r.begun == r.stopAfter
	r.mu.Unlock()
	if stop {
		r.stop()
	}
	o.Shipped(1)
	o.Running()
	o.Log(0, []byte("line\nhalf a line"))
	runtime.Gosched()
	switch {
	case ctx.Err() != nil:
		return flow.Outcome{}, ctx.Err()
	case r.dice(r.fate.taken):
		r.mu.Lock()
		r.taken[w.Env["LEVIN_CALL"]]++
		r.mu.Unlock()
		if r.dice(50) {
			return flow.Outcome{}, &cluster.Failure{Kind: cluster.Preempted, What: "the machine was taken back"}
		}
		o.Preempted(time.Now(), "soon")
		o.Exited(143, time.Now())
		return flow.Outcome{ExitCode: 143, ExitedAt: time.Now(), Preempted: true}, nil
	case r.dice(r.fate.lost):
		return flow.Outcome{}, errors.New("the machine does not answer")
	case r.dice(r.fate.exit):
		o.Exited(3, time.Now())
		return flow.Outcome{ExitCode: 3, ExitedAt: time.Now()}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	call := w.Env["LEVIN_CALL"]
	r.done[call]++
	r.finished[w.Component.Name]++
	if r.done[call] > 1 {
		r.t.Errorf("%s has been done %d times", call, r.done[call])
	}
	o.Exited(0, time.Now())
	return flow.Outcome{ExitedAt: time.Now(), Result: json.RawMessage(`{"by":"` + w.ID + `"}`)}, nil
}

// checkCalls compares what the store says with what really ran.
func (r *recorder) checkCalls(w *world, result flow.Result, undisturbed bool) {
	t := r.t
	count := map[cluster.CallState]int{}
	byCall := map[string]int{}
	for _, a := range w.attempts() {
		byCall[a.Call]++
		if strings.Contains(a.Error, "before it answered") {
			r.taken[a.Call]++
		}
		if a.Number != byCall[a.Call] {
			t.Errorf("attempt %d of %s is in place %d", a.Number, a.Call, byCall[a.Call])
		}
		if a.EndedAt.IsZero() {
			t.Errorf("attempt %d of %s has no end", a.Number, a.Call)
		}
	}
	for _, call := range w.calls() {
		count[call.State]++
		var spec configs.Component
		for _, c := range r.app.Components {
			if c.Name == call.Component {
				spec = c
			}
		}
		if (call.State == cluster.CallSucceeded) != (r.done[call.ID] == 1) {
			t.Errorf("call %s is %s and has been done %d times", call.ID, call.State, r.done[call.ID])
		}
		if byCall[call.ID] != call.Attempt || call.Attempt > spec.Retries+1+r.taken[call.ID] {
			t.Errorf("call %s says %d attempts, the store has %d, %d allowed", call.ID, call.Attempt, byCall[call.ID], spec.Retries+1+r.taken[call.ID])
		}
		if want := fmt.Sprintf(`{"by":%q}`, flow.AttemptID(call.ID, call.Attempt)); call.State == cluster.CallSucceeded && string(call.Result) != want {
			t.Errorf("call %s has result %s, want %s", call.ID, call.Result, want)
		}
		checkStory(t, w.heard(call.ID), call)
	}
	want := cluster.RunSucceeded
	switch {
	case count[cluster.CallFailed] > 0 && result.Outcome == cluster.RunFailed:
		want = cluster.RunFailed
	case result.Outcome == cluster.RunCancelled && !undisturbed:
		want = cluster.RunCancelled // who stopped first counts
	}
	if result.Outcome != want {
		t.Errorf("the run has %s: calls %v", result.Outcome, count)
	}
	if want == cluster.RunSucceeded && count[cluster.CallSucceeded] != len(w.calls()) {
		t.Errorf("the run has succeeded: calls %v", count)
	}
}

// checkStory checks that a call's events make sense in their order.
func checkStory(t *testing.T, story []string, call cluster.Call) {
	if len(story) == 0 || story[len(story)-1] != string(call.State) {
		t.Errorf("call %s is %s, its events are %v", call.ID, call.State, story)
		return
	}
	started := 0
	for i, what := range story {
		if what == "started" {
			started++
		} else if started == 0 && what != "skipped" && what != "cancelled" {
			t.Errorf("call %s: %s before it started: %v", call.ID, what, story)
		}
		if final := what == string(call.State); final && i != len(story)-1 {
			t.Errorf("call %s ended more than once: %v", call.ID, story)
		}
	}
	if started != call.Attempt {
		t.Errorf("call %s started %d times in %d attempts: %v", call.ID, started, call.Attempt, story)
	}
}

func callsOf(c configs.Component) int {
	if c.ForEach == nil {
		return 1
	}
	return len(c.ForEach)
}
