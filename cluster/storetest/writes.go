package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
)

// moves walks every pair of states of every sort of row and holds the store to
// what CanBecome says.
func moves(t *testing.T, s cluster.Store) {
	commit(t, s, cluster.Change{Run: NewRun("r")})
	runs := []cluster.RunState{
		cluster.RunPending, cluster.RunRunning, cluster.RunStopping, cluster.RunSucceeded, cluster.RunFailed, cluster.RunCancelled, "", "odd",
	}
	walk(t, s, runs, func(id string, st cluster.RunState) cluster.Change {
		r := NewRun("run" + id)
		r.State = st
		return cluster.Change{Run: r}
	})
	groups := []cluster.GroupState{
		cluster.GroupPlanned, cluster.GroupApplying, cluster.GroupApplied, cluster.GroupDestroying, cluster.GroupDestroyed, "", "odd",
	}
	walk(t, s, groups, func(id string, st cluster.GroupState) cluster.Change {
		g := NewGroup("r", id)
		g.State = st
		return cluster.Change{Groups: []cluster.Group{g}}
	})
	machines := []cluster.MachineState{
		cluster.MachineRequested, cluster.MachineCreating, cluster.MachineReady, cluster.MachineStopping, cluster.MachineGone, "", "odd",
	}
	walk(t, s, machines, func(id string, st cluster.MachineState) cluster.Change {
		m := NewMachine("r", id)
		m.State = st
		return cluster.Change{Machines: []cluster.Machine{m}}
	})
	calls := []cluster.CallState{
		cluster.CallWaiting, cluster.CallStarting, cluster.CallRunning, cluster.CallSucceeded, cluster.CallFailed,
		cluster.CallCancelled, cluster.CallSkipped, "", "odd",
	}
	walk(t, s, calls, func(id string, st cluster.CallState) cluster.Change {
		c := NewCall("r", id)
		c.State = st
		return cluster.Change{Calls: []cluster.Call{c}}
	})
}

// walk tries from → to for every pair, from a fresh row each time. The first
// state is the one in which a row may begin.
func walk[S interface {
	~string
	CanBecome(S) bool
}](t *testing.T, s cluster.Store, states []S, change func(id string, st S) cluster.Change) {
	t.Helper()
	paths := map[S][]S{states[0]: {states[0]}}
	for todo := []S{states[0]}; len(todo) > 0; todo = todo[1:] {
		for _, next := range states {
			if _, known := paths[next]; !known && todo[0].CanBecome(next) {
				paths[next] = append(append([]S{}, paths[todo[0]]...), next)
				todo = append(todo, next)
			}
		}
	}
	n := 0
	try := func(id string, from, to S, legal bool) {
		t.Helper()
		err := s.Commit(t.Context(), change(id, to))
		var te *cluster.TransitionError
		switch {
		case legal && err != nil:
			t.Errorf("%T %q → %q: %v", to, from, to, err)
		case !legal && !errors.As(err, &te):
			t.Errorf("%T %q → %q: got %v, want a TransitionError", to, from, to, err)
		case !legal && (te.From != string(from) || te.To != string(to) || te.What == "" || te.ID == ""):
			t.Errorf("%T %q → %q: the error says %+v", to, from, to, *te)
		}
	}
	for _, from := range states {
		try(fmt.Sprintf("new-%s", from), "", from, from == states[0])
		for _, to := range states {
			path, reachable := paths[from]
			if !reachable {
				continue
			}
			n++
			id := fmt.Sprint("w", n)
			for _, step := range path {
				commit(t, s, change(id, step))
			}
			try(id, from, to, from.CanBecome(to))
		}
	}
}

func refused(t *testing.T, s cluster.Store) {
	commit(t, s, cluster.Change{Run: NewRun("r")})
	commit(t, s, cluster.Change{Run: NewRun("other"), Machines: []cluster.Machine{NewMachine("other", "m")}, Calls: []cluster.Call{NewCall("other", "c")}})
	log := warning("r", "x")
	log.Type = cluster.EventCallLog
	cooling := cluster.Cooldown{Cloud: "aws", Until: time.Now().Add(time.Hour)}
	homeless, endless := cooling, cooling
	homeless.Cloud, endless.Until = "", time.Time{}
	for _, tt := range []struct {
		name     string
		change   cluster.Change
		notFound bool
	}{
		{"a log line", cluster.Change{Events: []cluster.Event{log}}, false},
		{"a machine without a name", cluster.Change{Machines: []cluster.Machine{NewMachine("r", "")}}, false},
		{"a run without a name", cluster.Change{Run: NewRun("")}, false},
		{"a machine that changes runs", cluster.Change{Machines: []cluster.Machine{NewMachine("r", "m")}}, false},
		{"a cooldown of no cloud", cluster.Change{Cooldowns: []cluster.Cooldown{cooling, homeless}}, false},
		{"a cooldown without an end", cluster.Change{Cooldowns: []cluster.Cooldown{cooling, endless}}, false},
		{"attempt 0", cluster.Change{Attempts: []cluster.Attempt{{Run: "other", Call: "c"}}}, false},
		{"an attempt in another run than its call", cluster.Change{Attempts: []cluster.Attempt{{Run: "r", Call: "c", Number: 1}}}, false},
		{"an attempt of no call", cluster.Change{Attempts: []cluster.Attempt{{Run: "r", Call: "none", Number: 1}}}, true},
		{"a group of no run", cluster.Change{Groups: []cluster.Group{NewGroup("none", "g")}}, true},
		{"a machine of no run", cluster.Change{Machines: []cluster.Machine{NewMachine("none", "x")}}, true},
		{"a call of no run", cluster.Change{Calls: []cluster.Call{NewCall("none", "x")}}, true},
		{"an event of no run", cluster.Change{Events: []cluster.Event{warning("none", "x")}}, true},
	} {
		err := s.Commit(t.Context(), tt.change)
		if err == nil || errors.Is(err, cluster.ErrNotFound) != tt.notFound {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
	same(t, "cooldowns of refused changes", len(must[[]cluster.Cooldown](t)(s.Cooldowns(t.Context(), time.Now()))), 0)
	// Within one change, later rows see earlier ones: two moves of one machine.
	m := NewMachine("r", "two")
	m2 := m
	m2.State = cluster.MachineCreating
	commit(t, s, cluster.Change{Machines: []cluster.Machine{m, m2}})
	m3 := m2
	m3.State = cluster.MachineGone
	if err := s.Commit(t.Context(), cluster.Change{Machines: []cluster.Machine{m2, m3}}); err == nil {
		t.Error("creating → gone passed behind a legal row")
	}
}

func allOrNothing(t *testing.T, s cluster.Store) {
	commit(t, s, cluster.Change{Run: NewRun("r"), Calls: []cluster.Call{NewCall("r", "old")}, Events: []cluster.Event{warning("r", "first")}})
	started := NewCall("r", "old")
	started.State = cluster.CallStarting
	run := NewRun("r")
	run.State = cluster.RunRunning
	bad := NewCall("r", "bad")
	bad.State = cluster.CallSucceeded
	c := cluster.Change{
		Run: run, Groups: []cluster.Group{NewGroup("r", "g")}, Machines: []cluster.Machine{NewMachine("r", "m")},
		Calls: []cluster.Call{started, NewCall("r", "new"), bad}, Attempts: []cluster.Attempt{{Run: "r", Call: "old", Number: 1}},
		Events: []cluster.Event{warning("r", "second")},
	}
	var te *cluster.TransitionError
	if err := s.Commit(t.Context(), c); !errors.As(err, &te) {
		t.Fatalf("Commit = %v, want a TransitionError", err)
	}
	want := cluster.TransitionError{What: "call", ID: "bad", To: "succeeded"}
	same(t, "the error", *te, want)
	if c.Events[0].Seq != 0 {
		t.Errorf("a refused event has seq %d", c.Events[0].Seq)
	}
	ctx := t.Context()
	same(t, "run", must[cluster.Run](t)(s.Run(ctx, "r")).State, cluster.RunPending)
	same(t, "groups", len(must[[]cluster.Group](t)(s.Groups(ctx, "r"))), 0)
	same(t, "machines", len(must[[]cluster.Machine](t)(s.Machines(ctx, "r"))), 0)
	same(t, "calls", must[[]cluster.Call](t)(s.Calls(ctx, "r")), []cluster.Call{NewCall("r", "old")})
	same(t, "attempts", len(must[[]cluster.Attempt](t)(s.Attempts(ctx, "r"))), 0)
	same(t, "events", len(must[[]cluster.Event](t)(s.Events(ctx, "r", 0, 0))), 1)
	// A result that is no JSON cannot be kept, and takes nothing with it.
	broken := NewCall("r", "broken")
	broken.Result = json.RawMessage("{")
	if err := s.Commit(ctx, cluster.Change{Calls: []cluster.Call{NewCall("r", "new"), broken}}); err == nil {
		t.Error("a result that is not JSON was stored")
	}
	same(t, "calls", len(must[[]cluster.Call](t)(s.Calls(ctx, "r"))), 1)
}

// concurrent has writers race for the same machines while readers look on: each
// race has one winner, and no reader sees half a change.
func concurrent(t *testing.T, s cluster.Store) {
	ctx := t.Context()
	const writers, rounds = 6, 25
	first := cluster.Change{Run: NewRun("r")}
	for n := range rounds {
		first.Machines = append(first.Machines, NewMachine("r", fmt.Sprint("m", n)))
	}
	commit(t, s, first)

	done := make(chan struct{})
	var readers, wg sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				calls, err := s.Calls(ctx, "r")
				if err != nil {
					t.Error(err)
					return
				}
				if len(calls)%2 != 0 {
					t.Errorf("a reader sees %d calls: half a change", len(calls))
					return
				}
			}
		})
	}
	var wins atomic.Int64
	for w := range writers {
		wg.Go(func() {
			for n := range rounds {
				c := cluster.Change{
					Calls:  []cluster.Call{NewCall("r", fmt.Sprint("a", w, "-", n)), NewCall("r", fmt.Sprint("b", w, "-", n))},
					Events: []cluster.Event{warning("r", "x")},
				}
				if err := s.Commit(ctx, c); err != nil {
					t.Errorf("Commit: %v", err)
				}
			}
			for _, n := range rand.Perm(rounds) {
				stopping := NewMachine("r", fmt.Sprint("m", n))
				stopping.State = cluster.MachineStopping
				gone := stopping
				gone.State = cluster.MachineGone
				err := s.Commit(ctx, cluster.Change{Machines: []cluster.Machine{stopping, gone}})
				var te *cluster.TransitionError // gone → stopping, for all but the first
				switch {
				case err == nil:
					wins.Add(1)
				case !errors.As(err, &te):
					t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	wg.Wait()
	close(done)
	readers.Wait()

	same(t, "races won", wins.Load(), int64(rounds))
	same(t, "calls", len(must[[]cluster.Call](t)(s.Calls(ctx, "r"))), writers*rounds*2)
	for i, e := range must[[]cluster.Event](t)(s.Events(ctx, "r", 0, 0)) {
		if e.Seq != int64(i)+1 {
			t.Fatalf("event %d has seq %d", i, e.Seq)
		}
	}
	same(t, "events", len(must[[]cluster.Event](t)(s.Events(ctx, "r", 0, 0))), writers*rounds)
}

func thousands(t *testing.T, s cluster.Store) {
	const n = 3000
	c := cluster.Change{Run: NewRun("r")}
	for i := range n {
		c.Calls = append(c.Calls, NewCall("r", fmt.Sprint("c", i)))
		c.Events = append(c.Events, warning("r", "x"))
	}
	commit(t, s, c)
	same(t, "calls", len(must[[]cluster.Call](t)(s.Calls(t.Context(), "r"))), n)
	same(t, "last seq", c.Events[n-1].Seq, int64(n))
}
