package flow

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/configs"
)

// A reader that does not read holds nobody up. It gets what was on its way, and
// then is told that it was too slow.
func TestSlowReader(t *testing.T) {
	journal, dec := listener(t, memory.New(), 100)

	// More than fits into the queue and the buffers of a connection together.
	line := strings.Repeat("x", maxLine)
	for range 2000 {
		journal.Publish(cluster.Event{Run: "r", Type: cluster.EventCallLog, Line: line})
	}
	for {
		var e struct{ Type, Error string }
		err := dec.Decode(&e)
		if errors.Is(err, io.EOF) {
			t.Fatal("the stream ended without a word")
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == "" {
			if !strings.Contains(e.Error, "too slow") {
				t.Error(e.Error)
			}
			break
		}
	}
	// The journal has let go of it.
	for range 200 {
		journal.Publish(cluster.Event{Run: "r", Type: cluster.EventCallLog})
	}
}

// listener connects a reader of a run's events to a server whose queues have the
// given size.
func listener(t *testing.T, store cluster.Store, queue int) (*cluster.Journal, *json.Decoder) {
	t.Helper()
	journal := cluster.NewJournal(store)
	run := cluster.Run{ID: "r", State: cluster.RunPending, CreatedAt: time.Now()}
	if err := journal.Commit(t.Context(), cluster.Change{Run: &run}); err != nil {
		t.Fatal(err)
	}
	coord, err := New(Config{Run: run, App: &configs.App{}, Journal: journal, Executor: refuses{}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	server := newServer("", journal, coord)
	server.queue = queue
	web := httptest.NewServer(server.http.Handler)
	t.Cleanup(web.Close)
	resp, err := web.Client().Get(web.URL + "/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return journal, json.NewDecoder(resp.Body)
}

func commitEvent(journal *cluster.Journal) error {
	return journal.Commit(context.Background(), cluster.Change{Events: []cluster.Event{{Run: "r", Type: cluster.EventWarning}}})
}

func wantSeq(t *testing.T, dec *json.Decoder, want int64) {
	t.Helper()
	var e cluster.Event
	if err := dec.Decode(&e); err != nil || e.Seq != want {
		t.Fatalf("event %d came, want %d (%v)", e.Seq, want, err)
	}
}

// hookedStore calls back in the middle of things.
type hookedStore struct {
	cluster.Store
	beforeRead, afterRead func()
	afterWrite            func(cluster.Change)
}

func (s *hookedStore) Events(ctx context.Context, run string, after int64, limit int) ([]cluster.Event, error) {
	s.beforeRead()
	events, err := s.Store.Events(ctx, run, after, limit)
	s.afterRead()
	return events, err
}

func (s *hookedStore) Commit(ctx context.Context, c cluster.Change) error {
	err := s.Store.Commit(ctx, c)
	s.afterWrite(c)
	return err
}

// An event that comes between the last page of the replay and its end is read
// from the store.
func TestEventAtTheEndOfTheReplay(t *testing.T) {
	var journal *cluster.Journal
	var once sync.Once
	ready := make(chan struct{})
	store := &hookedStore{Store: memory.New(), beforeRead: func() {}, afterWrite: func(cluster.Change) {}}
	store.afterRead = func() {
		once.Do(func() {
			<-ready
			if err := commitEvent(journal); err != nil {
				t.Error(err)
			}
		})
	}
	journal, dec := listener(t, store, 100)
	close(ready)
	wantSeq(t, dec, 1)
	if err := commitEvent(journal); err != nil {
		t.Fatal(err)
	}
	wantSeq(t, dec, 2)
}

// An event that the replay reads from the store before it is handed out does not
// come twice.
func TestEventReadBeforeItIsHandedOut(t *testing.T) {
	written, handOut := make(chan struct{}), make(chan struct{})
	store := &hookedStore{Store: memory.New(), afterRead: func() {}}
	store.beforeRead = func() { <-written }
	store.afterWrite = func(c cluster.Change) {
		if c.Run == nil && c.Events[0].Seq == 1 {
			close(written)
			<-handOut
		}
	}
	journal, dec := listener(t, store, 100)
	done := make(chan error)
	go func() { done <- commitEvent(journal) }()
	wantSeq(t, dec, 1)
	close(handOut)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := commitEvent(journal); err != nil {
		t.Fatal(err)
	}
	wantSeq(t, dec, 2)
}

// refuses is an executor for tests in which nothing may run.
type refuses struct{}

var errRefused = errors.New("nothing may run")

func (refuses) Acquire(context.Context, configs.Component, int) (string, error) {
	return "", errRefused
}

func (refuses) Run(context.Context, string, Work, Observer) (Outcome, error) {
	return Outcome{}, errRefused
}

func (refuses) Release(string, string) {}
