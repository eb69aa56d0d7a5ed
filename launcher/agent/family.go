package agent

import (
	"errors"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// family is the processes of one attempt. It starts the main ones, reaps every
// child of this process (as subreaper it gets the orphans too), and signals all.
//
// While a family is open nothing else in the process may start or wait for
// children.
type family struct {
	mu     sync.Mutex
	change *sync.Cond // started or closed
	starts int        // how many processes were started
	main   int        // pid of the latest
	ended  chan mainExit
	none   chan struct{} // closed while there is no child at all
	groups []int         // process groups of all that were started
	closed bool
	reaper sync.WaitGroup

	reaped chan struct{} // capacity 1: some child has ended
}

// mainExit is how a main process ended.
type mainExit struct {
	code int // 128+n when ended by signal n
	at   time.Time
}

func newFamily() *family {
	f := &family{none: make(chan struct{}), reaped: make(chan struct{}, 1)}
	f.change = sync.NewCond(&f.mu)
	close(f.none)
	f.reaper.Go(f.reap)
	return f
}

// start runs cmd as the main process; its end comes on the channel.
func (f *family) start(cmd *exec.Cmd) (<-chan mainExit, error) {
	f.mu.Lock() // until the pid is known: the process may end before that
	defer f.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	f.main = cmd.Process.Pid
	f.groups = append(f.groups, f.main)
	f.ended = make(chan mainExit, 1)
	_ = cmd.Process.Release() // reap waits for it
	if f.starts++; isClosed(f.none) {
		f.none = make(chan struct{})
	}
	f.change.Broadcast()
	return f.ended, nil
}

// reap waits for children until close, and sleeps while there is none.
func (f *family) reap() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		starts := f.starts
		f.mu.Unlock()
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		at := time.Now()
		f.mu.Lock()
		switch {
		case err == nil:
			if pid == f.main {
				f.main = 0
				f.ended <- mainExit{code: exitCode(status), at: at}
			}
			select {
			case f.reaped <- struct{}{}:
			default:
			}
		case errors.Is(err, unix.ECHILD):
			for f.starts == starts && !f.closed {
				if !isClosed(f.none) {
					close(f.none)
				}
				f.change.Wait()
			}
			if f.closed {
				return
			}
		}
	}
}

// gone is closed when no process of the family is left. Where the tree is not
// complete it only speaks of those that this process started.
func (f *family) gone() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.none
}

// signal sends to all and says how many there were.
func (f *family) signal(sig syscall.Signal) int {
	f.mu.Lock()
	groups := f.groups
	f.mu.Unlock()
	return killTree(sig, groups)
}

// kill ends all that is left, and waits until nothing is: for limit at the most,
// since a process in the middle of device I/O cannot be ended.
func (f *family) kill(limit time.Duration) bool {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		gone := f.gone()
		if f.signal(syscall.SIGKILL) == 0 && (!treeIsComplete || isClosed(gone)) {
			return true
		}
		// A process that was just being forked was not seen: look again when one
		// has ended, and at the latest in a moment.
		again := time.NewTimer(10 * time.Millisecond)
		select {
		case <-gone:
		case <-f.reaped:
		case <-again.C:
		case <-deadline.C:
			again.Stop()
			return false
		}
		again.Stop()
		if treeIsComplete && isClosed(gone) {
			return true
		}
	}
}

// close waits for the reaper, which ends when no child is left.
func (f *family) close() {
	f.mu.Lock()
	f.closed = true
	f.change.Broadcast()
	f.mu.Unlock()
	f.reaper.Wait()
}

func exitCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
