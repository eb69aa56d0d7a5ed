package flow

import (
	"fmt"
	"strings"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

// wave ends the calls of one component that have not run: a bounded number each
// turn, so that ten thousand of them hold up no release.
type wave struct {
	comp  *component
	state cluster.CallState // cancelled or skipped
	why   string
}

// callFailed decides what the failure of a call means to the others.
func (c *Coordinator) callFailed(cl *call) {
	if cl.comp.ended == "" {
		cl.comp.ended = endedFailed
		c.skipDependants(cl.comp)
	}
	if c.cfg.App.OnFailure != configs.Continue {
		c.stop(cluster.RunFailed, fmt.Errorf("%s failed", cl.name()))
	}
}

// skipDependants marks everything that needs comp, near or far, and lets the
// waves end their calls.
func (c *Coordinator) skipDependants(comp *component) {
	for hit := []*component{comp}; len(hit) > 0; hit = hit[1:] {
		for _, dep := range hit[0].dependants {
			if dep.ended == "" {
				dep.ended = endedSkipped
				c.waves = append(c.waves, wave{dep, cluster.CallSkipped, "needs " + hit[0].spec.Name + ", which " + hit[0].ended})
				hit = append(hit, dep)
			}
		}
	}
}

// stop begins the end of the run: no new work, work under way is told to stop,
// what waits is cancelled. The first reason counts.
func (c *Coordinator) stop(outcome cluster.RunState, why error) {
	if c.stopping {
		return
	}
	reason := oneLine(why)
	if outcome == cluster.RunCancelled {
		c.stopErr = why
	}
	c.markStopping(outcome, reason)
	for _, comp := range c.graph.components {
		c.endComponent(comp, reason)
	}
}

// stopComponent ends one component; the run goes on without what needs it.
func (c *Coordinator) stopComponent(comp *component, reason string) {
	if c.stopping || comp.open == 0 || comp.ended == endedSkipped || comp.ended == endedCancelled {
		return
	}
	if comp.ended == "" {
		comp.ended = endedCancelled
		c.skipDependants(comp)
	}
	c.endComponent(comp, reason)
}

// endComponent cancels what a component has under way and what waits, and lets
// its machines go.
func (c *Coordinator) endComponent(comp *component, reason string) {
	if comp.open > 0 {
		for i := range comp.calls[:comp.next] {
			if a := comp.calls[i].current; a != nil && a.giveUp == "" {
				a.giveUp = reason
				c.turn.cancels = append(c.turn.cancels, a)
			}
		}
	}
	for _, r := range comp.resting {
		r.timer.Stop()
		comp.again = append(comp.again, r.call)
	}
	comp.resting = nil
	if comp.waiting() > 0 { // a wave that skips them comes first, and leaves nothing
		c.waves = append(c.waves, wave{comp, cluster.CallCancelled, reason})
	}
	if len(comp.idle) > 0 {
		c.turn.settle = append(c.turn.settle, comp)
	}
}

// ebb carries the waves on.
func (c *Coordinator) ebb() {
	for n := 0; len(c.waves) > 0; {
		w := c.waves[0]
		for ; w.comp.waiting() > 0; n++ {
			if n == maxEndings {
				c.inbox.ring()
				return
			}
			c.endCall(w.comp.pop(), w.state, w.why)
		}
		c.waves = c.waves[1:]
	}
}

// markStopping writes down that the run is ending and as what.
func (c *Coordinator) markStopping(outcome cluster.RunState, reason string) {
	c.stopping, c.outcome = true, outcome
	c.run.State, c.run.Outcome = cluster.RunStopping, outcome
	run := c.run
	c.turn.change.Run = &run
	c.turn.change.Events = append(c.turn.change.Events, cluster.Event{
		Time: c.now().UTC(), Run: c.run.ID, Type: cluster.EventRunStopping, Message: reason,
	})
}

// fail ends the run when the journal does not take what was decided: nothing
// new may happen, but what costs money is ended all the same.
func (c *Coordinator) fail(err error) {
	c.broken = fmt.Errorf("could not write down the state of run %s: %w", c.run.ID, err)
	c.stopping, c.outcome = true, cluster.RunFailed
	for _, comp := range c.graph.components {
		c.endComponent(comp, "the state of the run could not be written down")
		c.settle(comp)
	}
}

// problem is why an attempt did not succeed.
type problem struct {
	kind      cluster.FailureKind
	text      string // for people, without the name of the call
	next      string // what they can do, if we know
	err       error  // the cause, if there is one
	permanent bool   // trying again would not help
	machine   bool   // the machine is in doubt: it is not used again
}

// Error gives the text.
func (p *problem) Error() string { return p.text }

// failure is the problem as the end of a run tells it.
func (p *problem) failure(cl *call, lines []string) *cluster.Failure {
	f := &cluster.Failure{Kind: p.kind, What: cl.name() + " failed", Words: p.text, Next: p.next, Err: p.err}
	if len(lines) > 0 {
		f.Words += "\n  " + strings.Join(lines, "\n  ")
		if f.Next == "" {
			f.Next = fmt.Sprintf("all that it printed: levin logs %s %s", cl.row.Run, cl.row.Component)
		}
	}
	return f
}

// ending is how an attempt ended: where it was, and an outcome or an error.
type ending struct {
	stage   stage
	outcome Outcome
	err     error
}

type stage int

const (
	preparing stage = iota // expressions, inputs
	acquiring
	working
)

// exited reports whether there is an outcome.
func (e ending) exited() bool { return e.err == nil }

// problem says what was wrong, nil if nothing was.
func (e ending) problem(a *attempt) *problem {
	if e.err == nil {
		return e.outcome.problem(a)
	}
	p := &problem{err: e.err, kind: cluster.KindOf(e.err)}
	p.text, p.next = withoutAdvice(e.err)
	switch e.stage {
	case preparing:
		p.permanent = true
		if p.kind == "" {
			p.kind = cluster.WorkFailed
		}
	case acquiring, working:
		p.permanent = isPermanent(p.kind)
		p.machine = e.stage == working
		if p.kind == "" {
			p.kind = cluster.Provisioning
		}
	}
	return p
}

// isPermanent reports whether a failure of this kind comes again every time.
func isPermanent(k cluster.FailureKind) bool {
	switch k {
	case cluster.Auth, cluster.BadRequest, cluster.BadInput, cluster.Untrusted, cluster.Price:
		return true
	}
	return false
}

// problem judges work that has exited.
func (o Outcome) problem(a *attempt) *problem {
	if o.Preempted {
		text := fmt.Sprintf("the cloud took machine %s back", a.machine)
		if a.notice != "" {
			text += ": " + a.notice
		}
		return &problem{kind: cluster.Preempted, text: text, machine: true}
	}
	p := &problem{kind: cluster.WorkFailed}
	what := ""
	if o.Setup {
		what = "setup "
	}
	switch {
	case o.TimedOut:
		p.text = fmt.Sprintf("%stimed out after %s", what, short(a.call.comp.spec.Timeout))
	case o.ExitCode != 0:
		p.text = fmt.Sprintf("%sexited with code %d", what, o.ExitCode)
		if o.ExitCode == 137 {
			p.text += " (killed; often the machine had too little memory)"
		}
	case o.Error != "":
	case len(o.Missing) > 0:
		p.text = "it exited with code 0 but did not write " + strings.Join(o.Missing, ", ")
	case len(o.Result) > 0 && !isJSON(o.Result):
		p.text = fmt.Sprintf("what it wrote to $LEVIN_RESULT is not JSON: %.80q", o.Result)
	default:
		return nil
	}
	if o.Error != "" {
		// The machine itself is in trouble, or cannot run this at all.
		p.machine = true
		p.text = strings.TrimPrefix(p.text+": "+o.Error, ": ")
	}
	return p
}

// withoutAdvice parts what an error says from what it advises.
func withoutAdvice(err error) (text, next string) {
	f, ok := err.(*cluster.Failure)
	if !ok {
		return err.Error(), ""
	}
	plain := *f
	plain.Next = ""
	return plain.Error(), f.Next
}

// oneLine is the first line of what an error says.
func oneLine(err error) string {
	text, _ := withoutAdvice(err)
	text, _, _ = strings.Cut(text, "\n")
	return text
}
