package provision

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/sqlite"
)

// BenchmarkStop measures what a machine whose work has ended waits for before its
// cloud is asked to end it: with a store on disk, for one machine after the other,
// and for many at once.
func BenchmarkStop(b *testing.B) {
	for _, together := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(together, " together"), func(b *testing.B) {
			store, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "levin.db"))
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			journal := cluster.NewJournal(store)
			row := cluster.Run{ID: testRun, App: "app", State: cluster.RunPending, CreatedAt: time.Now()}
			if err := journal.Commit(b.Context(), cluster.Change{Run: &row}); err != nil {
				b.Fatal(err)
			}
			w := newWorld()
			var mu sync.Mutex
			asked := map[string]time.Time{}
			w.onStop = func(_ context.Context, m cluster.Machine) error {
				now := time.Now()
				mu.Lock()
				defer mu.Unlock()
				asked[m.Name] = now
				return nil
			}
			p, err := New(Config{
				Run: testRun, Dir: b.TempDir(), Journal: journal, Runner: w,
				Clouds: []Cloud{quick{&scripted{"fast", w, nil}}},
			})
			if err != nil {
				b.Fatal(err)
			}
			p.writeRoot = w.writeRoot
			defer p.Close()

			var waited []time.Duration
			n := 0
			for b.Loop() {
				b.StopTimer()
				machines := make([]cluster.Machine, together)
				var tasks sync.WaitGroup
				for i := range together {
					n++
					request := ask("a", n, offer("fast", "small", 1))
					tasks.Go(func() {
						if machines[i], err = p.Create(b.Context(), request); err != nil {
							b.Error(err)
						}
					})
				}
				tasks.Wait()
				began := make([]time.Time, together)
				b.StartTimer()
				for i, m := range machines {
					tasks.Go(func() {
						began[i] = time.Now()
						p.Stop(m.Name, "finished")
					})
				}
				tasks.Wait()
				b.StopTimer()
				p.mu.Lock()
				p.await(func() bool {
					return !slices.ContainsFunc(machines, func(m cluster.Machine) bool { return p.machines[m.Name].row.State != cluster.MachineGone })
				})
				p.mu.Unlock()
				for i, m := range machines {
					waited = append(waited, asked[m.Name].Sub(began[i]))
				}
				b.StartTimer()
			}
			slices.Sort(waited)
			b.ReportMetric(float64(waited[len(waited)/2].Microseconds()), "µs-median")
			b.ReportMetric(float64(waited[len(waited)*99/100].Microseconds()), "µs-p99")
			b.ReportMetric(float64(waited[len(waited)-1].Microseconds()), "µs-max")
		})
	}
}
