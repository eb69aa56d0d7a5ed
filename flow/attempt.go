package flow

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/levinrun/levin/cluster"
)

// attempt is one try of a call.
type attempt struct {
	call          *call
	number        int // 1 is the first
	id            string
	counted       int        // what number counts of it towards retries: attempts whose machine was taken back do not
	machineNumber int        // of the machine it asks for; 0 when it takes an idle one
	made          *component // for which its machine is or was acquired
	ctx           context.Context
	cancel        context.CancelCauseFunc
	observer      *observer
	proceed       chan struct{} // closed once its machine is written down

	// Owned by the loop, but machine may be read by the attempt once proceed is
	// closed, or from the start when machineNumber is 0.
	machine   string
	startedAt time.Time
	endedAt   time.Time
	exited    bool   // call.exited has been told
	giveUp    string // why it has been told to stop; "" while it is wanted
	notice    string // the cloud's words, when it has said that it takes the machine back
}

// newAttempt prepares the attempt that the call's row counts. Its context does
// not end with the run's: the loop decides what is told to stop, and writes it
// down first.
func newAttempt(c *Coordinator, cl *call) *attempt {
	a := &attempt{
		call: cl, number: cl.row.Attempt, counted: cl.row.Attempt - cl.taken, id: AttemptID(cl.row.ID, cl.row.Attempt), proceed: make(chan struct{}),
	}
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	a.observer = newObserver(c, a)
	return a
}

// AttemptID names an attempt: <call>-a<number>.
func AttemptID(call string, number int) string { return call + "-a" + strconv.Itoa(number) }

// LogPath is the file in the run's folder to which an attempt's output goes. It
// is not there while nothing has been printed.
func LogPath(runDir, call string, number int) string {
	return filepath.Join(runDir, "logs", AttemptID(call, number)+".log")
}

// ArtifactDir is the folder in the run's folder to which a call's outputs come.
// It is not there when there are none.
func ArtifactDir(runDir, call string) string { return filepath.Join(runDir, "artifacts", call) }

// CheckpointDir is the folder in the run's folder that holds what an attempt of a
// call has saved whose machine was taken back. It is not there when nothing was.
func CheckpointDir(runDir, call string) string { return filepath.Join(runDir, "checkpoints", call) }

// mayBeRetried reports whether another attempt may follow one that fails.
func (a *attempt) mayBeRetried() bool { return a.counted <= a.call.comp.spec.Retries }

// carry takes an attempt from its beginning to its end. It is the goroutine of
// the attempt and reports to the loop; the last report is how it ended.
func (c *Coordinator) carry(a *attempt) {
	defer a.cancel(nil)
	end := c.try(a)
	a.observer.end()
	c.inbox.post(func() { c.ended(a, end) })
	a.observer.close()
}

func (c *Coordinator) try(a *attempt) ending {
	work, err := c.prepare(a)
	if err != nil {
		return ending{stage: preparing, err: err}
	}
	machine := a.machine
	if a.machineNumber > 0 {
		if machine, err = c.acquire(a); err != nil {
			return ending{stage: acquiring, err: err}
		}
		c.inbox.post(func() { c.acquired(a, machine) })
		<-a.proceed
	}
	if a.ctx.Err() != nil {
		return ending{stage: working, err: context.Cause(a.ctx)}
	}
	outcome, err := c.cfg.Executor.Run(a.ctx, machine, work, a.observer)
	if err != nil && a.ctx.Err() != nil {
		err = context.Cause(a.ctx) // that is why, whatever it looked like to the executor
	}
	return ending{stage: working, outcome: outcome, err: err}
}

// acquire asks for a machine and bounds the wait by start_timeout.
func (c *Coordinator) acquire(a *attempt) (string, error) {
	spec, ctx := a.call.comp.spec, a.ctx
	if spec.StartTimeout > 0 {
		late := &cluster.Failure{
			Kind: cluster.Provisioning,
			What: fmt.Sprintf("no machine within %s", short(spec.StartTimeout)),
			Next: "raise start_timeout, or ask for a machine that is easier to get",
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, spec.StartTimeout, late)
		defer cancel()
	}
	machine, err := c.cfg.Executor.Acquire(ctx, *spec, a.machineNumber)
	if err == nil || ctx.Err() == nil {
		return machine, err
	}
	cause := context.Cause(ctx)
	late, ok := cause.(*cluster.Failure)
	if ok && a.ctx.Err() == nil && cluster.KindOf(err) != "" && err != cause {
		why := *late // with what was tried meanwhile
		why.Words, _ = withoutAdvice(err)
		why.Err = err
		return "", &why
	}
	return "", cause
}

// prepare puts together what the attempt needs. The calls it reads have ended
// for good before this one could start.
func (c *Coordinator) prepare(a *attempt) (Work, error) {
	cl, comp := a.call, a.call.comp
	w := Work{
		ID: a.id, Component: *comp.spec, Inputs: inputs(c.cfg.Dir, comp),
		ArtifactDir: ArtifactDir(c.cfg.Dir, cl.row.ID),
	}
	if len(comp.spec.Checkpoint) > 0 {
		w.CheckpointDir = CheckpointDir(c.cfg.Dir, cl.row.ID)
	}
	if a.number > 1 { // what an earlier attempt produced is not this one's
		if err := os.RemoveAll(w.ArtifactDir); err != nil {
			return Work{}, fmt.Errorf("could not clear the outputs of the attempt before: %w", err)
		}
	}
	return w, c.expand(a, &w)
}

// inputs lists the artifacts of everything that comp needs directly.
func inputs(runDir string, comp *component) []Input {
	var in []Input
	for _, up := range comp.needs {
		for i := range up.calls {
			row := &up.calls[i].row
			if len(row.Artifacts) == 0 {
				continue
			}
			at := "inputs/" + up.spec.Name
			switch {
			case up.spec.ForEach == nil:
			case up.safeItems:
				at += "/" + row.Each
			default:
				at += "/" + strconv.Itoa(row.Index)
			}
			in = append(in, Input{At: at, Dir: ArtifactDir(runDir, row.ID)})
		}
	}
	return in
}

// areFolderNames reports whether every item can be the name of a folder of its
// own, on any file system that tells upper from lower case.
func areFolderNames(items []string) bool {
	seen := make(map[string]bool, len(items))
	for _, item := range items {
		if item == "" || item == "." || item == ".." || len(item) > 255 || seen[item] {
			return false
		}
		for _, r := range item {
			switch {
			case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			default:
				return false
			}
		}
		seen[item] = true
	}
	return true
}

// short writes a duration without the zeros at its end: 15m, not 15m0s.
func short(d time.Duration) string {
	s := d.String()
	if d >= time.Minute && d%time.Minute == 0 {
		s = s[:len(s)-len("0s")]
		if d%time.Hour == 0 {
			s = s[:len(s)-len("0m")]
		}
	}
	return s
}
