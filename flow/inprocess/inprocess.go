// Package inprocess is a flow.Executor without machines: each attempt is a
// function call. It is for tests and benchmarks of the coordinator, and for
// looking at an app's order without running it.
//
// It holds its caller to the Executor's contract: work on a machine that was not
// acquired, that has been released, or that is busy is refused, and Faults tells
// of it afterwards.
package inprocess

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/flow"
)

// Func does the work of one attempt. It follows the contract of
// flow.Executor.Run.
type Func func(ctx context.Context, machine string, w flow.Work, o flow.Observer) (flow.Outcome, error)

// NoOp is work that succeeds at once and prints nothing.
func NoOp(_ context.Context, _ string, _ flow.Work, o flow.Observer) (flow.Outcome, error) {
	now := time.Now()
	o.Shipped(0)
	o.Running()
	o.Exited(0, now)
	return flow.Outcome{ExitedAt: now}, nil
}

// Executor is a flow.Executor whose machines are only names.
type Executor struct {
	// Reuse is the coordinator's Config.Reuse; set it before the first use. nil: a
	// machine runs work of its own component alone.
	Reuse func(from, to string) bool

	work    Func
	acquire func(ctx context.Context, c configs.Component, number int) error

	mu       sync.Mutex
	machines map[string]*machine
	up       map[string]int // by component
	most     map[string]int // by component
	working  int
	busiest  int
	faults   []string
}

type machine struct {
	made      string // the component that it was acquired for
	component string // the one whose work it has run last
	busy      bool
	releases  []string // the reason of each
}

var _ flow.Executor = (*Executor)(nil)

// New makes an executor that does work. acquire is called for each machine and
// may wait, or fail in the words of a cloud; nil makes every machine at once.
func New(work Func, acquire func(ctx context.Context, c configs.Component, number int) error) *Executor {
	return &Executor{
		work: work, acquire: acquire,
		machines: map[string]*machine{}, up: map[string]int{}, most: map[string]int{},
	}
}

// Acquire makes a machine called <component>-<number>.
func (x *Executor) Acquire(ctx context.Context, c configs.Component, number int) (string, error) {
	name := c.Name + "-" + strconv.Itoa(number)
	x.mu.Lock()
	if x.machines[name] != nil {
		x.fault("machine %s was asked for twice", name)
	}
	m := &machine{made: c.Name, component: c.Name}
	x.machines[name] = m
	x.up[c.Name]++
	x.most[c.Name] = max(x.most[c.Name], x.up[c.Name])
	x.mu.Unlock()

	err := ctx.Err()
	if err == nil && x.acquire != nil {
		err = x.acquire(ctx, c, number)
	}
	if err != nil {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.machines, name)
		x.up[c.Name]--
		return "", err
	}
	return name, nil
}

// Run calls the function.
func (x *Executor) Run(ctx context.Context, name string, w flow.Work, o flow.Observer) (flow.Outcome, error) {
	x.mu.Lock()
	m := x.machines[name]
	var refused error
	switch {
	case m == nil:
		refused = x.fault("%s was to run on machine %s, which was not acquired", w.ID, name)
	case len(m.releases) > 0:
		refused = x.fault("%s was to run on machine %s, which was released", w.ID, name)
	case m.busy:
		refused = x.fault("%s was to run on machine %s, which was busy", w.ID, name)
	case m.component != w.Component.Name && (x.Reuse == nil || !x.Reuse(m.made, w.Component.Name)):
		refused = x.fault("%s was to run on machine %s of another component", w.ID, name)
	default:
		m.busy = true
		x.up[m.component]--
		m.component = w.Component.Name
		x.up[m.component]++
		x.most[m.component] = max(x.most[m.component], x.up[m.component])
		x.working++
		x.busiest = max(x.busiest, x.working)
	}
	x.mu.Unlock()
	if refused != nil {
		return flow.Outcome{}, refused
	}
	defer func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		m.busy = false
		x.working--
	}()
	return x.work(ctx, name, w, o)
}

// Release ends a machine.
func (x *Executor) Release(name, reason string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	m := x.machines[name]
	switch {
	case m == nil:
		x.fault("machine %s was released without having been acquired", name)
		return
	case m.busy:
		x.fault("machine %s was released while it was busy", name)
	}
	if len(m.releases) == 0 {
		x.up[m.component]--
	}
	m.releases = append(m.releases, reason)
}

func (x *Executor) fault(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	x.faults = append(x.faults, err.Error())
	return err
}

// Faults lists what was asked against the contract.
func (x *Executor) Faults() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.faults)
}

// Up gives the machines that have not been released, sorted.
func (x *Executor) Up() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var names []string
	for name, m := range x.machines {
		if len(m.releases) == 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Releases gives, for each machine that was acquired, the reasons it was
// released with: one, if all is well.
func (x *Executor) Releases() map[string][]string {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := make(map[string][]string, len(x.machines))
	for name, m := range x.machines {
		out[name] = slices.Clone(m.releases)
	}
	return out
}

// MostMachines is how many machines a component has had at once, those being
// acquired included.
func (x *Executor) MostMachines(component string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.most[component]
}

// MostAtOnce is how many attempts have run at the same time.
func (x *Executor) MostAtOnce() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.busiest
}
