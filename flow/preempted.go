package flow

import (
	"os"
	"slices"
	"time"

	"github.com/levinrun/levin/cluster"
)

// A cloud that takes machines back as soon as they are there is not asked for
// them without end: an attempt that was over within hurry is followed by a rest,
// which doubles from one to the next.
const (
	hurry     = time.Minute
	firstRest = time.Second
	longRest  = time.Minute
)

// takenBack puts a call back whose machine the cloud has taken. That is no failure
// of the call and counts for none: it is tried again as often as it happens.
func (c *Coordinator) takenBack(a *attempt, p *problem) {
	cl := a.call
	if a.notice == "" { // it was lost without one
		c.tell(cluster.EventMachinePreempted, cl).Message = p.text
	}
	c.retry(a, p)
	cl.taken++
	if a.endedAt.Sub(a.startedAt) >= hurry {
		cl.hurried = 0
		cl.comp.again = append(cl.comp.again, cl)
		c.enqueue(cl.comp)
		return
	}
	pause := min(firstRest<<min(cl.hurried, 10), longRest)
	cl.hurried++
	c.turn.change.Events[len(c.turn.change.Events)-1].Message = "next attempt in " + short(pause)
	r := &rest{call: cl}
	r.timer = time.AfterFunc(pause, func() { c.inbox.post(func() { c.rested(r) }) })
	cl.comp.resting = append(cl.comp.resting, r)
}

// rested lets a call start whose time has come, unless it was ended meanwhile.
func (c *Coordinator) rested(r *rest) {
	comp := r.call.comp
	at := slices.Index(comp.resting, r)
	if at < 0 {
		return
	}
	comp.resting = slices.Delete(comp.resting, at, at+1)
	comp.again = append(comp.again, r.call)
	c.enqueue(comp)
}

// removeCheckpoint removes what earlier attempts of a call have saved.
func (c *Coordinator) removeCheckpoint(cl *call) {
	err := os.RemoveAll(CheckpointDir(c.cfg.Dir, cl.row.ID))
	if err == nil {
		return
	}
	c.inbox.post(func() {
		c.tell(cluster.EventWarning, cl).Message = "its checkpoint could not be removed: " + err.Error()
	})
}
