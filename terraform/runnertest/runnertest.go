// Package runnertest holds every terraform.Runner to its contract. It also has a
// Runner without Terraform for the tests of others.
package runnertest

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
)

// Run runs the suite. Open gives a new Runner that lets at least three roots of
// the module Shell be applied at the same time.
func Run(t *testing.T, open func(t *testing.T) terraform.Runner) {
	for name, test := range map[string]func(*testing.T, terraform.Runner){
		"ApplyAndDestroy": applyAndDestroy,
		"Nothing":         nothing,
		"Failure":         failureKeepsState,
		"FailedDestroy":   failedDestroy,
		"BadRoot":         badRoot,
		"Interrupt":       interrupt,
		"Deadline":        deadline,
		"Cancelled":       cancelled,
		"SideBySide":      sideBySide,
		"Queue":           queue,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// The world follows the root, and what is there already stays.
func applyAndDestroy(t *testing.T, r terraform.Runner) {
	record := filepath.Join(t.TempDir(), "record")
	machines := map[string]terraform.MachineInput{}
	for _, name := range []string{"a", "b", "c"} {
		machines[name] = Line("echo +"+name+" >>"+record, "echo -"+name+" >>"+record)
	}
	dir := Root(t, nil)
	for _, names := range [][]string{{"a", "b"}, {"b"}, {"b"}, {"b", "c"}} {
		asked := maps.Clone(machines)
		maps.DeleteFunc(asked, func(name string, _ terraform.MachineInput) bool { return !slices.Contains(names, name) })
		Write(t, dir, asked)
		check(t, r, dir, names)
	}
	destroy(t, r, dir)
	destroy(t, r, dir) // again is no error
	lines := readLines(t, record)
	slices.Sort(lines)
	if want := []string{"+a", "+b", "+c", "-a", "-b", "-c"}; !slices.Equal(lines, want) {
		t.Errorf("created and destroyed: %v, want each once", lines)
	}
}

// Destroying what was never applied is done at once.
func nothing(t *testing.T, r terraform.Runner) {
	destroy(t, r, Root(t, Lines("a")))
	destroy(t, r, filepath.Join(t.TempDir(), "no-such-folder"))
}

// A machine that fails keeps none of the others from being known, and says so
// itself.
func failureKeepsState(t *testing.T, r terraform.Runner) {
	record := filepath.Join(t.TempDir(), "record")
	dir := Root(t, map[string]terraform.MachineInput{
		"good": Line("true", "echo gone >>"+record),
		"bad":  Line("echo InsufficientInstanceCapacity; exit 3", "true"),
	})
	_, err := r.Apply(t.Context(), dir, terraform.Providers{})
	apply := isFailure(t, err, cluster.Provisioning)
	if !strings.Contains(err.Error(), "InsufficientInstanceCapacity") {
		t.Errorf("the words of what failed are not in the error: %v", err)
	}
	var named []string
	for _, d := range apply.Diagnostics {
		if d.Severity == "error" {
			named = append(named, d.Machine())
		}
	}
	if !slices.Equal(named, []string{"bad"}) {
		t.Errorf("machines that failed: %q", named)
	}
	if left := resources(t, dir); !slices.ContainsFunc(left, func(a string) bool { return strings.Contains(a, `"good"`) }) {
		t.Errorf("resources after the failure: %v", left)
	}
	destroy(t, r, dir)
	if lines := readLines(t, record); !slices.Equal(lines, []string{"gone"}) {
		t.Errorf("the good machine was destroyed like this: %q", lines)
	}
}

// A Destroy that failed can be tried again.
func failedDestroy(t *testing.T, r terraform.Runner) {
	may := filepath.Join(t.TempDir(), "may")
	dir := Root(t, map[string]terraform.MachineInput{"a": Line("true", "test -e "+may)})
	check(t, r, dir, []string{"a"})
	isFailure(t, r.Destroy(t.Context(), dir, terraform.Providers{}), cluster.Provisioning)
	if left := resources(t, dir); len(left) == 0 {
		t.Error("the machine could not be destroyed and is not in the state")
	}
	if err := os.WriteFile(may, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	destroy(t, r, dir)
}

// A folder without a root is no root.
func badRoot(t *testing.T, r terraform.Runner) {
	dir := Root(t, Lines("a"))
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte("this is not HCL {"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := r.Apply(t.Context(), dir, terraform.Providers{})
	isFailure(t, err, cluster.Provisioning)
}

// An interrupted Apply keeps what was there, and what it began can be removed.
func interrupt(t *testing.T, r terraform.Runner) {
	bell, record := NewBell(t), filepath.Join(t.TempDir(), "record")
	machines := map[string]terraform.MachineInput{"before": Line("true", "echo gone >>"+record)}
	dir := Root(t, machines)
	check(t, r, dir, []string{"before"})
	machines["slow"] = Line(bell.Ring("begun")+"; exec sleep 600", "true")
	Write(t, dir, machines)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := apply(ctx, r, dir)
	bell.Hear()
	cancel()
	err := <-ended
	isFailure(t, err, cluster.Interrupted)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("errors.Is(%v, context.Canceled) is false", err)
	}
	if left := resources(t, dir); !slices.ContainsFunc(left, func(a string) bool { return strings.Contains(a, `"before"`) }) {
		t.Errorf("resources after the interrupt: %v", left)
	}
	destroy(t, r, dir)
	if lines := readLines(t, record); !slices.Equal(lines, []string{"gone"}) {
		t.Errorf("the machine that was there was destroyed like this: %q", lines)
	}
}

func deadline(t *testing.T, r terraform.Runner) {
	dir := Root(t, Lines("a"))
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err := r.Apply(ctx, dir, terraform.Providers{})
	isFailure(t, err, cluster.Provisioning)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("errors.Is(%v, context.DeadlineExceeded) is false", err)
	}
}

// A context that has ended already starts nothing.
func cancelled(t *testing.T, r terraform.Runner) {
	record := filepath.Join(t.TempDir(), "record")
	dir := Root(t, map[string]terraform.MachineInput{"a": Line("echo created >>"+record, "true")})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Apply(ctx, dir, terraform.Providers{})
	isFailure(t, err, cluster.Interrupted)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("errors.Is(%v, context.Canceled) is false", err)
	}
	if _, err := os.Stat(record); err == nil {
		t.Error("a machine was created")
	}
	destroy(t, r, dir)
}

// Roots in different folders do not wait for each other.
func sideBySide(t *testing.T, r terraform.Runner) {
	begun, release := NewBell(t), NewBell(t)
	var dirs []string
	var ended []<-chan error
	for range 3 {
		dir := Root(t, map[string]terraform.MachineInput{"a": Line(begun.Ring("begun")+"; "+release.Await(), "true")})
		dirs, ended = append(dirs, dir), append(ended, apply(t.Context(), r, dir))
	}
	for range dirs {
		begun.Hear() // all of them, before any may end
	}
	for range dirs {
		release.Go()
	}
	for i, dir := range dirs {
		if err := <-ended[i]; err != nil {
			t.Error(err)
		}
		destroy(t, r, dir)
	}
}

// Calls on one folder queue, and whoever waits can give up.
func queue(t *testing.T, r terraform.Runner) {
	begun, release := NewBell(t), NewBell(t)
	dir := Root(t, map[string]terraform.MachineInput{"a": Line(begun.Ring("begun")+"; "+release.Await(), "true")})
	first := apply(t.Context(), r, dir)
	begun.Hear()
	ctx, cancel := context.WithCancel(t.Context())
	givesUp := apply(ctx, r, dir)
	second := apply(t.Context(), r, dir)
	cancel()
	if err := <-givesUp; !errors.Is(err, context.Canceled) {
		t.Errorf("giving up: %v", err)
	}
	select {
	case err := <-first:
		t.Errorf("the first ended early: %v", err)
	case err := <-second:
		t.Errorf("the second did not wait: %v", err)
	default:
	}
	release.Go()
	for _, ended := range []<-chan error{first, second} {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	destroy(t, r, dir)
}

func apply(ctx context.Context, r terraform.Runner, dir string) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := r.Apply(ctx, dir, terraform.Providers{})
		ended <- err
	}()
	return ended
}

// check applies and wants the outputs of exactly these machines.
func check(t *testing.T, r terraform.Runner, dir string, want []string) {
	t.Helper()
	outputs, err := r.Apply(t.Context(), dir, terraform.Providers{})
	if err != nil {
		t.Errorf("apply: %v", err)
		return
	}
	machines, err := terraform.DecodeMachines(outputs)
	if err != nil {
		t.Error(err)
	}
	for name, m := range machines {
		if m.Address != "192.0.2.1" || m.Port != 22 || m.User != "shell" || m.CloudID != name {
			t.Errorf("machine %s: %+v", name, m)
		}
	}
	if got := slices.Sorted(maps.Keys(machines)); !slices.Equal(got, want) {
		t.Errorf("machines %v, want %v", got, want)
	}
	if left := resources(t, dir); len(left) != len(want) {
		t.Errorf("state holds %v, want %v", left, want)
	}
}

func destroy(t *testing.T, r terraform.Runner, dir string) {
	t.Helper()
	if err := r.Destroy(t.Context(), dir, terraform.Providers{}); err != nil {
		t.Errorf("destroy: %v", err)
	}
	if left := resources(t, dir); len(left) != 0 {
		t.Errorf("left after destroy: %v", left)
	}
}

func resources(t *testing.T, dir string) []string {
	t.Helper()
	left, err := terraform.Resources(dir)
	if err != nil {
		t.Error(err)
	}
	return left
}

// isFailure wants a failure for people of that kind, and what Terraform said.
func isFailure(t *testing.T, err error, kind cluster.FailureKind) *terraform.ApplyError {
	t.Helper()
	var failure *cluster.Failure
	var apply *terraform.ApplyError
	if !errors.As(err, &failure) || !errors.As(err, &apply) {
		t.Fatalf("error is %v; want a Failure that wraps an ApplyError", err)
	}
	if failure.Kind != kind || failure.What == "" || failure.Words == "" {
		t.Errorf("failure is %+v; want kind %q and words", failure, kind)
	}
	return apply
}

func readLines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return strings.Fields(string(b))
}
