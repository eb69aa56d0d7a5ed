package flow

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
)

// stream is one reader of events. It replays what is stored, page by page, and
// then passes on what happens. While it replays, stored events are not queued:
// they can be read from the store as well. So only a reader that is slower than
// the run itself fills the queue; it is then cut off, and the run never waits.
type stream struct {
	s     *Server
	out   *http.ResponseController
	enc   *json.Encoder
	after int64 // the last stored event that was passed on

	mu       sync.Mutex
	live     bool  // the replay is done
	passedBy int64 // while it is not: the last stored event that was not queued
	queue    []cluster.Event
	tooSlow  bool
	bell     chan struct{} // holds a token while there may be something in the queue
}

var errTooSlow = errors.New("this reader was too slow for the run's events and has been cut off; connect again with the seq of the last event that came")

func newStream(s *Server, w http.ResponseWriter, after int64) *stream {
	return &stream{
		s: s, out: http.NewResponseController(w), enc: json.NewEncoder(w), after: after, bell: make(chan struct{}, 1),
	}
}

// serve passes events on until the reader goes, is too slow, or the server
// closes.
func (st *stream) serve(ctx context.Context) {
	defer st.s.journal.Listen(st.hear)()
	err := st.pass(ctx)
	if err != nil && ctx.Err() == nil {
		_ = st.send(errorOf(err)) // it may be gone
		_ = st.out.Flush()
	}
}

func (st *stream) pass(ctx context.Context) error {
	// The answer begins at once, even when nothing has happened yet.
	if err := st.flush(); err != nil {
		return err
	}
	if err := st.replay(ctx); err != nil {
		return err
	}
	for {
		closing := false
		select {
		case <-ctx.Done():
			return nil
		case <-st.s.closing:
			closing = true
		case <-st.bell:
		}
		if err := st.drain(); err != nil {
			return err
		}
		if closing {
			return nil
		}
	}
}

// hear is called by the journal, which waits for it: it only queues.
func (st *stream) hear(e cluster.Event) {
	if e.Run != st.s.run {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case !st.live && e.Seq > 0:
		st.passedBy = e.Seq
		return
	case st.tooSlow:
		return
	case len(st.queue) >= st.s.queue:
		st.tooSlow, st.queue = true, nil
	default:
		st.queue = append(st.queue, e)
	}
	select {
	case st.bell <- struct{}{}:
	default:
	}
}

// replay passes stored events on until there is none that the queue will not
// have.
func (st *stream) replay(ctx context.Context) error {
	for !st.caughtUp() {
		events, err := st.s.journal.Store().Events(ctx, st.s.run, st.after, pageSize)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := st.send(e); err != nil {
				return err
			}
			st.after = e.Seq
		}
		if err := st.flush(); err != nil {
			return err
		}
		if len(events) < pageSize {
			st.mu.Lock()
			st.live = st.passedBy <= st.after
			st.mu.Unlock()
		}
	}
	return nil
}

func (st *stream) caughtUp() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.live
}

// drain passes on what is in the queue.
func (st *stream) drain() error {
	for {
		st.mu.Lock()
		events, tooSlow := st.queue, st.tooSlow
		st.queue = nil
		st.mu.Unlock()
		if tooSlow {
			return errTooSlow
		}
		if len(events) == 0 {
			return st.flush()
		}
		for _, e := range events {
			if e.Seq > 0 && e.Seq <= st.after {
				continue
			}
			if err := st.send(e); err != nil {
				return err
			}
			st.after = max(st.after, e.Seq)
		}
	}
}

// send writes one line. A reader that takes nothing for a while is given up.
func (st *stream) send(v any) error {
	if err := st.out.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return st.enc.Encode(v)
}

func (st *stream) flush() error {
	if err := st.out.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return st.out.Flush()
}
