package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
)

func TestCovered(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	for _, tt := range []struct {
		name       string
		spans      []span
		union, sum time.Duration
	}{
		{"none", nil, 0, 0},
		{"one", []span{{at(1), at(3)}}, 2 * time.Second, 2 * time.Second},
		{"apart, in no order", []span{{at(5), at(6)}, {at(1), at(3)}}, 3 * time.Second, 3 * time.Second},
		{"overlapping", []span{{at(1), at(4)}, {at(2), at(6)}}, 5 * time.Second, 7 * time.Second},
		{"one inside the other", []span{{at(1), at(9)}, {at(2), at(3)}, {at(4), at(5)}}, 8 * time.Second, 10 * time.Second},
		{"touching", []span{{at(1), at(2)}, {at(2), at(3)}}, 2 * time.Second, 2 * time.Second},
		{"backwards", []span{{at(3), at(1)}}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if union, sum := covered(tt.spans); union != tt.union || sum != tt.sum {
				t.Errorf("got %v and %v, want %v and %v", union, sum, tt.union, tt.sum)
			}
		})
	}
}

func TestMedianAndPercentile(t *testing.T) {
	for _, tt := range []struct {
		values        []float64
		mid, p99, p50 float64
	}{
		{nil, 0, 0, 0},
		{[]float64{3}, 3, 3, 3},
		{[]float64{4, 1}, 2.5, 4, 1},
		{[]float64{9, 1, 5}, 5, 9, 5},
	} {
		if got := median(tt.values); got != tt.mid {
			t.Errorf("median of %v is %v, want %v", tt.values, got, tt.mid)
		}
		if got := percentile(tt.values, 99); got != tt.p99 {
			t.Errorf("p99 of %v is %v, want %v", tt.values, got, tt.p99)
		}
		if got := percentile(tt.values, 50); got != tt.p50 {
			t.Errorf("p50 of %v is %v, want %v", tt.values, got, tt.p50)
		}
	}
	var thousand []int
	for i := range 1000 {
		thousand = append(thousand, 1000-i)
	}
	if got := percentile(thousand, 99); got != 990 {
		t.Errorf("p99 of 1 to 1000 is %d, want 990", got)
	}
}

func TestQuantity(t *testing.T) {
	for _, tt := range []struct {
		value float64
		unit  string
		want  string
	}{
		{0.5, "s", "0.500 s"}, {20, "ms", "20 ms"}, {7.614, "ms", "7.61 ms"}, {18.54, "MB", "18.5 MB"},
		{0.87, "×", "0.870×"}, {1, "×", "1×"}, {20_000, "/s", "20,000/s"}, {33826.6, "/s", "33,827/s"}, {1234567, "/s", "1,234,567/s"},
		{4425.2, "/s", "4425/s"}, {2, "%", "2%"}, {31234, "", "31,234"},
	} {
		if got := quantity(tt.value, tt.unit); got != tt.want {
			t.Errorf("%v %s is written %q, want %q", tt.value, tt.unit, got, tt.want)
		}
	}
}

func TestGoals(t *testing.T) {
	for _, tt := range []struct {
		value   float64
		atLeast bool
		met     bool
	}{{0.9, false, true}, {1, false, true}, {1.1, false, false}, {0.9, true, false}, {1, true, true}, {1.1, true, true}} {
		if row := measured("", tt.value, 1, "×", tt.atLeast, ""); row.Met != tt.met {
			t.Errorf("%v against a goal of 1 (at least: %v): met is %v", tt.value, tt.atLeast, row.Met)
		}
	}
}

func TestReport(t *testing.T) {
	ok := measured("fast", 0.25, 0.5, "s", false, "why %d", 1)
	ok.Name = "a"
	bad := measured("wide", 0.5, 1, "×", true, "")
	bad.Name = "b"
	none := skipped("gone", "no rsync")
	none.Name = "c"
	got := report{Host: host{OS: "linux", Arch: "amd64", Cores: 2, LoadBefore: "0.10", LoadAfter: "1.20"}, Rows: []row{ok, bad, none}}.markdown()
	want := strings.Join([]string{
		"| run again | what | measured | goal | |",
		"|---|---|---|---|---|",
		"| `a` | fast | 0.250 s | ≤ 0.500 s | reached |",
		"| `b` | wide | 0.500× | ≥ 1× | **missed** |",
		"| `c` | gone | not measured | | no rsync |",
		"",
		"- `a`, fast: why 1",
		"",
		"linux/amd64, 2 cores; load average 0.10 before and 1.20 after",
		"",
	}, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestMetric(t *testing.T) {
	const line = "BenchmarkGraph/sqlite/layered-2 \t 3\t1148535866 ns/op\t      8707 calls/s\t        35.91 heapMB\n"
	for unit, want := range map[string]float64{"ns/op": 1148535866, "calls/s": 8707, "heapMB": 35.91} {
		if got, ok := metric(line, unit); !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", unit, got, ok, want)
		}
	}
	if _, ok := metric(line, "allocs/op"); ok {
		t.Error("a metric that is not there was found")
	}
}

// A run that is taken apart: what overlaps with Terraform is Terraform's, and
// nothing counts twice.
func TestDissect(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	event := func(ms int, typ cluster.EventType, component string) told {
		e := told{Event: cluster.Event{Time: at(ms), Type: typ, Component: component, Call: component}}
		if typ == cluster.EventCallExited {
			e.ExitedAt = &e.Time
		}
		return e
	}
	done := finished{started: start, wall: time.Second, events: []told{
		event(10, cluster.EventRunStarted, ""),
		event(20, cluster.EventBuildStarted, "train"),
		event(120, cluster.EventBuildFinished, "train"),
		event(500, cluster.EventMachineReady, "train"),
		event(600, cluster.EventCallRunning, "train"),
		event(800, cluster.EventCallExited, "train"),
		event(990, cluster.EventRunFinished, ""),
	}}
	// 100 ms of the second process lie within the work, 50 ms within the first.
	o := dissect(done, []span{{at(200), at(450)}, {at(400), at(500)}, {at(700), at(850)}})
	want := ownRun{
		wall: time.Second, terraform: 450 * time.Millisecond, terraformSum: 500 * time.Millisecond,
		builds: 100 * time.Millisecond, work: 100 * time.Millisecond, rest: 350 * time.Millisecond, processes: 3,
		phases: []phase{
			{"start of levin", 10 * time.Millisecond}, {"train machine.ready", 90 * time.Millisecond},
			{"train running", 100 * time.Millisecond}, {"train exited", 100 * time.Millisecond},
			{"run.finished", 140 * time.Millisecond}, {"exit of levin", 10 * time.Millisecond},
		},
	}
	if diff := cmp.Diff(want, o, cmp.AllowUnexported(ownRun{}, phase{})); diff != "" {
		t.Errorf("the run (-want +got):\n%s", diff)
	}
}

func TestStopApp(t *testing.T) {
	app := stopApp(23)
	if got := strings.Count(app, "for_each"); got != 3 {
		t.Errorf("%d stages, want 3:\n%s", got, app)
	}
	if got := strings.Count(app, `"0.`); got != 23 {
		t.Errorf("%d items, want 23:\n%s", got, app)
	}
	if !strings.Contains(app, "needs: [s1]") || strings.Contains(app, "needs: [s2]") {
		t.Errorf("the stages do not need each other:\n%s", app)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"no-such"}, {"--no-such"}, {"--samples=0"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
	chosen, err := choose([]string{"ship", "own-time"})
	if err != nil || len(chosen) != 2 || chosen[0].name != "own-time" {
		t.Errorf("chosen: %v (%v)", chosen, err)
	}
}

// What is measured is printed even when something else could not be, in both
// forms.
func TestCarryOut(t *testing.T) {
	r := row{What: "w", Measured: 1, Goal: 2, Unit: "s", Met: true}
	good := measure{name: "good", run: func(_ context.Context, _ *rig) ([]row, error) { return []row{r}, nil }}
	bad := measure{name: "bad", run: func(_ context.Context, _ *rig) ([]row, error) { return nil, io.ErrUnexpectedEOF }}
	var out, complaints bytes.Buffer
	err := carryOut(t.Context(), options{json: true}, []measure{bad, good}, &out, &complaints)
	if err == nil || !strings.Contains(err.Error(), "bad") || !strings.Contains(complaints.String(), "unexpected EOF") {
		t.Errorf("the error is %v, the complaints are %q", err, complaints.String())
	}
	var got report
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got.Rows) != 1 || got.Rows[0].Name != "good" {
		t.Errorf("the report is %s (%v)", out.Bytes(), err)
	}
}
