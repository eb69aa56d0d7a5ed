package inprocess_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/flow"
	"github.com/levinrun/levin/flow/executortest"
	"github.com/levinrun/levin/flow/inprocess"
)

func TestExecutor(t *testing.T) {
	executortest.Run(t, func(t *testing.T) flow.Executor {
		x := &shells{orders: map[string]chan struct{}{}}
		x.Executor = inprocess.New(x.shell(t.TempDir()), func(ctx context.Context, _ configs.Component, _ int) error { return ctx.Err() })
		return x
	})
}

// shells is an executor that runs shell lines here, each machine in a folder of
// its own.
type shells struct {
	*inprocess.Executor

	mu     sync.Mutex
	orders map[string]chan struct{} // closed when the machine is taken back
}

var _ executortest.Preempter = (*shells)(nil)

func (x *shells) Preempt(machine string) { close(x.order(machine)) }

func (x *shells) order(machine string) chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.orders[machine] == nil {
		x.orders[machine] = make(chan struct{})
	}
	return x.orders[machine]
}

func (x *shells) shell(root string) inprocess.Func {
	return func(ctx context.Context, machine string, w flow.Work, o flow.Observer) (flow.Outcome, error) {
		dir := filepath.Join(root, machine)
		if err := prepare(dir, w); err != nil {
			return flow.Outcome{}, err
		}
		o.Shipped(0)
		result := filepath.Join(dir, "result.json")
		run := ctx
		if w.Component.Timeout > 0 {
			var cancel context.CancelFunc
			run, cancel = context.WithTimeout(ctx, w.Component.Timeout)
			defer cancel()
		}
		cmd := exec.CommandContext(run, "/bin/sh", "-c", w.Command.Shell)
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "LEVIN_RESULT=" + result}
		for k, v := range w.Env {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
		log := &logWriter{o: o}
		cmd.Stdout, cmd.Stderr = log, log
		o.Running()
		if err := cmd.Start(); err != nil {
			return flow.Outcome{}, err
		}
		ended, watched, taken := make(chan struct{}), make(chan struct{}), false
		go func() {
			defer close(watched)
			select {
			case <-x.order(machine):
				taken = true
				o.Preempted(time.Now().Add(time.Minute), "it is wanted elsewhere")
				cmd.Process.Signal(syscall.SIGTERM)
			case <-ended:
			}
		}()
		err := cmd.Wait()
		close(ended)
		<-watched
		if ctx.Err() != nil {
			return flow.Outcome{}, ctx.Err()
		}
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return flow.Outcome{}, err
		}
		outcome := flow.Outcome{ExitCode: cmd.ProcessState.ExitCode(), ExitedAt: time.Now(), TimedOut: run.Err() != nil}
		o.Exited(outcome.ExitCode, outcome.ExitedAt)
		if outcome.Result, err = os.ReadFile(result); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return flow.Outcome{}, err
		}
		if outcome.Preempted = taken; taken {
			if err := os.RemoveAll(w.CheckpointDir); err != nil {
				return flow.Outcome{}, err
			}
			return outcome, copyMatches(dir, w.Component.Checkpoint, w.CheckpointDir)
		}
		err = collect(dir, w, &outcome)
		return outcome, err
	}
}

// copyMatches copies what the patterns match, all of it if it is a folder.
func copyMatches(dir string, patterns []string, to string) error {
	for _, pattern := range patterns {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := os.CopyFS(filepath.Join(to, filepath.Base(name)), os.DirFS(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func prepare(dir string, w flow.Work) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	os.Remove(filepath.Join(dir, "result.json"))
	for _, pattern := range w.Component.Outputs {
		old, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, name := range old {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	for _, pattern := range w.Component.Checkpoint {
		if err := os.RemoveAll(filepath.Join(dir, pattern)); err != nil {
			return err
		}
	}
	if _, err := os.Stat(w.CheckpointDir); w.CheckpointDir != "" && err == nil {
		if err := os.CopyFS(dir, os.DirFS(w.CheckpointDir)); err != nil {
			return err
		}
	}
	for _, in := range w.Inputs {
		if err := os.CopyFS(filepath.Join(dir, in.At), os.DirFS(in.Dir)); err != nil {
			return err
		}
	}
	return nil
}

func collect(dir string, w flow.Work, o *flow.Outcome) error {
	for _, pattern := range w.Component.Outputs {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		if len(names) == 0 {
			o.Missing = append(o.Missing, pattern)
		}
		for _, name := range names {
			p, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			path := strings.TrimPrefix(name, dir+"/")
			to := filepath.Join(w.ArtifactDir, path)
			if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(to, p, 0o600); err != nil {
				return err
			}
			o.Artifacts = append(o.Artifacts, cluster.Artifact{Path: path, Size: int64(len(p))})
		}
	}
	return nil
}

type logWriter struct {
	o      flow.Observer
	offset int64
}

func (l *logWriter) Write(p []byte) (int, error) {
	l.o.Log(l.offset, p)
	l.offset += int64(len(p))
	return len(p), nil
}

// The executor tells of everything that is against the contract.
func TestFaults(t *testing.T) {
	ctx := context.Background()
	c := configs.Component{Name: "a"}
	w := flow.Work{ID: "x", Component: c}
	var x *inprocess.Executor
	tests := []struct {
		name string
		do   func(machine string)
	}{
		{"released while it was busy", func(m string) {
			x = inprocess.New(func(context.Context, string, flow.Work, flow.Observer) (flow.Outcome, error) {
				x.Release(m, "now")
				return flow.Outcome{}, nil
			}, nil)
			x.Acquire(ctx, c, 1)
			x.Run(ctx, m, w, nil)
		}},
		{"was busy", func(m string) {
			x = inprocess.New(func(_ context.Context, _ string, w flow.Work, _ flow.Observer) (flow.Outcome, error) {
				return x.Run(ctx, m, w, nil)
			}, nil)
			x.Acquire(ctx, c, 1)
			x.Run(ctx, m, w, nil)
		}},
		{"asked for twice", func(string) {
			x.Acquire(ctx, c, 1)
			x.Acquire(ctx, c, 1)
		}},
		{"not acquired", func(string) { x.Run(ctx, "b-1", w, nil) }},
		{"was released", func(m string) {
			x.Acquire(ctx, c, 1)
			x.Release(m, "done")
			x.Run(ctx, m, w, nil)
		}},
		{"another component", func(m string) {
			x.Acquire(ctx, c, 1)
			x.Run(ctx, m, flow.Work{Component: configs.Component{Name: "b"}}, nil)
		}},
		{"without having been acquired", func(string) { x.Release("b-1", "done") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x = inprocess.New(inprocess.NoOp, nil)
			tt.do("a-1")
			if faults := strings.Join(x.Faults(), "\n"); !strings.Contains(faults, tt.name) {
				t.Errorf("%q", faults)
			}
		})
	}
}
