// Package storetest is the conformance suite of cluster.Store: what the contract
// says, as tests that every implementation passes.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
)

// Run holds a store to its contract. open gives a new empty store each time it
// is called; the suite closes it.
func Run(t *testing.T, open func(t *testing.T) cluster.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, cluster.Store)
	}{
		{"RowsComeBackWhole", rowsComeBackWhole},
		{"RowsAreReplaced", rowsAreReplaced},
		{"Copies", copies},
		{"Order", order},
		{"RunFilter", runFilter},
		{"AllMachines", allMachines},
		{"Events", events},
		{"Moves", moves},
		{"Refused", refused},
		{"AllOrNothing", allOrNothing},
		{"Missing", missing},
		{"DeleteRun", deleteRun},
		{"Cooldowns", cooldowns},
		{"CooldownsForgotten", cooldownsForgotten},
		{"CooldownsConcurrent", cooldownsConcurrent},
		{"DeadContext", deadContext},
		{"Closed", closed},
		{"Concurrent", concurrent},
		{"Thousands", thousands},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t)
			defer s.Close()
			test.run(t, s)
		})
	}
}

var t0 = time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.UTC)

// NewRun gives a run as it is first committed.
func NewRun(id string) *cluster.Run {
	return &cluster.Run{ID: id, App: "app", AppDir: "/app", Cloud: "local", State: cluster.RunPending, CreatedAt: t0}
}

// NewMachine gives a machine as it is first committed.
func NewMachine(run, name string) cluster.Machine {
	return cluster.Machine{Name: name, Run: run, Component: "train", State: cluster.MachineRequested, Cloud: "local", RequestedAt: t0}
}

// NewCall gives a call as it is first committed.
func NewCall(run, id string) cluster.Call {
	return cluster.Call{ID: id, Run: run, Component: "train", State: cluster.CallWaiting}
}

// NewGroup gives a group as it is first committed.
func NewGroup(run, id string) cluster.Group {
	return cluster.Group{ID: id, Run: run, Cloud: "local", State: cluster.GroupPlanned, CreatedAt: t0}
}

func warning(run, text string) cluster.Event {
	return cluster.Event{Run: run, Type: cluster.EventWarning, Time: t0, Message: text}
}

func commit(t *testing.T, s cluster.Store, c cluster.Change) {
	t.Helper()
	if err := s.Commit(t.Context(), c); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

func must[V any](t *testing.T) func(V, error) V {
	return func(v V, err error) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func ptr[V any](v V) *V { return &v }

// full gives a change in which every field of every row is set, with times in a
// zone of their own.
func full(run string) cluster.Change {
	zone := time.FixedZone("far", 5*3600)
	at := func(n int) time.Time { return t0.Add(time.Duration(n) * time.Nanosecond).In(zone) }
	const text = "<b>&\u2028\"ü\n\x00"
	result := json.RawMessage(`{ "accuracy": 0.95, "text":"<&>","big":12345678901234567890}`)
	r := cluster.Run{
		ID: run, App: "app", AppDir: "/a b", Cloud: "local", State: cluster.RunPending, Outcome: cluster.RunSucceeded,
		Spec: []byte{0, 1, 2, 0xff}, CreatedAt: at(1), StartedAt: at(2), FinishedAt: at(3),
		Controller: cluster.Controller{Host: "h", PID: 7, Socket: "/s"}, Error: text, Leaked: 2, Kept: true,
	}
	g := cluster.Group{
		ID: run + "-g1", Run: run, Cloud: "aws", Region: "us-east-1", Dir: "/d", State: cluster.GroupPlanned,
		CreatedAt: at(4), Error: text,
	}
	m := cluster.Machine{
		Name: run + "-m1", Run: run, Component: "train", Group: g.ID, State: cluster.MachineRequested,
		Cloud: "aws", Region: "us-east-1", Zone: "us-east-1a", Type: "g4dn.xlarge", PricePerHour: 0.526,
		Address: "10.0.0.1", PrivateAddress: "10.1.0.1", Port: 22, User: "u", HostKey: "ssh-ed25519 AAAA", CloudID: "i-1",
		RequestedAt: at(5), CreatingAt: at(6), ReadyAt: at(7), StopRequestedAt: at(8), GoneAt: at(9), Error: text,
		Spot: true, ExpiresAt: at(18),
	}
	c := cluster.Call{
		ID: run + "-c1", Run: run, Component: "train", Index: 3, Each: "svm", State: cluster.CallWaiting, Attempt: 2, Machine: m.Name,
		Result:    result,
		Artifacts: []cluster.Artifact{{Path: "a/b", Digest: "sha256:00", Size: 1 << 40, Mode: 0o755, Link: "c"}, {Path: "d"}},
		ExitCode:  ptr(0), ExitedAt: at(10), StartedAt: at(11), FinishedAt: at(12), Error: text,
	}
	a := cluster.Attempt{
		Call: c.ID, Number: 2, Run: run, Machine: m.Name, StartedAt: at(13), ExitCode: ptr(137), ExitedAt: at(14), EndedAt: at(15), Error: text,
	}
	e := cluster.Event{
		Time: at(16), Run: run, Type: cluster.EventCallExited, Component: "train", Call: c.ID, Each: "svm", Attempt: 2,
		Machine: m.Name, Cloud: "aws", Region: "r", Zone: "z", Offer: "o", Address: "a", PricePerHour: 0.1, Bytes: 9,
		Line: "l", Offset: 8, ExitCode: ptr(0), ExitedAt: ptr(at(17)), Result: result, State: "s", Seconds: 1.5,
		Cost: ptr(0.0), Saved: ptr(0.25), Leaked: ptr(0), Message: text, Error: text, Kind: "quota", Spot: true,
	}
	return cluster.Change{
		Run: &r, Groups: []cluster.Group{g}, Machines: []cluster.Machine{m}, Calls: []cluster.Call{c},
		Attempts: []cluster.Attempt{a}, Events: []cluster.Event{e},
	}
}

func rowsComeBackWhole(t *testing.T, s cluster.Store) {
	c := full("r")
	commit(t, s, c)
	ctx := t.Context()
	if c.Events[0].Seq != 1 {
		t.Errorf("Commit gave the first event seq %d", c.Events[0].Seq)
	}
	same(t, "run", must[cluster.Run](t)(s.Run(ctx, "r")), c.Run.Clone())
	same(t, "runs", must[[]cluster.Run](t)(s.Runs(ctx, cluster.RunFilter{})), []cluster.Run{c.Run.Clone()})
	same(t, "groups", must[[]cluster.Group](t)(s.Groups(ctx, "r")), []cluster.Group{c.Groups[0].Clone()})
	same(t, "machines", must[[]cluster.Machine](t)(s.Machines(ctx, "r")), []cluster.Machine{c.Machines[0].Clone()})
	same(t, "calls", must[[]cluster.Call](t)(s.Calls(ctx, "r")), []cluster.Call{c.Calls[0].Clone()})
	same(t, "attempts", must[[]cluster.Attempt](t)(s.Attempts(ctx, "r")), []cluster.Attempt{c.Attempts[0].Clone()})
	same(t, "events", must[[]cluster.Event](t)(s.Events(ctx, "r", 0, 0)), []cluster.Event{c.Events[0].Clone()})

	got := must[[]cluster.Machine](t)(s.Machines(ctx, "r"))[0]
	if got.GoneAt.Location() != time.UTC || got.GoneAt.Nanosecond() != 123456798 {
		t.Errorf("a time came back as %v", got.GoneAt)
	}

	// The least a row can hold comes back as it was, too.
	least := cluster.Change{
		Run: &cluster.Run{ID: "least", State: cluster.RunPending}, Groups: []cluster.Group{{ID: "g", Run: "least", State: cluster.GroupPlanned}},
		Machines: []cluster.Machine{{Name: "m", Run: "least", State: cluster.MachineRequested}},
		Calls:    []cluster.Call{{ID: "c", Run: "least", State: cluster.CallWaiting, Artifacts: []cluster.Artifact{}}},
		Attempts: []cluster.Attempt{{Call: "c", Number: 1, Run: "least"}},
		Events:   []cluster.Event{{Run: "least", Type: cluster.EventWarning}},
	}
	commit(t, s, least)
	same(t, "least run", must[cluster.Run](t)(s.Run(ctx, "least")), least.Run.Clone())
	same(t, "least machine", must[[]cluster.Machine](t)(s.Machines(ctx, "least")), least.Machines)
	same(t, "least call", must[[]cluster.Call](t)(s.Calls(ctx, "least")), []cluster.Call{least.Calls[0].Clone()})
	same(t, "least attempt", must[[]cluster.Attempt](t)(s.Attempts(ctx, "least")), least.Attempts)
	same(t, "least event", must[[]cluster.Event](t)(s.Events(ctx, "least", 0, 0)), least.Events)
}

func rowsAreReplaced(t *testing.T, s cluster.Store) {
	c := full("r")
	commit(t, s, c)
	ctx := t.Context()
	r := cluster.Run{ID: "r", App: "other", State: cluster.RunRunning}
	g := cluster.Group{ID: "r-g1", Run: "r", State: cluster.GroupApplying}
	m := cluster.Machine{Name: "r-m1", Run: "r", State: cluster.MachineCreating}
	call := cluster.Call{ID: "r-c1", Run: "r", State: cluster.CallStarting}
	a := cluster.Attempt{Call: "r-c1", Number: 2, Run: "r", Error: "new"}
	commit(t, s, cluster.Change{
		Run: &r, Groups: []cluster.Group{g}, Machines: []cluster.Machine{m}, Calls: []cluster.Call{call}, Attempts: []cluster.Attempt{a},
	})
	same(t, "run", must[cluster.Run](t)(s.Run(ctx, "r")), r)
	same(t, "runs of the new app", must[[]cluster.Run](t)(s.Runs(ctx, cluster.RunFilter{App: "other"})), []cluster.Run{r})
	same(t, "groups", must[[]cluster.Group](t)(s.Groups(ctx, "r")), []cluster.Group{g})
	same(t, "machines", must[[]cluster.Machine](t)(s.Machines(ctx, "r")), []cluster.Machine{m})
	same(t, "calls", must[[]cluster.Call](t)(s.Calls(ctx, "r")), []cluster.Call{call})
	same(t, "attempts", must[[]cluster.Attempt](t)(s.Attempts(ctx, "r")), []cluster.Attempt{a})

	// The same state again, with new details.
	m.Error = "still at it"
	commit(t, s, cluster.Change{Machines: []cluster.Machine{m}})
	same(t, "machines", must[[]cluster.Machine](t)(s.Machines(ctx, "r")), []cluster.Machine{m})
}

func copies(t *testing.T, s cluster.Store) {
	c := full("r")
	want := full("r")
	commit(t, s, c)
	ctx := t.Context()

	spoil := func(r *cluster.Run, call *cluster.Call, a *cluster.Attempt, e *cluster.Event) {
		r.Spec[0] = 99
		call.Result[0], call.Artifacts[0].Path, *call.ExitCode = 'X', "changed", 99
		*a.ExitCode = 99
		e.Result[0], *e.ExitCode, *e.Cost, *e.Saved, *e.Leaked = 'X', 99, 99, 99, 99
		*e.ExitedAt = time.Time{}
	}
	check := func(what string) {
		t.Helper()
		same(t, what+": run", must[cluster.Run](t)(s.Run(ctx, "r")), want.Run.Clone())
		same(t, what+": calls", must[[]cluster.Call](t)(s.Calls(ctx, "r")), []cluster.Call{want.Calls[0].Clone()})
		same(t, what+": attempts", must[[]cluster.Attempt](t)(s.Attempts(ctx, "r")), []cluster.Attempt{want.Attempts[0].Clone()})
		want.Events[0].Seq = 1
		same(t, what+": events", must[[]cluster.Event](t)(s.Events(ctx, "r", 0, 0)), []cluster.Event{want.Events[0].Clone()})
	}
	spoil(c.Run, &c.Calls[0], &c.Attempts[0], &c.Events[0])
	check("after the caller changed what it had committed")

	r := must[cluster.Run](t)(s.Run(ctx, "r"))
	calls := must[[]cluster.Call](t)(s.Calls(ctx, "r"))
	attempts := must[[]cluster.Attempt](t)(s.Attempts(ctx, "r"))
	list := must[[]cluster.Event](t)(s.Events(ctx, "r", 0, 0))
	spoil(&r, &calls[0], &attempts[0], &list[0])
	check("after the caller changed what it had read")
}

func order(t *testing.T, s cluster.Store) {
	ctx := t.Context()
	// Names are in an order of their own, so that sorting by name shows.
	names := []string{"m", "z", "a", "q", "b"}
	for _, run := range names {
		commit(t, s, cluster.Change{Run: NewRun(run)})
	}
	var c cluster.Change
	for _, n := range names {
		c.Groups = append(c.Groups, NewGroup("a", n))
		c.Machines = append(c.Machines, NewMachine("a", n))
		c.Calls = append(c.Calls, NewCall("a", n))
		c.Attempts = append(c.Attempts, cluster.Attempt{Run: "a", Call: n, Number: 1})
	}
	commit(t, s, c)
	// A row that is written again keeps its place.
	commit(t, s, cluster.Change{
		Run: NewRun("z"), Groups: c.Groups[1:2], Machines: c.Machines[1:2], Calls: c.Calls[1:2],
		Attempts: []cluster.Attempt{{Run: "a", Call: "m", Number: 2}, c.Attempts[1]},
	})

	var got struct{ runs, groups, machines, calls, attempts string }
	for _, r := range must[[]cluster.Run](t)(s.Runs(ctx, cluster.RunFilter{})) {
		got.runs += r.ID
	}
	for _, g := range must[[]cluster.Group](t)(s.Groups(ctx, "a")) {
		got.groups += g.ID
	}
	for _, m := range must[[]cluster.Machine](t)(s.Machines(ctx, "a")) {
		got.machines += m.Name
	}
	for _, call := range must[[]cluster.Call](t)(s.Calls(ctx, "a")) {
		got.calls += call.ID
	}
	for _, a := range must[[]cluster.Attempt](t)(s.Attempts(ctx, "a")) {
		got.attempts += fmt.Sprint(a.Call, a.Number)
	}
	same(t, "runs", got.runs, "bqazm")
	same(t, "groups", got.groups, "mzaqb")
	same(t, "machines", got.machines, "mzaqb")
	same(t, "calls", got.calls, "mzaqb")
	same(t, "attempts", got.attempts, "m1z1a1q1b1m2")
}

func runFilter(t *testing.T, s cluster.Store) {
	for i, app := range []string{"x", "y", "x", "y", "x"} {
		r := NewRun(fmt.Sprint(i))
		r.App = app
		commit(t, s, cluster.Change{Run: r, Machines: []cluster.Machine{NewMachine(r.ID, "m"+r.ID)}})
		r.State = cluster.RunStopping
		commit(t, s, cluster.Change{Run: r})
	}
	end := func(id string, final cluster.RunState, machineGone bool) {
		r := must[cluster.Run](t)(s.Run(t.Context(), id))
		r.State = final
		m := NewMachine(id, "m"+id)
		m.State = cluster.MachineStopping
		commit(t, s, cluster.Change{Run: &r, Machines: []cluster.Machine{m}})
		if machineGone {
			m.State = cluster.MachineGone
			commit(t, s, cluster.Change{Machines: []cluster.Machine{m}})
		}
	}
	end("0", cluster.RunSucceeded, true)
	end("1", cluster.RunFailed, true)
	end("2", cluster.RunCancelled, true)
	end("3", cluster.RunSucceeded, false) // a machine was kept
	for _, tt := range []struct {
		f    cluster.RunFilter
		want string
	}{
		{cluster.RunFilter{}, "43210"},
		{cluster.RunFilter{App: "x"}, "420"},
		{cluster.RunFilter{App: "none"}, ""},
		{cluster.RunFilter{Active: true}, "43"},
		{cluster.RunFilter{Active: true, App: "x"}, "4"},
		{cluster.RunFilter{Limit: 2}, "43"},
		{cluster.RunFilter{Limit: 2, App: "x"}, "42"},
		{cluster.RunFilter{Limit: 1, Active: true, App: "y"}, "3"},
		{cluster.RunFilter{Limit: 99}, "43210"},
	} {
		var got string
		for _, r := range must[[]cluster.Run](t)(s.Runs(t.Context(), tt.f)) {
			got += r.ID
		}
		same(t, fmt.Sprintf("%+v", tt.f), got, tt.want)
	}
}

func allMachines(t *testing.T, s cluster.Store) {
	for _, run := range []string{"z", "a"} {
		commit(t, s, cluster.Change{Run: NewRun(run)})
	}
	for _, m := range []cluster.Machine{NewMachine("a", "3"), NewMachine("z", "1"), NewMachine("a", "2")} {
		commit(t, s, cluster.Change{Machines: []cluster.Machine{m}})
	}
	names := func() string {
		var got []string
		for _, m := range must[[]cluster.Machine](t)(s.AllMachines(t.Context())) {
			got = append(got, m.Run+m.Name)
		}
		return strings.Join(got, " ")
	}
	same(t, "machines of every run, in order of creation", names(), "a3 z1 a2")
	m := NewMachine("z", "1")
	m.State = cluster.MachineStopping
	commit(t, s, cluster.Change{Machines: []cluster.Machine{m}})
	same(t, "one is stopping", names(), "a3 z1 a2")
	m.State = cluster.MachineGone
	commit(t, s, cluster.Change{Machines: []cluster.Machine{m}})
	same(t, "one is gone", names(), "a3 a2")
}

func events(t *testing.T, s cluster.Store) {
	ctx := t.Context()
	commit(t, s, cluster.Change{Run: NewRun("a")})
	commit(t, s, cluster.Change{Run: NewRun("b")})
	c := cluster.Change{Events: []cluster.Event{warning("a", "a1"), warning("b", "b1"), warning("a", "a2"), warning("b", "b2")}}
	c.Events[0].Seq = 77 // a number from elsewhere means nothing
	commit(t, s, c)
	commit(t, s, cluster.Change{Events: []cluster.Event{warning("a", "a3")}})
	var seqs []int64
	for _, e := range c.Events {
		seqs = append(seqs, e.Seq)
	}
	same(t, "seqs are counted in each run", seqs, []int64{1, 1, 2, 2})
	for _, tt := range []struct {
		after int64
		limit int
		want  string
	}{
		{0, 0, "a1 a2 a3"}, {1, 0, "a2 a3"}, {3, 0, ""}, {99, 0, ""}, {-5, 0, "a1 a2 a3"},
		{0, 2, "a1 a2"}, {1, 1, "a2"}, {2, 9, "a3"},
	} {
		var got []string
		for _, e := range must[[]cluster.Event](t)(s.Events(ctx, "a", tt.after, tt.limit)) {
			got = append(got, e.Message)
		}
		same(t, fmt.Sprintf("after %d limit %d", tt.after, tt.limit), strings.Join(got, " "), tt.want)
	}
}

func missing(t *testing.T, s cluster.Store) {
	ctx := t.Context()
	if _, err := s.Run(ctx, "none"); !errors.Is(err, cluster.ErrNotFound) || !strings.Contains(err.Error(), "none") {
		t.Errorf("Run = %v", err)
	}
	if err := s.DeleteRun(ctx, "none"); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("DeleteRun = %v", err)
	}
	same(t, "runs", len(must[[]cluster.Run](t)(s.Runs(ctx, cluster.RunFilter{}))), 0)
	same(t, "groups", len(must[[]cluster.Group](t)(s.Groups(ctx, "none"))), 0)
	same(t, "machines", len(must[[]cluster.Machine](t)(s.Machines(ctx, "none"))), 0)
	same(t, "all machines", len(must[[]cluster.Machine](t)(s.AllMachines(ctx))), 0)
	same(t, "calls", len(must[[]cluster.Call](t)(s.Calls(ctx, "none"))), 0)
	same(t, "attempts", len(must[[]cluster.Attempt](t)(s.Attempts(ctx, "none"))), 0)
	same(t, "events", len(must[[]cluster.Event](t)(s.Events(ctx, "none", 0, 0))), 0)
	commit(t, s, cluster.Change{}) // an empty change is fine
}

func deleteRun(t *testing.T, s cluster.Store) {
	ctx := t.Context()
	commit(t, s, full("r"))
	commit(t, s, full("stays"))
	refuse := func(why string) {
		t.Helper()
		err := s.DeleteRun(ctx, "r")
		if cluster.KindOf(err) != cluster.BadInput {
			t.Errorf("%s: DeleteRun = %v", why, err)
		}
		if _, err := s.Run(ctx, "r"); err != nil {
			t.Fatalf("%s: the run is gone: %v", why, err)
		}
	}
	refuse("a run that is pending")
	r := NewRun("r")
	for _, st := range []cluster.RunState{cluster.RunStopping, cluster.RunFailed} {
		r.State = st
		commit(t, s, cluster.Change{Run: r})
	}
	refuse("a run with a machine")
	m := NewMachine("r", "r-m1")
	for _, st := range []cluster.MachineState{cluster.MachineStopping, cluster.MachineGone} {
		m.State = st
		commit(t, s, cluster.Change{Machines: []cluster.Machine{m}})
	}
	if err := s.DeleteRun(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Run(ctx, "r"); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("Run after DeleteRun = %v", err)
	}
	for run, want := range map[string]int{"r": 0, "stays": 1} {
		same(t, run+" groups", len(must[[]cluster.Group](t)(s.Groups(ctx, run))), want)
		same(t, run+" machines", len(must[[]cluster.Machine](t)(s.Machines(ctx, run))), want)
		same(t, run+" calls", len(must[[]cluster.Call](t)(s.Calls(ctx, run))), want)
		same(t, run+" attempts", len(must[[]cluster.Attempt](t)(s.Attempts(ctx, run))), want)
		same(t, run+" events", len(must[[]cluster.Event](t)(s.Events(ctx, run, 0, 0))), want)
	}
	same(t, "all machines", len(must[[]cluster.Machine](t)(s.AllMachines(ctx))), 1)
	// The name is free again, and nothing of the old run comes back with it.
	again := full("r")
	commit(t, s, again)
	same(t, "the first event counts from 1 again", again.Events[0].Seq, int64(1))
}

func deadContext(t *testing.T, s cluster.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Commit(ctx, cluster.Change{Run: NewRun("r")}); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit = %v", err)
	}
	if _, err := s.Runs(ctx, cluster.RunFilter{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Runs = %v", err)
	}
	if err := s.DeleteRun(ctx, "r"); !errors.Is(err, context.Canceled) {
		t.Errorf("DeleteRun = %v", err)
	}
	same(t, "runs", len(must[[]cluster.Run](t)(s.Runs(t.Context(), cluster.RunFilter{}))), 0)
	commit(t, s, cluster.Change{Run: NewRun("r")}) // the store is none the worse for it
}

func closed(t *testing.T, s cluster.Store) {
	ctx := t.Context()
	commit(t, s, cluster.Change{Run: NewRun("r")})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	if err := s.Commit(ctx, cluster.Change{Run: NewRun("r2")}); err == nil {
		t.Error("Commit after Close passed")
	}
	if _, err := s.Run(ctx, "r"); err == nil || errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("Run after Close = %v", err)
	}
	if _, err := s.Machines(ctx, "r"); err == nil {
		t.Error("Machines after Close passed")
	}
	if err := s.DeleteRun(ctx, "r"); err == nil || errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("DeleteRun after Close = %v", err)
	}
	if _, err := s.Cooldowns(ctx, t0); err == nil {
		t.Error("Cooldowns after Close passed")
	}
}
