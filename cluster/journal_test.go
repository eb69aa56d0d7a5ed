package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
)

func journal(t *testing.T) *cluster.Journal {
	t.Helper()
	j := cluster.NewJournal(memory.New())
	run := cluster.Run{ID: "r", State: cluster.RunPending, CreatedAt: time.Now()}
	if err := j.Commit(t.Context(), cluster.Change{Run: &run}); err != nil {
		t.Fatal(err)
	}
	return j
}

func warning(text string) cluster.Change {
	return cluster.Change{Events: []cluster.Event{
		{Run: "r", Type: cluster.EventWarning, Message: text, Time: time.Now()},
		{Run: "r", Type: cluster.EventWarning, Message: text + "!", Time: time.Now()},
	}}
}

func TestJournalOrderIsSeq(t *testing.T) {
	j := journal(t)
	var heard []cluster.Event // the journal calls listeners one at a time
	var logs int
	j.Listen(func(e cluster.Event) {
		if e.Type == cluster.EventCallLog {
			logs++
			return
		}
		heard = append(heard, e)
	})

	const writers, commits = 8, 100
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range commits {
				if err := j.Commit(context.Background(), warning(fmt.Sprint(w, n))); err != nil {
					t.Error(err)
				}
				j.Publish(cluster.Event{Run: "r", Type: cluster.EventCallLog})
			}
		})
	}
	wg.Wait()

	if len(heard) != 2*writers*commits || logs != writers*commits {
		t.Fatalf("heard %d events and %d log lines", len(heard), logs)
	}
	for i, e := range heard {
		if e.Seq != int64(i)+1 {
			t.Fatalf("event %d has seq %d", i, e.Seq)
		}
	}
	stored, err := j.Store().Events(t.Context(), "r", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range heard {
		heard[i] = heard[i].Clone()
	}
	if diff := cmp.Diff(stored, heard); diff != "" {
		t.Errorf("what was heard is not what was stored (-stored +heard):\n%s", diff)
	}
}

func TestJournalSilentWhenRefused(t *testing.T) {
	j := journal(t)
	j.Listen(func(e cluster.Event) { t.Errorf("heard %v", e.Type) })
	c := warning("never")
	c.Machines = []cluster.Machine{{Name: "m", Run: "r", State: cluster.MachineReady}}
	err := j.Commit(t.Context(), c)
	var te *cluster.TransitionError
	if !errors.As(err, &te) {
		t.Fatalf("Commit = %v, want a TransitionError", err)
	}
	if c.Events[0].Seq != 0 {
		t.Errorf("a refused event has seq %d", c.Events[0].Seq)
	}
}

func TestJournalListeners(t *testing.T) {
	j := journal(t)
	var first, second []string
	remove := j.Listen(func(e cluster.Event) { first = append(first, e.Message) })
	j.Listen(func(e cluster.Event) { second = append(second, e.Message) })
	if err := j.Commit(t.Context(), warning("a")); err != nil {
		t.Fatal(err)
	}
	remove()
	remove()
	if err := j.Commit(t.Context(), warning("b")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "a!"}, first); diff != "" {
		t.Errorf("removed listener (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "a!", "b", "b!"}, second); diff != "" {
		t.Errorf("listener that stays (-want +got):\n%s", diff)
	}
}

// A log line is handed out while a commit waits for the disk.
func TestJournalLogsDoNotWaitForCommits(t *testing.T) {
	slow := &slowStore{entered: make(chan struct{}), leave: make(chan struct{})}
	j := cluster.NewJournal(slow)
	heard := make(chan cluster.EventType, 4)
	j.Listen(func(e cluster.Event) { heard <- e.Type })
	done := make(chan error, 1)
	go func() { done <- j.Commit(context.Background(), warning("a")) }()
	<-slow.entered
	j.Publish(cluster.Event{Type: cluster.EventCallLog})
	if got := <-heard; got != cluster.EventCallLog {
		t.Errorf("heard %s first", got)
	}
	close(slow.leave)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// slowStore commits nothing, when it is told to.
type slowStore struct {
	cluster.Store
	entered, leave chan struct{}
}

func (s *slowStore) Commit(context.Context, cluster.Change) error {
	close(s.entered)
	<-s.leave
	return nil
}
