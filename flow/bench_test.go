package flow_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/cluster/sqlite"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/flow"
	"github.com/levinrun/levin/flow/inprocess"
)

// BenchmarkGraph runs 10,000 calls that do nothing. What it reports per run is
// calls/s, and the heap in MB right after the run, its store included.
func BenchmarkGraph(b *testing.B) {
	const size = 10_000
	shapes := []struct {
		name string
		app  *configs.App
	}{
		{"alone", layers(size, size)},  // nobody needs anybody
		{"layered", layers(size, 100)}, // layers of 100, each component needs three of the layer above
		{"chain", layers(1000, 1)},     // one after the other
		{"foreach", wide(size, size)},  // one component, a machine for each call
		{"foreach16", wide(size, 16)},  // one component, 16 machines used again and again
	}
	stores := []struct {
		name string
		open func(*testing.B) cluster.Store
	}{
		{"memory", func(*testing.B) cluster.Store { return memory.New() }},
		{"sqlite", func(b *testing.B) cluster.Store {
			s, err := sqlite.Open(context.Background(), filepath.Join(b.TempDir(), "state.db"))
			if err != nil {
				b.Fatal(err)
			}
			return s
		}},
	}
	for _, store := range stores {
		for _, shape := range shapes {
			b.Run(store.name+"/"+shape.name, func(b *testing.B) {
				calls := 0
				var worst uint64
				for b.Loop() {
					b.StopTimer()
					s := store.open(b)
					c := newRun(b, shape.app, s, inprocess.New(inprocess.NoOp, nil), b.TempDir())
					b.StartTimer()
					result, err := c.Run(context.Background())
					b.StopTimer()
					if err != nil || result.Outcome != cluster.RunSucceeded {
						b.Fatal(result.Outcome, result.Err, err)
					}
					var mem runtime.MemStats
					runtime.ReadMemStats(&mem)
					worst = max(worst, mem.HeapAlloc)
					calls += countCalls(shape.app)
					s.Close()
					b.StartTimer()
				}
				b.ReportMetric(float64(calls)/b.Elapsed().Seconds(), "calls/s")
				b.ReportMetric(float64(worst)/1e6, "heapMB")
			})
		}
	}
}

// layers makes n components in layers of the given width. Each needs up to three
// of the layer above.
func layers(n, width int) *configs.App {
	app := &configs.App{Name: "bench"}
	for i := range n {
		comp := configs.Component{Name: "c" + strconv.Itoa(i), MaxMachines: 1, Run: configs.Command{Shell: "true"}}
		if layer := i / width; layer > 0 {
			for k := range min(3, width) {
				comp.Needs = append(comp.Needs, fmt.Sprintf("c%d", (layer-1)*width+(i+k*7)%width))
			}
		}
		app.Components = append(app.Components, comp)
	}
	return app
}

func wide(n, machines int) *configs.App {
	comp := configs.Component{Name: "wide", MaxMachines: machines, Run: configs.Command{Shell: "true"}}
	for i := range n {
		comp.ForEach = append(comp.ForEach, "item"+strconv.Itoa(i))
	}
	return &configs.App{Name: "bench", Components: []configs.Component{comp}}
}

func countCalls(app *configs.App) int {
	n := 0
	for _, comp := range app.Components {
		n += max(1, len(comp.ForEach))
	}
	return n
}

// newRun commits a pending run into the store and makes its coordinator.
func newRun(tb testing.TB, app *configs.App, store cluster.Store, x flow.Executor, dir string) *flow.Coordinator {
	tb.Helper()
	run := cluster.Run{ID: "r", App: app.Name, State: cluster.RunPending, CreatedAt: time.Now()}
	journal := cluster.NewJournal(store)
	if err := journal.Commit(context.Background(), cluster.Change{Run: &run}); err != nil {
		tb.Fatal(err)
	}
	c, err := flow.New(flow.Config{Run: run, App: app, Journal: journal, Executor: x, Dir: dir})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}
