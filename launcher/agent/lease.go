package agent

import (
	"sync"
	"time"
)

// lease is the controller's promise that the machine is still wanted. When it
// has run out and no work runs, over is closed: work that runs is allowed to
// finish.
type lease struct {
	over chan struct{}
	busy func() bool

	mu      sync.Mutex
	timer   *time.Timer
	expired bool
	ended   bool
}

func newLease(busy func() bool) *lease {
	l := &lease{over: make(chan struct{}), busy: busy}
	l.timer = time.AfterFunc(time.Hour, l.expire)
	l.timer.Stop()
	return l
}

// renew promises ttl from now on.
func (l *lease) renew(ttl time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expired = false
	l.timer.Reset(ttl)
}

func (l *lease) expire() {
	l.mu.Lock()
	l.expired = true
	l.mu.Unlock()
	l.idle()
}

// idle is called whenever work has ended.
func (l *lease) idle() {
	if l.busy() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.expired && !l.ended {
		l.ended = true
		close(l.over)
	}
}

func (l *lease) stop() { l.timer.Stop() }
