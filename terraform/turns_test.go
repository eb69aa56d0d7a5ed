package terraform

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// Those who destroy go first, others in the order in which they came, and who
// gives up takes nobody's place.
func TestProcessesOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcesses(1)
		if err := p.take(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []string
		note := func(s string) { mu.Lock(); order = append(order, s); mu.Unlock() }
		wait := func(ctx context.Context, name string, urgent bool) {
			go func() {
				if err := p.take(ctx, urgent); err != nil {
					note(name + " gave up")
					return
				}
				note(name)
				p.give()
			}()
			synctest.Wait()
		}
		leaving, leave := context.WithCancel(t.Context())
		wait(t.Context(), "apply 1", false)
		wait(leaving, "apply 2", false)
		wait(leaving, "destroy 1", true)
		wait(t.Context(), "destroy 2", true)
		wait(t.Context(), "apply 3", false)
		leave()
		synctest.Wait()
		slices.Sort(order)
		p.give()
		synctest.Wait()
		want := []string{"apply 2 gave up", "destroy 1 gave up", "destroy 2", "apply 1", "apply 3"}
		if !slices.Equal(order, want) {
			t.Errorf("order: %q, want %q", order, want)
		}
		if p.free != 1 {
			t.Errorf("%d are free, want 1", p.free)
		}
	})
}

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns turns
		first, err := turns.take(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		other, err := turns.take(t.Context(), "b") // another key does not wait
		if err != nil {
			t.Fatal(err)
		}
		other()
		got := false
		go func() {
			release, err := turns.take(t.Context(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			got = true
			release()
		}()
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error, 1)
		go func() {
			_, err := turns.take(ctx, "a")
			gaveUp <- err
		}()
		synctest.Wait()
		if got {
			t.Error("two have the turn")
		}
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("giving up: %v", err)
		}
		first()
		synctest.Wait()
		if !got || len(turns.byKey) != 0 {
			t.Errorf("got the turn: %v; still remembered: %v", got, turns.byKey)
		}
	})
}

func TestDefaultProcesses(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		cores  int
		memory uint64
		want   int
	}{
		{2, 24 * gib, 4}, {8, 4 * gib, 4}, {1, gib / 2, 1}, {16, 0, 32},
	} {
		if got := defaultProcesses(c.cores, c.memory); got != c.want {
			t.Errorf("%d cores, %d bytes: %d, want %d", c.cores, c.memory, got, c.want)
		}
	}
}
