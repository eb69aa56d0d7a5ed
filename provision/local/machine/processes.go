package machine

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// processes owns every child of the machine: those it started and, on Linux,
// those that lost their parent and were given to it. It alone waits for children,
// so no exit status is ever taken by the wrong reader.
type processes struct {
	onChange func(alive bool) // called with the lock held; must return at once

	mu   sync.Mutex
	own  map[int]*child
	idle chan struct{} // closed while there is no child at all
	busy bool

	sigs chan os.Signal
	done chan struct{}
}

// child is a process that the machine started, the leader of its own session.
type child struct {
	pid    int
	exited chan struct{}      // closed when it has exited
	status syscall.WaitStatus // set before exited is closed
}

// newProcesses starts the reaper; close ends it.
func newProcesses(onChange func(alive bool)) *processes {
	p := &processes{
		onChange: onChange,
		own:      map[int]*child{},
		idle:     make(chan struct{}),
		sigs:     make(chan os.Signal, 1),
		done:     make(chan struct{}),
	}
	close(p.idle)
	signal.Notify(p.sigs, syscall.SIGCHLD)
	go func() {
		defer close(p.done)
		for range p.sigs {
			p.reap()
		}
	}()
	return p
}

// close ends the reaper. It does not end any process.
func (p *processes) close() {
	signal.Stop(p.sigs)
	close(p.sigs)
	<-p.done
}

// start runs a program as the leader of a new session. The lock is held across
// the fork, so the reaper cannot see the exit of a child it does not know yet.
func (p *processes) start(path string, argv []string, attr *syscall.ProcAttr) (*child, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return nil, &os.PathError{Op: "start", Path: path, Err: err}
	}
	c := &child{pid: pid, exited: make(chan struct{})}
	p.own[pid] = c
	if !p.busy {
		p.busy = true
		p.idle = make(chan struct{})
		p.onChange(true)
	}
	return c, nil
}

// reap takes the status of every child that has exited. Orphans can only come
// from children that were started, so there is none to miss before the first
// start.
func (p *processes) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err == syscall.ECHILD:
			if p.busy {
				p.busy = false
				close(p.idle)
				p.onChange(false)
			}
			return
		case err != nil || pid == 0:
			return
		default:
			if c := p.own[pid]; c != nil {
				delete(p.own, pid)
				c.status = status
				close(c.exited)
			}
		}
	}
}

// signal sends sig to c's process group, unless c has exited: from then on its
// number may belong to someone else.
func (p *processes) signal(c *child, sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own[c.pid] == c {
		syscall.Kill(-c.pid, sig)
	}
}

// allIdle gives a channel that is closed once no child is left.
func (p *processes) allIdle() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.idle
}
