package flow

import (
	"strings"
	"time"

	"github.com/levinrun/levin/cluster"
)

// acquired: an attempt has got a machine of its own.
func (c *Coordinator) acquired(a *attempt, machine string) {
	a.machine, a.call.row.Machine = machine, machine
	c.writeCall(a.call)
	c.turn.proceeds = append(c.turn.proceeds, a)
}

// shipped: the files are on the machine.
func (c *Coordinator) shipped(a *attempt, bytes int64) {
	c.tell(cluster.EventCallShipped, a.call).Bytes = bytes
}

// running: the work's process has been started.
func (c *Coordinator) running(a *attempt) {
	if a.call.row.State != cluster.CallStarting {
		return
	}
	a.call.row.State = cluster.CallRunning
	c.writeCall(a.call)
	c.tell(cluster.EventCallRunning, a.call)
}

// exited: the work's process has ended; what it made is still on the machine.
func (c *Coordinator) exited(a *attempt, code int, at time.Time) {
	if a.exited {
		return
	}
	a.exited = true
	at = at.UTC()
	e := c.tell(cluster.EventCallExited, a.call)
	e.ExitCode, e.ExitedAt = &code, &at
}

// ended: nothing of the attempt goes on. Its machine is given back or let go,
// and its call succeeds, is tried again, fails, or is cancelled.
func (c *Coordinator) ended(a *attempt, end ending) {
	cl, comp := a.call, a.call.comp
	c.slots++
	c.inflight--
	if a.mayBeRetried() {
		comp.retriable--
	}
	cl.current = nil
	a.endedAt = c.now().UTC()
	if end.exited() {
		c.exited(a, end.outcome.ExitCode, end.outcome.ExitedAt)
		code := end.outcome.ExitCode
		cl.row.ExitCode, cl.row.ExitedAt = &code, end.outcome.ExitedAt
	}

	problem := end.problem(a)
	switch {
	case problem == nil:
		c.succeed(a, end.outcome)
	case a.giveUp != "":
		cl.row.Error = a.giveUp
		c.writeAttempt(a)
		c.endCall(cl, cluster.CallCancelled, a.giveUp)
	case problem.kind == cluster.Preempted && c.broken == nil:
		c.takenBack(a, problem)
	case a.mayBeRetried() && !problem.permanent && c.broken == nil:
		c.retry(a, problem)
		comp.again = append(comp.again, cl)
		c.enqueue(comp)
	default:
		c.failCall(a, problem)
	}

	switch {
	case a.machine == "" && a.machineNumber > 0:
		comp.machines-- // none was had, or the executor has ended it
		c.enqueue(comp)
		c.turn.settle = append(c.turn.settle, comp)
	case problem != nil && problem.machine:
		c.letGo(comp, a.machine, oneLine(problem))
		c.turn.settle = append(c.turn.settle, comp)
	default:
		c.giveBack(comp, &machine{name: a.machine, made: a.made})
	}
}

// succeed records what a call has produced.
func (c *Coordinator) succeed(a *attempt, o Outcome) {
	cl, comp := a.call, a.call.comp
	c.running(a) // an executor that saw no running phase has passed through it
	c.writeAttempt(a)
	cl.row.Result, cl.row.Artifacts = o.Result, o.Artifacts
	if a.number > 1 && len(comp.spec.Checkpoint) > 0 {
		c.turn.forget = append(c.turn.forget, cl)
	}
	comp.succeeded++
	c.endCall(cl, cluster.CallSucceeded, "")
	if comp.succeeded == len(comp.calls) && comp.ended == "" {
		c.completed(comp)
	}
}

// retry writes down that a call is going to be tried again. Its state stays until
// then.
func (c *Coordinator) retry(a *attempt, p *problem) {
	cl := a.call
	cl.row.Error = p.Error()
	c.writeCall(cl)
	c.writeAttempt(a)
	e := c.tell(cluster.EventCallRetrying, cl)
	e.Error, e.Kind, e.ExitCode = p.Error(), string(p.kind), cl.row.ExitCode
}

// failCall ends a call that has no attempt left.
func (c *Coordinator) failCall(a *attempt, p *problem) {
	cl := a.call
	cl.row.Error = p.Error()
	c.writeAttempt(a)
	lines := a.observer.lastLines()
	c.endCall(cl, cluster.CallFailed, p.Error())
	e := &c.turn.change.Events[len(c.turn.change.Events)-1]
	e.Kind, e.ExitCode, e.Message = string(p.kind), cl.row.ExitCode, strings.Join(lines, "\n")
	if len(c.failed) < maxFailed {
		c.failed = append(c.failed, FailedCall{
			Call: cl.row.Clone(), LastLines: lines,
			Log: LogPath(c.cfg.Dir, cl.row.ID, a.number), Err: p.failure(cl, lines),
		})
	}
	c.callFailed(cl)
}

// maxFailed bounds how many failed calls a Result tells about.
const maxFailed = 20

// endCall moves a call to its final state and tells so.
func (c *Coordinator) endCall(cl *call, state cluster.CallState, why string) {
	cl.row.State, cl.row.FinishedAt, cl.row.Error = state, c.now().UTC(), why
	cl.comp.open--
	c.unfinished--
	c.writeCall(cl)
	e := c.tell(finalEvent(state), cl)
	e.Error = why
	if state == cluster.CallSucceeded {
		e.Result = cl.row.Result
	}
}

func finalEvent(s cluster.CallState) cluster.EventType {
	switch s {
	case cluster.CallSucceeded:
		return cluster.EventCallSucceeded
	case cluster.CallFailed:
		return cluster.EventCallFailed
	case cluster.CallSkipped:
		return cluster.EventCallSkipped
	default:
		return cluster.EventCallCancelled
	}
}
