package ui

import (
	"sync"

	"github.com/levinrun/levin/cluster"
)

// maxQueued bounds how many log lines wait for a slow screen. Older ones give
// way; they stay in the log files.
const maxQueued = 20_000

// queue takes events without ever making the sender wait, and hands them in
// order to one goroutine that shows them. A terminal that is slow, or stopped
// with Ctrl-S, must not hold up the work or the stopping of a machine.
type queue struct {
	mu      sync.Mutex
	wake    chan struct{} // capacity 1: something is queued, or closed is set
	events  []cluster.Event
	dropped int
	closed  bool
	done    chan struct{}
}

// newQueue starts the goroutine. show gets each batch in order, with the number
// of log lines that had to be left out before it; tick, when not nil, is
// listened to and calls redraw.
func newQueue(show func(batch []cluster.Event, dropped int), tick <-chan struct{}, redraw func()) *queue {
	q := &queue{wake: make(chan struct{}, 1), done: make(chan struct{})}
	go func() {
		defer close(q.done)
		for {
			select {
			case <-q.wake:
			case <-tick:
				redraw()
				continue
			}
			batch, dropped, closed := q.take()
			if len(batch) > 0 || dropped > 0 {
				show(batch, dropped)
			}
			if closed {
				return
			}
		}
	}()
	return q
}

// Event queues e. It never blocks.
func (q *queue) Event(e cluster.Event) {
	q.mu.Lock()
	if len(q.events) >= maxQueued && e.Type == cluster.EventCallLog {
		q.dropped++
	} else {
		q.events = append(q.events, e)
	}
	q.mu.Unlock()
	q.signal()
}

// close shows what is queued and ends the goroutine.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
	<-q.done
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default: // already told
	}
}

func (q *queue) take() (batch []cluster.Event, dropped int, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch, dropped = q.events, q.dropped
	q.events, q.dropped = nil, 0
	return batch, dropped, q.closed
}
