package runnertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/levinrun/levin/terraform"
)

// Call is one call of a Fake.
type Call struct {
	Command  string // "apply" or "destroy"
	Dir      string
	Machines map[string]terraform.MachineInput // to be created; for destroy, nil
	Existing []string                          // names of the machines in the state before the call
	// Providers are those the call was given.
	Providers terraform.Providers
}

// Fake is a terraform.Runner without Terraform. It reads the roots that it is
// given, and keeps which machines exist in a state file of Terraform's form in
// the root's folder, so that terraform.Resources reads it, and so does another
// Fake.
//
// It fails closed: an Apply that nobody gave an answer to is an error. To delay a
// call, let its function wait for a channel, and for ctx.
type Fake struct {
	// OnApply creates the machines of a call that do not exist yet, and gives the
	// outputs of all that are created; with an error, of those that are created all
	// the same. It is called without a lock held.
	OnApply func(context.Context, Call) (map[string]terraform.MachineOutput, error)
	// OnDestroy may fail a Destroy, or an Apply that removes machines: Existing are
	// those to be removed. When nil, all succeed.
	OnDestroy func(context.Context, Call) error

	mu    sync.Mutex
	calls []Call
	turns map[string]chan struct{}
}

var _ terraform.Runner = (*Fake)(nil)

// NewFake makes a Fake whose machines are what answer says.
func NewFake(answer func(map[string]terraform.MachineInput) (map[string]terraform.MachineOutput, error)) *Fake {
	f := &Fake{}
	if answer != nil {
		f.OnApply = func(_ context.Context, c Call) (map[string]terraform.MachineOutput, error) { return answer(c.Machines) }
	}
	return f
}

// NewShellFake makes a Fake that runs the shell lines of the module Shell.
func NewShellFake() *Fake {
	line := func(ctx context.Context, text string) error {
		var words strings.Builder
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", text)
		cmd.Stdout, cmd.Stderr = &words, &words
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%w: %s", err, words.String())
		}
		return nil
	}
	var mu sync.Mutex
	destroys := map[string]string{} // line by folder and machine
	f := &Fake{}
	f.OnApply = func(ctx context.Context, c Call) (map[string]terraform.MachineOutput, error) {
		created := map[string]terraform.MachineOutput{}
		var failures []terraform.Diagnostic
		for _, name := range slices.Sorted(maps.Keys(c.Machines)) {
			m := c.Machines[name]
			if !slices.Contains(c.Existing, name) {
				if err := line(ctx, fmt.Sprint(m.Extra["create"])); err != nil {
					failures = append(failures, Failed(name, "create", err.Error()))
					continue
				}
			}
			mu.Lock()
			destroys[filepath.Join(c.Dir, name)] = fmt.Sprint(m.Extra["destroy"])
			mu.Unlock()
			created[name] = terraform.MachineOutput{
				Address: "192.0.2.1", Port: 22, User: m.Type, HostKey: "ssh-ed25519 AAAA", CloudID: name,
			}
		}
		if len(failures) > 0 {
			return created, &terraform.ApplyError{Command: c.Command, Diagnostics: failures, Err: errors.New("exit status 1")}
		}
		return created, nil
	}
	f.OnDestroy = func(ctx context.Context, c Call) error {
		for _, name := range c.Existing {
			mu.Lock()
			text := destroys[filepath.Join(c.Dir, name)]
			mu.Unlock()
			if err := line(ctx, text); err != nil {
				return &terraform.ApplyError{Command: c.Command, Diagnostics: []terraform.Diagnostic{Failed(name, "destroy", err.Error())}}
			}
		}
		return nil
	}
	return f
}

// Failed is what Terraform says of a machine that failed.
func Failed(machine, summary, detail string) terraform.Diagnostic {
	return terraform.Diagnostic{
		Severity: "error", Summary: summary, Detail: detail,
		Address: fmt.Sprintf("module.machines.fake_machine.machine[%q]", machine),
	}
}

// Calls gives the calls that were begun, in their order.
func (f *Fake) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Apply implements terraform.Runner.
func (f *Fake) Apply(ctx context.Context, dir string, p terraform.Providers) (terraform.Outputs, error) {
	release, err := f.take(ctx, dir)
	if err != nil {
		return nil, failure(ctx, "apply", dir, err)
	}
	defer release()
	machines, err := terraform.ReadMachines(dir)
	if err != nil {
		return nil, failure(ctx, "apply", dir, err)
	}
	existing, err := readState(dir)
	if err != nil {
		return nil, failure(ctx, "apply", dir, err)
	}
	if f.OnApply == nil {
		return nil, failure(ctx, "apply", dir, errors.New("nobody said what this Apply gives"))
	}
	var removed, kept []string
	for _, name := range existing {
		if _, ok := machines[name]; ok {
			kept = append(kept, name)
		} else {
			removed = append(removed, name)
		}
	}
	call := Call{Command: "apply", Dir: dir, Machines: machines, Existing: existing, Providers: p}
	f.note(call)
	if f.OnDestroy != nil && len(removed) > 0 {
		if err := f.OnDestroy(ctx, Call{Command: "apply", Dir: dir, Existing: removed, Providers: p}); err != nil {
			return nil, failure(ctx, "apply", dir, err)
		}
	}
	created, err := f.OnApply(ctx, call)
	kept = slices.Compact(slices.Sorted(slices.Values(append(kept, slices.Collect(maps.Keys(created))...))))
	if writeErr := writeState(dir, kept); writeErr != nil {
		return nil, failure(ctx, "apply", dir, errors.Join(err, writeErr))
	}
	if err == nil {
		err = ctx.Err() // an interrupted Terraform says so, whatever it has done
	}
	if err != nil {
		return nil, failure(ctx, "apply", dir, err)
	}
	raw, err := json.Marshal(created)
	if err != nil {
		return nil, failure(ctx, "apply", dir, err)
	}
	return terraform.Outputs{"machines": raw}, nil
}

// Destroy implements terraform.Runner.
func (f *Fake) Destroy(ctx context.Context, dir string, p terraform.Providers) error {
	release, err := f.take(ctx, dir)
	if err != nil {
		return failure(ctx, "destroy", dir, err)
	}
	defer release()
	existing, err := readState(dir)
	if err != nil {
		return failure(ctx, "destroy", dir, err)
	}
	if len(existing) == 0 {
		return nil
	}
	call := Call{Command: "destroy", Dir: dir, Existing: existing, Providers: p}
	f.note(call)
	if f.OnDestroy != nil {
		if err := f.OnDestroy(ctx, call); err != nil {
			return failure(ctx, "destroy", dir, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return failure(ctx, "destroy", dir, err)
	}
	if err := writeState(dir, nil); err != nil {
		return failure(ctx, "destroy", dir, err)
	}
	return nil
}

func (f *Fake) note(c Call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, c)
}

// take waits for the folder's turn.
func (f *Fake) take(ctx context.Context, dir string) (func(), error) {
	f.mu.Lock()
	if f.turns == nil {
		f.turns = map[string]chan struct{}{}
	}
	turn := f.turns[dir]
	if turn == nil {
		turn = make(chan struct{}, 1)
		f.turns[dir] = turn
	}
	f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// failure makes of any error what a Runner returns. A *cluster.Failure that wraps
// an ApplyError is one already, unless ctx has ended.
func failure(ctx context.Context, command, dir string, err error) error {
	var apply *terraform.ApplyError
	if !errors.As(err, &apply) {
		apply = &terraform.ApplyError{Command: command, Err: err}
	} else if err != error(apply) && ctx.Err() == nil {
		return err
	}
	return apply.Failure(ctx, dir)
}

// The state file, in as much of Terraform's form as terraform.Resources reads.
type state struct {
	Version   int        `json:"version"`
	Resources []resource `json:"resources"`
}

type resource struct {
	Module    string     `json:"module"`
	Mode      string     `json:"mode"`
	Type      string     `json:"type"`
	Name      string     `json:"name"`
	Instances []instance `json:"instances"`
}

type instance struct {
	IndexKey string `json:"index_key"`
}

const stateFile = "terraform.tfstate"

func writeState(dir string, names []string) error {
	s := state{Version: 4, Resources: []resource{}}
	if len(names) > 0 {
		r := resource{Module: "module.machines", Mode: "managed", Type: "fake_machine", Name: "machine"}
		for _, name := range names {
			r.Instances = append(r.Instances, instance{IndexKey: name})
		}
		s.Resources = append(s.Resources, r)
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, stateFile), b, 0o600)
}

func readState(dir string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, err
	}
	var names []string
	for _, r := range s.Resources {
		for _, i := range r.Instances {
			names = append(names, i.IndexKey)
		}
	}
	slices.Sort(names)
	return names, nil
}
