package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/levinrun/levin/cluster"
)

// told is an event, and when it was read.
type told struct {
	cluster.Event
	seen time.Time
}

// finished is a run of levin that has ended.
type finished struct {
	events  []told
	started time.Time
	wall    time.Duration
}

// running is a run of levin under way.
type running struct {
	cmd     *exec.Cmd
	stderr  *bytes.Buffer
	started time.Time
	events  chan told // closed when there are no more
	all     []told
}

// start starts `levin run --json`.
func (p *place) start(ctx context.Context, levin string, args ...string) (*running, error) {
	cmd := p.command(ctx, levin, append([]string{"run", "--json"}, args...)...)
	run := &running{cmd: cmd, stderr: &bytes.Buffer{}, events: make(chan told, 1<<16)}
	cmd.Stderr = run.stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	run.started = time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(run.events)
		lines := json.NewDecoder(stdout)
		for {
			var e told
			if err := lines.Decode(&e.Event); err != nil {
				io.Copy(io.Discard, stdout)
				return
			}
			e.seen = time.Now()
			run.events <- e
		}
	}()
	return run, nil
}

// until reads events until there were n of a type.
func (run *running) until(t cluster.EventType, n int) error {
	for n > 0 {
		e, ok := <-run.events
		if !ok {
			return errors.Join(fmt.Errorf("the run ended before it was to"), run.cmd.Wait(), errors.New(run.complaints()))
		}
		run.all = append(run.all, e)
		if e.Type == t {
			n--
		}
	}
	return nil
}

// wait reads the rest and checks that the run ended with one of the codes and
// left nothing.
func (run *running) wait(code int) (finished, error) {
	for e := range run.events {
		run.all = append(run.all, e)
	}
	err := run.cmd.Wait()
	done := finished{events: run.all, started: run.started, wall: time.Since(run.started)}
	if exit := run.cmd.ProcessState.ExitCode(); exit != code {
		return done, errors.Join(fmt.Errorf("levin run: exit code %d, expected %d", exit, code), err, errors.New(run.complaints()))
	}
	if len(done.events) == 0 {
		return done, errors.New("levin run: no events")
	}
	last := done.events[len(done.events)-1]
	if last.Type != cluster.EventRunFinished || last.Leaked == nil || *last.Leaked != 0 {
		return done, fmt.Errorf("levin run: the last event is %s and does not say that nothing leaked", last.Type)
	}
	return done, nil
}

// complaints are what the run wrote to stderr and what its events call errors.
func (run *running) complaints() string {
	text := run.stderr.String()
	for _, e := range run.all {
		if e.Error != "" {
			text += fmt.Sprintf("\n%s %s: %s", e.Type, e.Call, e.Error)
		}
	}
	return text
}

// interrupt is Ctrl-C.
func (run *running) interrupt() (finished, error) {
	if err := run.cmd.Process.Signal(os.Interrupt); err != nil {
		return finished{}, err
	}
	return run.wait(130)
}

// run runs an app to its good end.
func (p *place) run(ctx context.Context, levin string, args ...string) (finished, error) {
	run, err := p.start(ctx, levin, args...)
	if err != nil {
		return finished{}, err
	}
	return run.wait(0)
}

// first and last give the first and the last event of a type; both are the zero
// event when there is none.
func (f finished) first(t cluster.EventType) told {
	for _, e := range f.events {
		if e.Type == t {
			return e
		}
	}
	return told{}
}

func (f finished) last(t cluster.EventType) told {
	var last told
	for _, e := range f.events {
		if e.Type == t {
			last = e
		}
	}
	return last
}
