package cloudtest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision"
)

// testStatus checks what a cloud that is an Inspector says of machines.
func testStatus(ctx context.Context, t *testing.T, cloud provision.Cloud, machines []cluster.Machine, want provision.Status) {
	t.Helper()
	inspector, ok := cloud.(provision.Inspector)
	if !ok {
		return
	}
	for _, m := range machines {
		got, words, err := inspector.Status(ctx, m)
		booting := want == provision.StatusRunning && got == provision.StatusBooting
		if err != nil || got != want && !booting {
			t.Errorf("Status(%s) = %q, %q, %v, want %q", m.Name, got, words, err, want)
		}
	}
}

// testFind checks that a cloud that is a Sweeper shows these machines of their run
// and no others; none means that nothing at all is left of the suite's run.
func testFind(ctx context.Context, t *testing.T, cloud provision.Cloud, machines []cluster.Machine) {
	t.Helper()
	sweeper, ok := cloud.(provision.Sweeper)
	if !ok {
		return
	}
	run := "cloudtest-abc123"
	if len(machines) > 0 {
		run = machines[0].Run
	}
	found, err := sweeper.Find(ctx, run)
	if err != nil {
		t.Errorf("Find(%s): %v", run, err)
	}
	_, extends := cloud.(provision.Extender)
	for _, f := range found {
		if f.Run != run || f.Cloud != cloud.Name() || f.ID == "" || f.Kind == "" {
			t.Errorf("Find(%s) shows %+v", run, f)
		}
		at := slices.IndexFunc(machines, func(m cluster.Machine) bool { return m.Name == f.Name })
		switch {
		case len(machines) == 0:
			t.Errorf("Find(%s) shows %s, though all is said to be gone", run, f)
		case f.Kind != "machine":
		case at < 0:
			t.Errorf("Find(%s) shows machine %s", run, f)
		default:
			testFound(t, f, machines[at], extends)
		}
	}
	for _, m := range machines {
		is := func(f provision.Found) bool { return f.Kind == "machine" && f.Name == m.Name }
		if !slices.ContainsFunc(found, is) {
			t.Errorf("Find(%s) does not show machine %s", run, m.Name)
		}
	}
	// A search for every run shows it too, one for another run does not.
	all, err := sweeper.Find(ctx, "")
	if err != nil {
		t.Errorf("Find: %v", err)
	}
	for _, f := range found {
		if !slices.ContainsFunc(all, func(g provision.Found) bool { return g.Kind == f.Kind && g.ID == f.ID && g.Region == f.Region }) {
			t.Errorf("Find of every run does not show %s", f)
		}
	}
	if others, err := sweeper.Find(ctx, run+"x"); err != nil || len(others) > 0 {
		t.Errorf("Find of another run: %v, %v", others, err)
	}
}

// testFound checks what is said of a machine that was found. A cloud whose tags
// say when machines expire must say it; what others say must not be wrong.
func testFound(t *testing.T, f provision.Found, m cluster.Machine, extends bool) {
	t.Helper()
	if f.Component != m.Component && (f.Component != "" || extends) {
		t.Errorf("%s is of component %q, want %q", f, f.Component, m.Component)
	}
	if f.Region != m.Region || m.CloudID != "" && f.ID != m.CloudID || f.Type != "" && f.Type != m.Type || f.Spot != m.Spot {
		t.Errorf("%+v is not the machine %+v", f, m)
	}
	if (f.PricePerHour > 0) != (m.PricePerHour > 0) {
		t.Errorf("%s costs $%g an hour, its row says $%g", f, f.PricePerHour, m.PricePerHour)
	}
	if off := f.ExpiresAt.Sub(m.ExpiresAt).Abs(); (extends || !f.ExpiresAt.IsZero()) && off > time.Second {
		t.Errorf("%s expires at %v, its row says %v", f, f.ExpiresAt, m.ExpiresAt)
	}
}

// testExtend moves the time at which a machine expires, and moves it back.
func testExtend(ctx context.Context, t *testing.T, cloud provision.Cloud, m cluster.Machine) {
	t.Helper()
	extender, ok := cloud.(provision.Extender)
	if !ok {
		return
	}
	sweeper, ok := cloud.(provision.Sweeper)
	if !ok {
		return
	}
	for _, until := range []time.Time{m.ExpiresAt.Add(3 * time.Hour), m.ExpiresAt} {
		err := extender.Extend(ctx, m, until)
		if errors.Is(err, provision.ErrExpiryFixed) {
			until = m.ExpiresAt // and the tags must not claim anything else
		} else if err != nil {
			t.Errorf("Extend(%s): %v", m.Name, err)
		}
		found, err := sweeper.Find(ctx, m.Run)
		if err != nil {
			t.Errorf("Find(%s): %v", m.Run, err)
		}
		for _, f := range found {
			if f.Name == m.Name && f.Kind == "machine" && f.ExpiresAt.Sub(until).Abs() > time.Second {
				t.Errorf("%s expires at %v, it was extended to %v", f, f.ExpiresAt, until)
			}
		}
	}
}

// testStopOfInterrupted ends a machine of which only the name is known, as after
// a create that was interrupted.
func testStopOfInterrupted(t *testing.T, cfg Config) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	_, journal := newStore()
	cloud := open(t, cfg, journal)
	stopper, ok := cloud.(provision.Stopper)
	if !ok {
		t.Skip("no fast path")
	}
	b := newBench(t, cfg, "cloudtest-cut123", journal, cloud)
	machines := b.create(ctx, t, 1, cloud)
	known := machines[0]
	bare := cluster.Machine{
		Name: known.Name, Run: known.Run, Component: known.Component, Group: known.Group, State: cluster.MachineStopping,
		Cloud: known.Cloud, Region: known.Region, Zone: known.Zone, Type: known.Type, CreatingAt: known.CreatingAt,
	}
	for range 2 {
		if err := stopper.Stop(ctx, bare); err != nil {
			t.Errorf("Stop by name: %v", err)
		}
	}
	if _, claims := cloud.(provision.Claimer); !claims && cfg.Alive != nil && cfg.Alive(known) {
		t.Errorf("machine %s was stopped by its name and is there", known.Name)
	}
	testStatus(ctx, t, cloud, machines, provision.StatusGone)
	b.finish(ctx, t, machines)
}

// testSweep removes one run by its tags while another is at work. Terraform must
// take what is gone for gone.
func testSweep(t *testing.T, cfg Config) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	_, journal := newStore()
	cloud := open(t, cfg, journal)
	sweeper, ok := cloud.(provision.Sweeper)
	if !ok {
		t.Skip("cannot be searched")
	}
	swept := newBench(t, cfg, "cloudtest-swept1", journal, cloud)
	stays := newBench(t, cfg, "cloudtest-stays1", journal, cloud)
	ours, theirs := swept.create(ctx, t, 2, cloud), stays.create(ctx, t, 1, cloud)

	found, err := sweeper.Find(ctx, swept.run)
	if err != nil {
		t.Fatalf("Find: %v", err)
	}
	for range 2 { // what is gone already counts as removed
		if err := sweeper.Remove(ctx, found); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}
	if again, err := sweeper.Find(ctx, swept.run); err != nil || len(again) > 0 {
		t.Errorf("Find after Remove: %v, %v", again, err)
	}
	for _, m := range ours {
		if cfg.Alive != nil && cfg.Alive(m) {
			t.Errorf("machine %s was removed and is there", m.Name)
		}
	}
	testStatus(ctx, t, cloud, ours, provision.StatusGone)
	for _, m := range theirs {
		if !stays.alive(m) {
			t.Errorf("machine %s of another run was removed", m.Name)
		}
	}
	testFind(ctx, t, cloud, theirs)
	swept.finish(ctx, t, ours)
	for _, m := range theirs {
		if !stays.alive(m) {
			t.Errorf("machine %s of another run went with the end of this one", m.Name)
		}
	}
	stays.finish(ctx, t, theirs)
}
