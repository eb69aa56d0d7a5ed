package cluster

import (
	"context"
	"slices"
	"sync"
)

// Journal writes changes to a Store and hands their events, in order, to
// whoever listens. All rooms of one controller share one Journal, so that what
// is shown is exactly what was written, in the order it was written.
type Journal struct {
	store Store

	// commit is held from the write of a change until its events are handed out,
	// which keeps the order of events the order of their Seq.
	commit sync.Mutex

	// mu guards sinks and is held while an event is handed out. It is not commit,
	// so that log lines do not wait for the disk.
	mu    sync.Mutex
	sinks []*sink
}

type sink struct{ hear func(Event) }

// NewJournal makes a journal over store.
func NewJournal(store Store) *Journal { return &Journal{store: store} }

// Store gives the store behind the journal, for reading.
func (j *Journal) Store() Store { return j.store }

// Commit writes c and then hands its events to every listener. If the store
// refuses, no listener hears of it.
func (j *Journal) Commit(ctx context.Context, c Change) error {
	j.commit.Lock()
	defer j.commit.Unlock()
	if err := j.store.Commit(ctx, c); err != nil {
		return err
	}
	j.publish(c.Events...)
	return nil
}

// Publish hands an event to every listener without storing it (call.log).
func (j *Journal) Publish(e Event) { j.publish(e) }

func (j *Journal) publish(events ...Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range events {
		for _, s := range j.sinks {
			s.hear(e)
		}
	}
}

// Listen adds a listener. It hears one event at a time. It is called with the
// journal's lock held: it must return at once and must not call the journal.
// The function given back removes it; once that has returned, the listener hears
// no more.
func (j *Journal) Listen(hear func(Event)) (remove func()) {
	s := &sink{hear}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sinks = append(j.sinks, s)
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.sinks = slices.DeleteFunc(j.sinks, func(other *sink) bool { return other == s })
	}
}
