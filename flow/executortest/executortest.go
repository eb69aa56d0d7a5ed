// Package executortest holds an implementation of flow.Executor to its contract.
package executortest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/flow"
)

// The work that the suite gives to an executor, as shell lines. An executor that
// runs shell lines needs no more; any other has to know these.
const (
	Hello  = `echo hello; echo world`
	Fails  = `echo "oh no"; exit 3`
	Sleeps = `echo started; exec sleep 600`
	Writes = `mkdir -p out && printf weights > out/model.pt && printf '{"accuracy": 0.5}' > "$LEVIN_RESULT"`
	Reads  = `cat inputs/up/out/model.pt`
	Greets = `printf '%s' "$GREETING"`
	Saves  = `trap 'mkdir -p ckpt; echo 7 > ckpt/step; exit 0' TERM; echo started; while :; do sleep 0.02; done`
	Goes   = `cat ckpt/step`
	Looks  = `test ! -e out/model.pt && test ! -e "$LEVIN_RESULT"`
)

// patience bounds what should take a moment, so that a test fails and does not
// hang.
const patience = time.Minute

// Preempter is an executor that can take a machine back, as a cloud does. One that
// cannot is not held to what it does then.
type Preempter interface {
	Preempt(machine string)
}

// Run runs the suite. open gives a fresh executor, and closes it with t.Cleanup.
func Run(t *testing.T, open func(*testing.T) flow.Executor) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"work that succeeds", (*suite).succeeds},
		{"work that fails", (*suite).fails},
		{"result and artifacts", (*suite).produces},
		{"outputs that are missing", (*suite).missing},
		{"environment", (*suite).environment},
		{"inputs", (*suite).inputs},
		{"a machine is used again", (*suite).again},
		{"work is told to stop", (*suite).stopped},
		{"work takes too long", (*suite).timesOut},
		{"several machines at once", (*suite).several},
		{"acquiring is given up", (*suite).acquireGivenUp},
		{"machines that are not there", (*suite).notThere},
		{"release", (*suite).release},
		{"a machine that is taken back", (*suite).takenBack},
		{"a checkpoint is in place", (*suite).goesOn},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			t.Cleanup(cancel)
			test.run(&suite{T: t, ctx: ctx, x: open(t), comp: configs.Component{
				Name: "work", MaxMachines: 16, Files: []string{"."}, StartTimeout: patience, Grace: time.Second,
			}})
		})
	}
}

type suite struct {
	*testing.T
	ctx   context.Context
	x     flow.Executor
	comp  configs.Component
	mu    sync.Mutex
	count int
}

// machine acquires the component's machine number n; it is released at the end.
func (s *suite) machine(n int) string {
	s.Helper()
	m, err := s.x.Acquire(s.ctx, s.comp, n)
	if err != nil {
		s.Fatal("acquire:", err)
	}
	s.Cleanup(func() { s.x.Release(m, "the test is over") })
	return m
}

// work is an attempt of a call of its own.
func (s *suite) work(line string) flow.Work {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	call := fmt.Sprintf("r-work-%d", s.count)
	return flow.Work{
		ID: flow.AttemptID(call, 1), Component: s.comp, Command: configs.Command{Shell: line},
		Env:         map[string]string{"LEVIN_CALL": call},
		ArtifactDir: flow.ArtifactDir(s.TempDir(), call),
	}
}

// run runs an attempt that must come to its end.
func (s *suite) run(machine string, w flow.Work) (flow.Outcome, *ear) {
	s.Helper()
	e := &ear{}
	outcome, err := s.x.Run(s.ctx, machine, w, e)
	if err != nil {
		s.Fatalf("%s: %v", w.Command.Shell, err)
	}
	return outcome, e
}

func (s *suite) succeeds() {
	outcome, heard := s.run(s.machine(1), s.work(Hello))
	if outcome.ExitCode != 0 || outcome.Error != "" || outcome.TimedOut || outcome.Setup || len(outcome.Missing) > 0 {
		s.Errorf("%+v", outcome)
	}
	if outcome.ExitedAt.IsZero() {
		s.Error("it exited at no time")
	}
	if diff := cmp.Diff([]string{"shipped", "running", "exited 0"}, heard.story()); diff != "" {
		s.Error(diff)
	}
	if got := heard.text(s.T); got != "hello\nworld\n" {
		s.Errorf("the log is %q", got)
	}
}

func (s *suite) fails() {
	outcome, heard := s.run(s.machine(1), s.work(Fails))
	if outcome.ExitCode != 3 {
		s.Errorf("%+v", outcome)
	}
	if got := heard.text(s.T); got != "oh no\n" {
		s.Errorf("the log is %q", got)
	}
	if story := heard.story(); story[len(story)-1] != "exited 3" {
		s.Error(story)
	}
}

func (s *suite) produces() {
	w := s.work(Writes)
	w.Component.Outputs = []string{"out/*.pt"}
	outcome, _ := s.run(s.machine(1), w)
	var result struct{ Accuracy float64 }
	if err := json.Unmarshal(outcome.Result, &result); err != nil || result.Accuracy != 0.5 {
		s.Errorf("result %s: %v", outcome.Result, err)
	}
	if len(outcome.Artifacts) != 1 || outcome.Artifacts[0].Path != "out/model.pt" || outcome.Artifacts[0].Size != int64(len("weights")) {
		s.Errorf("artifacts %+v", outcome.Artifacts)
	}
	if p, err := os.ReadFile(filepath.Join(w.ArtifactDir, "out", "model.pt")); err != nil || string(p) != "weights" {
		s.Errorf("%q, %v", p, err)
	}
}

func (s *suite) missing() {
	w := s.work(Writes)
	w.Component.Outputs = []string{"out/*.pt", "report.html"}
	outcome, _ := s.run(s.machine(1), w)
	if outcome.ExitCode != 0 {
		s.Errorf("%+v", outcome)
	}
	if diff := cmp.Diff([]string{"report.html"}, outcome.Missing); diff != "" {
		s.Error(diff)
	}
}

func (s *suite) environment() {
	w := s.work(Greets)
	w.Env["GREETING"] = "it's $HOME \"here\""
	_, heard := s.run(s.machine(1), w)
	if got := heard.text(s.T); got != w.Env["GREETING"] {
		s.Errorf("the work saw %q", got)
	}
}

func (s *suite) inputs() {
	up := s.work(Writes)
	up.Component.Outputs = []string{"out/model.pt"}
	s.run(s.machine(1), up)
	w := s.work(Reads)
	w.Inputs = []flow.Input{{At: "inputs/up", Dir: up.ArtifactDir}}
	_, heard := s.run(s.machine(2), w)
	if got := heard.text(s.T); got != "weights" {
		s.Errorf("the work read %q", got)
	}
}

// again: what an attempt has left behind is not taken for the next one's.
func (s *suite) again() {
	m := s.machine(1)
	w := s.work(Writes)
	w.Component.Outputs = []string{"out/model.pt"}
	s.run(m, w)
	w = s.work(Looks)
	w.Component.Outputs = []string{"out/model.pt"}
	outcome, heard := s.run(m, w)
	if outcome.ExitCode != 0 || len(outcome.Missing) != 1 || len(outcome.Result) > 0 {
		s.Errorf("%+v", outcome)
	}
	if got := heard.text(s.T); got != "" {
		s.Errorf("the log is %q", got)
	}
}

func (s *suite) stopped() {
	m := s.machine(1)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	e := &ear{onLog: cancel}
	outcome, err := s.x.Run(ctx, m, s.work(Sleeps), e)
	if err == nil {
		s.Errorf("%+v", outcome)
	}
	if s.ctx.Err() != nil {
		s.Error("it did not stop")
	}
}

func (s *suite) timesOut() {
	m := s.machine(1)
	w := s.work(Sleeps)
	w.Component.Timeout = 500 * time.Millisecond
	outcome, _ := s.run(m, w)
	if !outcome.TimedOut || outcome.ExitCode == 0 {
		s.Errorf("%+v", outcome)
	}
	outcome, _ = s.run(m, s.work(Hello)) // and the machine is free for the next
	if outcome.ExitCode != 0 {
		s.Errorf("%+v", outcome)
	}
}

func (s *suite) several() {
	const n = 4
	var wg sync.WaitGroup
	machines, texts, errs := make([]string, n), make([]string, n), make([]error, n)
	for i := range n {
		wg.Go(func() {
			if machines[i], errs[i] = s.x.Acquire(s.ctx, s.comp, i+1); errs[i] != nil {
				return
			}
			defer s.x.Release(machines[i], "the test is over")
			w := s.work(Greets)
			w.Env["GREETING"] = machines[i]
			e := &ear{}
			_, errs[i] = s.x.Run(s.ctx, machines[i], w, e)
			texts[i] = e.text(s.T)
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for i, m := range machines {
		if errs[i] != nil || texts[i] != m || seen[m] {
			s.Errorf("machine %q said %q: %v", m, texts[i], errs[i])
		}
		seen[m] = true
	}
}

func (s *suite) acquireGivenUp() {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if m, err := s.x.Acquire(ctx, s.comp, 1); err == nil {
		s.x.Release(m, "the test is over")
		s.Error("a machine came for a context that had ended")
	}
}

func (s *suite) notThere() {
	if outcome, err := s.x.Run(s.ctx, "nowhere", s.work(Hello), &ear{}); err == nil {
		s.Errorf("%+v", outcome)
	}
	s.x.Release("nowhere", "the test is over")
}

func (s *suite) release() {
	m := s.machine(1)
	s.x.Release(m, "first")
	s.x.Release(m, "second")
	if outcome, err := s.x.Run(s.ctx, m, s.work(Hello), &ear{}); err == nil {
		s.Errorf("a machine that was released ran work: %+v", outcome)
	}
}

// checkpointed is an attempt of a component with a checkpoint.
func (s *suite) checkpointed(line string) flow.Work {
	w := s.work(line)
	w.Component.Checkpoint = []string{"ckpt"}
	w.CheckpointDir = flow.CheckpointDir(s.TempDir(), w.Env["LEVIN_CALL"])
	return w
}

// takenBack: the work is told to end, and what it has saved comes back in place of
// what was saved before.
func (s *suite) takenBack() {
	x, ok := s.x.(Preempter)
	if !ok {
		s.Skip("this executor cannot take a machine back")
	}
	m := s.machine(1)
	w := s.checkpointed(Saves)
	w.Component.Outputs = []string{"out/model.pt"}
	s.save(w, "step", "3")
	e := &ear{onLog: sync.OnceFunc(func() { x.Preempt(m) })}
	outcome, err := s.x.Run(s.ctx, m, w, e)
	if err != nil || !outcome.Preempted || len(outcome.Artifacts) > 0 {
		s.Errorf("%+v, %v", outcome, err)
	}
	if diff := cmp.Diff([]string{"shipped", "running", "preempted", fmt.Sprintf("exited %d", outcome.ExitCode)}, e.story()); diff != "" {
		s.Error(diff)
	}
	if p, err := os.ReadFile(filepath.Join(w.CheckpointDir, "ckpt", "step")); err != nil || string(p) != "7\n" {
		s.Errorf("saved %q, %v", p, err)
	}
	w.ID, w.Command.Shell = flow.AttemptID(w.Env["LEVIN_CALL"], 2), Goes
	w.Component.Outputs = nil
	_, heard := s.run(s.machine(2), w)
	if got := heard.text(s.T); got != "7\n" {
		s.Errorf("the next attempt went on from %q", got)
	}
}

func (s *suite) goesOn() {
	m := s.machine(1)
	w := s.checkpointed(Goes)
	s.save(w, "step", "3")
	_, heard := s.run(m, w)
	if got := heard.text(s.T); got != "3" {
		s.Errorf("the work went on from %q", got)
	}
	// It is this call's, and not the next one's on the machine.
	outcome, _ := s.run(m, s.checkpointed(Goes))
	if outcome.ExitCode == 0 {
		s.Error("another call went on from it")
	}
}

func (s *suite) save(w flow.Work, name, text string) {
	s.Helper()
	dir := filepath.Join(w.CheckpointDir, "ckpt")
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
	}
	if err != nil {
		s.Fatal(err)
	}
}

// ear is an Observer that remembers.
type ear struct {
	onLog func()

	mu    sync.Mutex
	told  []string
	log   []byte
	wrong string
}

func (e *ear) Shipped(int64) { e.tell("shipped") }
func (e *ear) Running()      { e.tell("running") }

func (e *ear) Preempted(time.Time, string) { e.tell("preempted") }

func (e *ear) Exited(code int, _ time.Time) { e.tell(fmt.Sprintf("exited %d", code)) }

func (e *ear) Log(offset int64, p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch at := int64(len(e.log)); {
	case offset > at:
		e.wrong = fmt.Sprintf("bytes at %d came when there were %d", offset, at)
	case offset+int64(len(p)) > at:
		e.log = append(e.log, p[at-offset:]...)
	}
	if e.onLog != nil {
		e.onLog()
	}
}

func (e *ear) tell(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told = append(e.told, what)
}

func (e *ear) story() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string{}, e.told...)
}

func (e *ear) text(t *testing.T) string {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wrong != "" {
		t.Error(e.wrong)
	}
	return string(e.log)
}
