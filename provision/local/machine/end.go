package machine

import (
	"os"
	"syscall"
	"time"
)

const (
	endGrace = 2 * time.Second      // between TERM and KILL
	endLimit = 10 * time.Second     // after which a process that KILL cannot end is given up
	killEach = 5 * time.Millisecond // between two rounds of KILL, when no exit comes first
)

// end ends every process of the machine: TERM, a short grace that is over as soon
// as all are gone, then KILL until nothing is left, whatever is forked in the
// meantime. hurry cuts the grace short. It reports whether all are gone.
func (p *processes) end(hurry <-chan os.Signal) bool {
	idle := p.allIdle()
	select {
	case <-idle:
		return true
	default:
	}
	p.signalAll(syscall.SIGTERM)
	p.signalAll(syscall.SIGCONT) // a stopped process cannot act on TERM
	grace := time.NewTimer(endGrace)
	defer grace.Stop()
	select {
	case <-idle:
		return true
	case <-grace.C:
	case <-hurry:
	}
	limit := time.NewTimer(endLimit)
	defer limit.Stop()
	again := time.NewTicker(killEach)
	defer again.Stop()
	for {
		p.signalAll(syscall.SIGKILL)
		select {
		case <-idle:
			return true
		case <-limit.C:
			return false
		case <-again.C:
		}
	}
}
