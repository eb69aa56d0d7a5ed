package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/flow"
	"github.com/levinrun/levin/launcher"
	"github.com/levinrun/levin/launcher/agent"
	"github.com/levinrun/levin/provision"
)

// stopWorkTimeout bounds telling a machine that its work is not wanted any more;
// the machine is stopped afterwards in any case.
const stopWorkTimeout = 5 * time.Second

// executor joins provision (machines) and launcher (work on them) to what the
// coordinator asks for.
type executor struct {
	app     *configs.App
	plan    provision.Plan
	prov    *provision.Provisioner
	clouds  map[string]provision.Cloud
	reach   launcher.Config
	keyFile string
	secrets map[string]string
	keep    time.Duration // > 0: machines are left running that long after the run
	warn    func(component, message string)

	mu       sync.Mutex
	sessions map[string]*session
	spot     map[string]bool // machines that their cloud may take back
	closing  sync.WaitGroup  // sessions being closed in the background
}

// session is the connection to one machine.
type session struct {
	*launcher.Session
	component string
	powerOff  bool
	expiry    bool // the time at which it ends itself can be moved
}

var _ flow.Executor = (*executor)(nil)

// Acquire creates a machine and connects to it.
func (x *executor) Acquire(ctx context.Context, c configs.Component, number int) (string, error) {
	at := slices.IndexFunc(x.plan.Choices, func(ch provision.Choice) bool { return ch.Component == c.Name })
	m, err := x.prov.Create(ctx, provision.Request{
		Component: c.Name, Number: number, Resources: c.Resources, Choice: x.plan.Choices[at], Ports: c.Ports,
	})
	if err != nil {
		return "", err
	}
	if m.Spot {
		x.mu.Lock()
		x.spot[m.Name] = true
		x.mu.Unlock()
	}
	s, err := x.connect(ctx, c.Name, m)
	if err != nil {
		x.prov.GiveUp(m.Name, "could not be reached", err)
		return "", err
	}
	x.mu.Lock()
	x.sessions[m.Name] = s
	x.mu.Unlock()
	return m.Name, nil
}

func (x *executor) connect(ctx context.Context, component string, m cluster.Machine) (*session, error) {
	target, err := x.clouds[m.Cloud].Target(m, x.keyFile)
	if err != nil {
		return nil, err
	}
	s, err := launcher.Connect(ctx, x.reach, m.Name, target)
	if err != nil {
		return nil, err
	}
	if !m.ExpiresAt.IsZero() {
		// Until now it would have ended itself soon, as a machine that nobody reaches.
		if err := s.Expire(ctx, m.ExpiresAt); err != nil {
			x.warn(component, fmt.Sprintf("could not put off the end of %s, which it was given in case nobody reached it: %v", m.Name, err))
		}
	}
	return &session{Session: s, component: component, powerOff: target.PowerOff, expiry: target.Expiry}, nil
}

// extend moves the time at which a machine ends itself.
func (x *executor) extend(ctx context.Context, m cluster.Machine, until time.Time) error {
	x.mu.Lock()
	s := x.sessions[m.Name]
	x.mu.Unlock()
	switch {
	case s == nil:
		return fmt.Errorf("machine %s is not connected", m.Name)
	case !s.expiry:
		return provision.ErrExpiryFixed
	}
	return s.Expire(ctx, until)
}

// condition asks the cloud about a machine that does not answer. A spot machine
// that is gone was taken back, whether its cloud says so or not.
func (x *executor) condition(ctx context.Context, machine string) (launcher.Condition, error) {
	status, words, err := x.prov.Status(ctx, machine)
	x.mu.Lock()
	spot := x.spot[machine]
	x.mu.Unlock()
	preempted := status == provision.StatusPreempted
	gone := preempted || status == provision.StatusGone || status == provision.StatusStopped
	return launcher.Condition{Gone: gone, Preempted: preempted || gone && spot, Words: words}, err
}

// Run ships what the attempt needs, starts it, follows it to its end and brings
// its artifacts back.
func (x *executor) Run(ctx context.Context, machine string, w flow.Work, o flow.Observer) (flow.Outcome, error) {
	x.mu.Lock()
	s := x.sessions[machine]
	x.mu.Unlock()
	if s == nil {
		return flow.Outcome{}, fmt.Errorf("machine %s is not connected", machine)
	}
	shipped, err := s.Ship(ctx, w.Component.Name, x.trees(w))
	if err != nil {
		return flow.Outcome{}, err
	}
	for _, warning := range shipped.Warnings {
		x.warn(w.Component.Name, warning)
	}
	o.Shipped(shipped.SentBytes)

	if err := s.Start(ctx, x.request(w, shipped.Digest)); err != nil {
		return flow.Outcome{}, err
	}
	running := sync.OnceFunc(o.Running)
	if w.Component.Setup == "" {
		running() // said before the first line that the work prints
	}
	following := s.Follow(ctx, w.ID, w.Component.Outputs, w.ArtifactDir)
	exit, err := s.Wait(ctx, w.ID, launcher.Listener{
		Log: o.Log,
		Phase: func(p agent.Phase) {
			if p == agent.PhaseRun {
				running()
			}
		},
		Notice: func(n agent.Notice) { o.Preempted(time.Now().Add(n.Left), n.Words) },
	})
	if err != nil {
		following.Drop()
		if !errors.Is(err, launcher.ErrLost) {
			x.stopWork(ctx, s, w.ID)
		}
		return flow.Outcome{}, err
	}
	o.Exited(exit.Code, exit.At)
	if exit.Preempted && w.CheckpointDir != "" { // first of all: the machine has not long
		if err := s.FetchCheckpoint(ctx, w.ID, exit.Checkpoint, w.CheckpointDir); err != nil {
			x.warn(w.Component.Name, "the checkpoint of "+w.ID+" has not come back whole: "+err.Error())
		}
	}
	if err := following.Fetch(ctx, exit.Artifacts); err != nil {
		return flow.Outcome{}, err
	}
	return flow.Outcome{
		ExitCode: exit.Code, ExitedAt: exit.At, TimedOut: exit.TimedOut, Setup: exit.Phase == agent.PhaseSetup,
		Error: exit.Error, Result: exit.Result, Artifacts: exit.Artifacts, Missing: exit.Missing,
		Preempted: exit.Preempted,
	}, nil
}

// trees is the component's own files, the artifacts of what it needs, and what
// an earlier attempt has saved.
func (x *executor) trees(w flow.Work) []launcher.Tree {
	var trees []launcher.Tree
	if len(w.Component.Files) > 0 { // a tree of no files would be the whole folder
		trees = append(trees, launcher.Tree{Root: x.app.Dir, Files: w.Component.Files, Ignore: true})
	}
	for _, in := range w.Inputs {
		trees = append(trees, launcher.Tree{Root: in.Dir, Files: []string{"."}, At: in.At})
	}
	if saved, ok := launcher.CheckpointTree(w.CheckpointDir); ok {
		trees = append(trees, saved)
	}
	return trees
}

func (x *executor) request(w flow.Work, content string) agent.StartRequest {
	req := agent.StartRequest{
		ID: w.ID, Folder: w.Component.Name,
		Setup: w.Component.Setup, Shell: w.Command.Shell, Args: w.Command.Args,
		Secrets: x.secrets, Outputs: w.Component.Outputs, Checkpoint: w.Component.Checkpoint,
		Timeout: w.Component.Timeout, Grace: w.Component.Grace,
	}
	if req.Setup != "" {
		req.SetupKey = content
	}
	for k, v := range w.Env {
		req.Env = append(req.Env, k+"="+v)
	}
	slices.Sort(req.Env)
	return req
}

// stopWork tells the machine that the attempt is not wanted any more. It has its
// own deadline: ctx may be what ended.
func (x *executor) stopWork(ctx context.Context, s *session, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWorkTimeout)
	defer cancel()
	if err := s.StopWork(ctx, id); err != nil {
		x.warn(s.component, "could not tell the machine to stop "+id+": "+err.Error())
	}
}

// Release stops a machine. A machine with a fast path is asked to stop at once;
// on an own host the agent ends first, so that the host is clean before its slot
// is free for others.
func (x *executor) Release(machine, reason string) {
	x.mu.Lock()
	s := x.sessions[machine]
	delete(x.sessions, machine) // whoever finds it there releases it
	x.mu.Unlock()
	switch {
	case s == nil:
	case x.keep > 0:
		x.background(func(ctx context.Context) { x.keepUp(ctx, machine, s) })
	case s.powerOff:
		x.prov.Stop(machine, reason)
		x.background(func(context.Context) { s.Close() })
	default:
		x.background(func(ctx context.Context) {
			if err := s.Shutdown(ctx); err != nil {
				x.warn(s.component, fmt.Sprintf("the agent on %s did not answer; it ends itself when its lease runs out: %v", machine, err))
			}
			s.Close()
			x.prov.Stop(machine, reason)
		})
	}
}

// keepUp leaves the machine running: its lease is set to the time asked for, and
// after that it ends itself.
func (x *executor) keepUp(ctx context.Context, machine string, s *session) {
	if err := s.Renew(ctx, x.keep); err != nil {
		x.warn(s.component, "could not extend the lease of "+machine+": "+err.Error())
	}
	s.Close()
}

func (x *executor) background(do func(context.Context)) {
	x.closing.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*stopWorkTimeout)
		defer cancel()
		do(ctx)
	})
}

// releaseAll releases every machine that is left and waits for the connections
// to be closed.
func (x *executor) releaseAll(reason string) {
	x.mu.Lock()
	var names []string
	for name := range x.sessions {
		names = append(names, name)
	}
	x.mu.Unlock()
	for _, name := range names {
		x.Release(name, reason)
	}
	x.closing.Wait()
}
