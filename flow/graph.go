package flow

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

// graph is the app as the loop sees it. Its shape never changes.
type graph struct {
	components []*component // in the app's order
	byName     map[string]*component
	size       int // calls
}

// component is one component's part of the loop's state.
type component struct {
	spec       *configs.Component
	index      int // in the app's order
	calls      []call
	needs      []*component
	dependants []*component

	unmet     int     // needs that have not succeeded
	next      int     // calls[next:] have never been started
	again     []*call // calls whose next attempt waits to start
	resting   []*rest // calls whose next attempt is not to start yet
	open      int     // calls that are not final
	succeeded int     // calls
	retriable int     // attempts under way that another one may follow

	machines   int // being acquired, held or about to be released
	nextNumber int // of the next machine
	idle       []*machine

	queued bool   // it is in the ready queue
	ended  string // why it will never succeed: one of the ended constants; "" while it may

	safeItems bool // the items of for_each can be names of folders
	result    result
}

// Why a component will never succeed, as in "needs train, which failed".
const (
	endedFailed    = "failed"
	endedCancelled = "was cancelled"
	endedSkipped   = "was skipped"
)

// call is one call and the attempt under way.
type call struct {
	row     cluster.Call
	comp    *component
	current *attempt

	taken   int // attempts whose machine was taken back
	hurried int // of these, the last ones in a row that had hardly begun
}

// rest is a call that waits for its time.
type rest struct {
	call  *call
	timer *time.Timer
}

// machine is a machine between two attempts.
type machine struct {
	name  string
	made  *component  // for which it was acquired; it may have been taken over since
	timer *time.Timer // ends its idleness; nil while nobody has decided
}

func newGraph(run string, app *configs.App) (*graph, error) {
	g := &graph{byName: make(map[string]*component, len(app.Components))}
	for i := range app.Components {
		spec := &app.Components[i]
		if g.byName[spec.Name] != nil {
			return nil, fmt.Errorf("flow: there are two components called %q", spec.Name)
		}
		comp := &component{spec: spec, index: i, nextNumber: 1, safeItems: areFolderNames(spec.ForEach)}
		comp.calls = callsOf(run, comp)
		comp.open = len(comp.calls)
		g.size += len(comp.calls)
		g.components = append(g.components, comp)
		g.byName[spec.Name] = comp
	}
	for _, comp := range g.components {
		for _, name := range comp.spec.Needs {
			up := g.byName[name]
			if up == nil {
				return nil, fmt.Errorf("flow: %s needs %q, which is not there", comp.spec.Name, name)
			}
			comp.needs = append(comp.needs, up)
			up.dependants = append(up.dependants, comp)
		}
		comp.unmet = len(comp.needs)
	}
	return g, g.checkCircles()
}

// callsOf makes the calls of a component: one for each item, or just one.
func callsOf(run string, comp *component) []call {
	spec := comp.spec
	row := cluster.Call{Run: run, Component: spec.Name, State: cluster.CallWaiting}
	if spec.ForEach == nil {
		row.ID = cluster.Name(run, spec.Name)
		return []call{{row: row, comp: comp}}
	}
	calls := make([]call, len(spec.ForEach))
	for i, item := range spec.ForEach {
		row.ID, row.Index, row.Each = cluster.Name(run, spec.Name, strconv.Itoa(i)), i, item
		calls[i] = call{row: row, comp: comp}
	}
	return calls
}

// checkCircles refuses a graph in which something waits for itself: the loop
// would wait for ever.
func (g *graph) checkCircles() error {
	unmet := make([]int, len(g.components))
	var free []*component
	for i, comp := range g.components {
		if unmet[i] = len(comp.needs); unmet[i] == 0 {
			free = append(free, comp)
		}
	}
	for n := 0; n < len(free); n++ {
		for _, dep := range free[n].dependants {
			if unmet[dep.index]--; unmet[dep.index] == 0 {
				free = append(free, dep)
			}
		}
	}
	if len(free) == len(g.components) {
		return nil
	}
	var stuck []string
	for i, comp := range g.components {
		if unmet[i] > 0 {
			stuck = append(stuck, comp.spec.Name)
		}
	}
	return fmt.Errorf("flow: these components wait for each other: %s", strings.Join(stuck, ", "))
}

// outcome is what a run becomes that came to its end by itself.
func (g *graph) outcome() cluster.RunState {
	outcome := cluster.RunSucceeded
	for _, comp := range g.components {
		switch comp.ended {
		case endedFailed:
			return cluster.RunFailed
		case endedCancelled:
			outcome = cluster.RunCancelled
		}
	}
	return outcome
}

// waiting counts the calls that could start if there were a machine and a slot.
func (c *component) waiting() int { return len(c.again) + len(c.calls) - c.next }

// canStart reports whether a call could start right now, slots aside.
func (c *component) canStart() bool {
	return c.unmet == 0 && c.ended != endedCancelled && c.waiting() > 0 && (len(c.idle) > 0 || c.machines < max(1, c.spec.MaxMachines))
}

// couldNeedMachine reports whether a machine that is idle now may get another
// call: one that waits, or another attempt of one that is under way.
func (c *component) couldNeedMachine() bool {
	return c.ended != endedCancelled && c.waiting()+len(c.resting)+c.retriable > 0
}

// keepsIdle reports whether a machine that is idle now is kept for another call.
func (c *component) keepsIdle() bool { return c.spec.IdleTimeout > 0 && c.couldNeedMachine() }

// pop takes the call that starts next: attempts that follow another one first,
// then in the order of for_each.
func (c *component) pop() *call {
	if len(c.again) > 0 {
		cl := c.again[0]
		c.again = c.again[1:]
		return cl
	}
	c.next++
	return &c.calls[c.next-1]
}

// name is the call for people: train, or train[svm].
func (cl *call) name() string {
	if cl.comp.spec.ForEach == nil {
		return cl.comp.spec.Name
	}
	return cl.comp.spec.Name + "[" + cl.row.Each + "]"
}
