package flow

import (
	"container/heap"
	"slices"
	"time"

	"github.com/levinrun/levin/cluster"
)

// needsMet lets the calls of a component start: all its needs have succeeded.
func (c *Coordinator) needsMet(comp *component) {
	if len(comp.calls) == 0 { // for_each over nothing has succeeded as soon as it may begin
		c.completed(comp)
		return
	}
	c.enqueue(comp)
}

// completed tells the dependants of a component that all its calls succeeded.
func (c *Coordinator) completed(comp *component) {
	for _, dep := range comp.dependants {
		if dep.unmet--; dep.unmet == 0 && dep.ended == "" {
			c.needsMet(dep)
		}
	}
}

// enqueue puts a component into the ready queue if it could start a call.
func (c *Coordinator) enqueue(comp *component) {
	if !comp.queued && comp.canStart() {
		comp.queued = true
		heap.Push(&c.ready, comp)
	}
}

// dispatch starts calls, components in the app's order, while there are slots.
// Then it lets go of machines that have not found another call.
func (c *Coordinator) dispatch() {
	for started := 0; !c.stopping && c.slots > 0 && len(c.ready) > 0; {
		if started == maxStarts {
			c.inbox.ring() // go on in the next turn
			break
		}
		comp := c.ready[0]
		if !comp.canStart() {
			comp.queued = false
			heap.Pop(&c.ready)
			continue
		}
		c.start(comp)
		started++
	}
	for _, comp := range c.turn.settle {
		c.settle(comp)
	}
}

// start begins the next attempt of a component's next call: on an idle machine if
// there is one, else on one that another component has no more use for.
func (c *Coordinator) start(comp *component) {
	cl := comp.pop()
	row := &cl.row
	row.State, row.Machine, row.Error, row.ExitCode, row.ExitedAt = cluster.CallStarting, "", "", nil, time.Time{}
	row.Attempt++
	a := newAttempt(c, cl)
	if m := c.idleFor(comp); m != nil {
		m.wanted()
		a.machine, a.made, row.Machine = m.name, m.made, m.name
	} else {
		a.machineNumber, a.made = comp.nextNumber, comp
		comp.nextNumber++
		comp.machines++
	}
	a.startedAt = c.now().UTC()
	if row.StartedAt.IsZero() {
		row.StartedAt = a.startedAt
	}
	cl.current = a
	c.slots--
	c.inflight++
	if a.mayBeRetried() {
		comp.retriable++
	}
	c.writeCall(cl)
	c.writeAttempt(a)
	c.tell(cluster.EventCallStarted, cl)
	c.turn.starts = append(c.turn.starts, a)
}

// idleFor gives a machine that can run a call of comp at once, nil if there is
// none.
func (c *Coordinator) idleFor(comp *component) *machine {
	if n := len(comp.idle); n > 0 {
		m := comp.idle[n-1]
		comp.idle = comp.idle[:n-1]
		return m
	}
	if c.cfg.Reuse == nil {
		return nil
	}
	// Machines that would be released are those of components that this turn is
	// about to settle: they are there until it has.
	for _, from := range c.turn.settle {
		if from.keepsIdle() {
			continue
		}
		for i, m := range from.idle {
			if c.cfg.Reuse(m.made.spec.Name, comp.spec.Name) {
				from.idle = slices.Delete(from.idle, i, i+1)
				from.machines--
				comp.machines++
				c.enqueue(from) // there is room for another one
				return m
			}
		}
	}
	return nil
}

// giveBack takes a machine whose attempt has ended. The component's next call
// takes it at once, with the slot that has just become free; otherwise settle
// decides at the end of the turn.
func (c *Coordinator) giveBack(comp *component, m *machine) {
	comp.idle = append(comp.idle, m)
	if !c.stopping && c.slots > 0 && comp.canStart() {
		c.start(comp)
	}
	c.turn.settle = append(c.turn.settle, comp)
}

// letGo releases a machine of a component.
func (c *Coordinator) letGo(comp *component, name, reason string) {
	c.turn.releases = append(c.turn.releases, release{comp, name, reason})
}

// released: a machine has been asked to stop. Only now another one may take its
// place.
func (c *Coordinator) released(comp *component) {
	comp.machines--
	c.enqueue(comp)
}

// settle releases the idle machines of a component, or gives them idle_timeout
// if another call may still come.
func (c *Coordinator) settle(comp *component) {
	if !c.stopping && comp.keepsIdle() {
		for _, m := range comp.idle {
			if m.timer == nil {
				m.timer = time.AfterFunc(comp.spec.IdleTimeout, func() {
					c.inbox.post(func() { c.idleTooLong(comp, m) })
				})
			}
		}
		return
	}
	reason := "no call of " + comp.spec.Name + " is left"
	if !c.stopping && comp.couldNeedMachine() {
		reason = "idle"
	}
	idle := comp.idle
	comp.idle = nil
	for _, m := range idle {
		m.wanted()
		c.letGo(comp, m.name, reason)
	}
}

// idleTooLong releases a machine that nobody has taken for idle_timeout.
func (c *Coordinator) idleTooLong(comp *component, m *machine) {
	for i, other := range comp.idle {
		if other == m {
			comp.idle = append(comp.idle[:i], comp.idle[i+1:]...)
			c.letGo(comp, m.name, "idle for "+comp.spec.IdleTimeout.String())
			return
		}
	}
}

// wanted stops the clock of an idle machine.
func (m *machine) wanted() {
	if m.timer != nil {
		m.timer.Stop()
	}
}

// writeCall adds the call's row, as it is now, to the turn's change. A call that
// moves twice in one turn is written twice, because both moves are checked.
func (c *Coordinator) writeCall(cl *call) {
	c.turn.change.Calls = append(c.turn.change.Calls, cl.row)
}

func (c *Coordinator) writeAttempt(a *attempt) {
	row := &a.call.row
	c.turn.change.Attempts = append(c.turn.change.Attempts, cluster.Attempt{
		Call: row.ID, Number: a.number, Run: row.Run, Machine: a.machine, StartedAt: a.startedAt,
		ExitCode: row.ExitCode, ExitedAt: row.ExitedAt, EndedAt: a.endedAt, Error: row.Error,
	})
}

// tell adds an event about a call to the turn's change. It is good until the
// next event is added.
func (c *Coordinator) tell(t cluster.EventType, cl *call) *cluster.Event {
	row := &cl.row
	c.turn.change.Events = append(c.turn.change.Events, cluster.Event{
		Time: c.now().UTC(), Run: row.Run, Type: t, Component: row.Component, Call: row.ID,
		Each: row.Each, Attempt: row.Attempt, Machine: row.Machine,
	})
	return &c.turn.change.Events[len(c.turn.change.Events)-1]
}

// readyQueue is a heap of components, the app's first one on top.
type readyQueue []*component

func (q readyQueue) Len() int           { return len(q) }
func (q readyQueue) Less(i, j int) bool { return q[i].index < q[j].index }
func (q readyQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *readyQueue) Push(x any)        { *q = append(*q, x.(*component)) }
func (q *readyQueue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return last
}
