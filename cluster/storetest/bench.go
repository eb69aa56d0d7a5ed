package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/levinrun/levin/cluster"
)

// BenchmarkCommit measures commits of the sizes that runs make: one call with
// its event, and a thousand calls at once.
func BenchmarkCommit(b *testing.B, open func(b *testing.B) cluster.Store) {
	b.Run("call", func(b *testing.B) {
		s := open(b)
		defer s.Close()
		ctx := context.Background()
		if err := s.Commit(ctx, cluster.Change{Run: NewRun("r")}); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			c := cluster.Change{
				Calls:  []cluster.Call{NewCall("r", fmt.Sprint("c", n))},
				Events: []cluster.Event{warning("r", "x")},
			}
			if err := s.Commit(ctx, c); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
	})
	b.Run("thousand", func(b *testing.B) {
		s := open(b)
		defer s.Close()
		ctx := context.Background()
		n := 0
		for b.Loop() {
			c := cluster.Change{Run: NewRun(fmt.Sprint("r", n))}
			for range 1000 {
				n++
				c.Calls = append(c.Calls, NewCall(c.Run.ID, fmt.Sprint("c", n)))
			}
			if err := s.Commit(ctx, c); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
	})
}
