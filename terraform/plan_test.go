package terraform_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
	"github.com/levinrun/levin/terraform/runnertest"
)

// A plan says what would be, and does nothing.
func TestPlan(t *testing.T) {
	record := filepath.Join(t.TempDir(), "record")
	x := newExec(t, nil)
	machines := map[string]terraform.MachineInput{"a": runnertest.Line("echo created >>"+record, "true")}
	dir := runnertest.Root(t, machines)
	planned, err := x.Plan(t.Context(), dir, terraform.Providers{})
	if err != nil {
		t.Fatal(err)
	}
	want := terraform.Planned{Resources: []terraform.PlannedResource{{
		Address: `module.machines.terraform_data.machine["a"]`, Type: "terraform_data",
		Values:  map[string]any{"input": map[string]any{"type": "shell", "destroy": "true"}, "triggers_replace": nil},
		Unknown: []string{"id", "output"},
	}}}
	if diff := cmp.Diff(want, planned); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(record); err == nil {
		t.Error("the machine was created")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*plan*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
	// Of what is there already a plan says only what changes.
	if _, err := x.Apply(t.Context(), dir, terraform.Providers{}); err != nil {
		t.Fatal(err)
	}
	if planned, err := x.Plan(t.Context(), dir, terraform.Providers{}); err != nil || len(planned.Resources)+len(planned.Removed) > 0 {
		t.Errorf("nothing to do, planned: %+v %v", planned, err)
	}
	runnertest.Write(t, dir, runnertest.Lines("b"))
	planned, err = x.Plan(t.Context(), dir, terraform.Providers{})
	if err != nil || len(planned.Resources) != 1 || !strings.HasSuffix(planned.Resources[0].Address, `["b"]`) ||
		!slices.Equal(planned.Removed, []string{`module.machines.terraform_data.machine["a"]`}) {
		t.Errorf("another machine, planned: %+v %v", planned, err)
	}
	if err := x.Destroy(t.Context(), dir, terraform.Providers{}); err != nil {
		t.Error(err)
	}
	bad := runnertest.Root(t, runnertest.Lines("a"))
	if err := os.WriteFile(filepath.Join(bad, "more.tf"), []byte("resource \"terraform_data\" \"x\" {\n  input = local.missing\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Plan(t.Context(), bad, terraform.Providers{}); cluster.KindOf(err) != cluster.Provisioning || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a root that is wrong: %v", err)
	}
}
