package runnertest_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
	"github.com/levinrun/levin/terraform/runnertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFakeConformance(t *testing.T) {
	runnertest.Run(t, func(*testing.T) terraform.Runner { return runnertest.NewShellFake() })
}

// A Fake that was told nothing does nothing.
func TestFakeFailsClosed(t *testing.T) {
	f := runnertest.NewFake(nil)
	dir := runnertest.Root(t, runnertest.Lines("a"))
	_, err := f.Apply(t.Context(), dir, terraform.Providers{})
	var apply *terraform.ApplyError
	if cluster.KindOf(err) != cluster.Provisioning || !errors.As(err, &apply) {
		t.Errorf("error: %v", err)
	}
}

// A failure of one's own comes through as it is; what was created stays.
func TestFakePartialFailure(t *testing.T) {
	capacity := &cluster.Failure{Kind: cluster.Capacity, What: "no", Words: "none left", Err: &terraform.ApplyError{
		Diagnostics: []terraform.Diagnostic{runnertest.Failed("b", "none left", "")},
	}}
	f := runnertest.NewFake(func(machines map[string]terraform.MachineInput) (map[string]terraform.MachineOutput, error) {
		return map[string]terraform.MachineOutput{"a": {Address: "x"}}, capacity
	})
	dir := runnertest.Root(t, runnertest.Lines("a", "b"))
	outputs, err := f.Apply(t.Context(), dir, terraform.Providers{})
	if err != error(capacity) || outputs != nil {
		t.Errorf("outputs %v, error %v", outputs, err)
	}
	if left, err := terraform.Resources(dir); err != nil || !slices.Equal(left, []string{`module.machines.fake_machine.machine["a"]`}) {
		t.Errorf("resources: %v %v", left, err)
	}
	f.OnDestroy = func(context.Context, runnertest.Call) error { return errors.New("not now") }
	if err := f.Destroy(t.Context(), dir, terraform.Providers{}); cluster.KindOf(err) != cluster.Provisioning {
		t.Errorf("destroy: %v", err)
	}
	f.OnDestroy = nil
	if err := f.Destroy(t.Context(), dir, terraform.Providers{}); err != nil {
		t.Error(err)
	}
	var commands []string
	for _, c := range f.Calls() {
		commands = append(commands, c.Command)
	}
	if !slices.Equal(commands, []string{"apply", "destroy", "destroy"}) {
		t.Errorf("calls: %v", commands)
	}
}
