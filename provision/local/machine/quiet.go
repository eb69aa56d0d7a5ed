package machine

import (
	"sync"
	"time"
)

// quiet notices that nothing has happened on the machine for the whole lease: no
// connection and no process. A controller that died before it could put the agent
// here leaves nothing behind.
//
// Before the first connection the lease does not run while the starter lives: it
// may be busy making other machines, for longer than a short lease.
type quiet struct {
	lease   time.Duration
	expired chan struct{} // receives once

	mu      sync.Mutex
	awaited bool // the starter lives and nobody has connected yet
	conns   int
	alive   bool // processes
	stopped bool
	timer   *time.Timer
}

func newQuiet(lease time.Duration) *quiet {
	q := &quiet{lease: lease, expired: make(chan struct{}, 1), awaited: true}
	q.timer = time.AfterFunc(lease, q.expire)
	q.timer.Stop()
	return q
}

// abandoned says that the starter is gone, if there is one to speak of.
func (q *quiet) abandoned() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.awaited {
		q.awaited = false
		q.rewind()
	}
}

// connections counts connections up and down.
func (q *quiet) connections(delta int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.conns += delta
	q.awaited = false
	q.rewind()
}

// processes says whether any process is alive.
func (q *quiet) processes(alive bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.alive = alive
	q.rewind()
}

func (q *quiet) rewind() {
	q.timer.Stop()
	if q.nothing() {
		q.timer.Reset(q.lease)
	}
}

func (q *quiet) nothing() bool { return !q.awaited && q.conns == 0 && !q.alive && !q.stopped }

// expire is the timer's. One that fired while something began is not heeded.
func (q *quiet) expire() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.nothing() {
		select {
		case q.expired <- struct{}{}:
		default:
		}
	}
}

func (q *quiet) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	q.timer.Stop()
}
