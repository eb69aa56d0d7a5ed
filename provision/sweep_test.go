package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/terraform"
)

// strangers puts things of another run and of nobody into the cloud.
func (b *bench) strangers() {
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	for _, f := range []Found{
		{Cloud: "vm", Kind: "machine", ID: "i-other", Name: "app-other1-a-1", Run: "app-other1", Status: StatusRunning},
		{Cloud: "vm", Kind: "machine", ID: "i-nobody", Name: "nobody", Status: StatusRunning},
	} {
		b.world.made[f.Name], b.world.alive[f.Name] = f, true
	}
}

// strangersStay checks that they are as they were, and takes them out.
func (b *bench) strangersStay() {
	b.t.Helper()
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	for _, name := range []string{"app-other1-a-1", "nobody"} {
		if !b.world.alive[name] {
			b.t.Errorf("%s was removed", name)
		}
		delete(b.world.alive, name)
	}
}

func (b *bench) warnings(about string) []cluster.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []cluster.Event
	for _, e := range b.events {
		if e.Type == cluster.EventWarning && strings.Contains(e.Message+e.Error, about) {
			all = append(all, e)
		}
	}
	return all
}

// What Terraform's state has lost, the sweep finds by tag; with one search for
// the run, however many machines it has.
func TestSweep(t *testing.T) {
	for _, recovered := range []bool{false, true} {
		t.Run(fmt.Sprint("recovered ", recovered), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t, nil)
				b.strangers()
				b.mustCreate(300, "a", vmSmall)
				b.world.mu.Lock()
				for dir := range b.world.state { // so that no destroy removes anything
					b.world.state[dir] = nil
				}
				stray := Found{Cloud: "vm", Kind: "machine", ID: "i-stray", Name: testRun + "-b-1", Run: testRun, Status: StatusRunning}
				b.world.made[stray.Name], b.world.alive[stray.Name] = stray, true
				b.world.extra["disk-1"] = Found{Cloud: "vm", Kind: "disk", ID: "disk-1", Run: testRun}
				b.world.mu.Unlock()
				b.world.onStop = func(context.Context, cluster.Machine) error { return errors.New("the API is down") }
				if recovered {
					b.recoverBench()
				}
				b.StopAll("finished")
				if left, err := b.Wait(t.Context()); err != nil || len(left) > 0 {
					t.Errorf("Wait gave %v and %v", left, err)
				}
				b.strangersStay()
				b.nothingLeft()
				if got := b.world.asked("find"); !slices.Equal(got, []string{"find vm " + testRun}) {
					t.Errorf("searches were %v, want one", got)
				}
				if got := len(b.world.asked("remove")); got != 302 {
					t.Errorf("%d things were removed, want 302", got)
				}
				if got := b.warnings("still has what"); len(got) != 1 || !strings.Contains(got[0].Message, "disk-1") && !strings.Contains(got[0].Message, "more") {
					t.Errorf("warnings are %+v", got)
				}
			})
		})
	}
}

// A cloud in which nothing was ever asked for is not searched, nor one that other
// machines of the run are not in.
func TestSweepOnlyWhereMachinesWere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.mustCreate(1, "a", fastSmall)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := b.Create(ctx, ask("b", 1, vmSmall)); err == nil {
			t.Error("a machine was created within its window")
		}
		b.finish()
		if got := b.world.asked("find"); len(got) > 0 {
			t.Errorf("searched: %v", got)
		}
	})
}

// A machine that is created and lost from the state, as when Terraform's provider
// dies, goes by its name or by the sweep.
func TestLostFromTheState(t *testing.T) {
	for _, step := range []string{"the fast path finds it", "the fast path fails", "Ctrl-C", "the controller dies"} {
		t.Run(step, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t, nil)
				if step == "the fast path fails" {
					b.world.onStop = func(context.Context, cluster.Machine) error { return errors.New("the API is down") }
				}
				b.world.onApply = func(ctx context.Context, root terraform.Root) applied {
					if step == "Ctrl-C" || step == "the controller dies" {
						return applied{err: hang(ctx), lost: true}
					}
					return applied{err: errors.New("plugin did not respond"), lost: true}
				}
				result := make(chan error, 1)
				go func() {
					_, err := b.Create(t.Context(), ask("a", 1, vmSmall))
					result <- err
				}()
				time.Sleep(time.Second)
				if step == "the controller dies" {
					b.recoverBench()
				} else {
					b.StopAll("interrupted")
				}
				if err := <-result; err == nil {
					t.Error("Create succeeded")
				}
				b.finish()
			})
		})
	}
}

// Where the state is all that knows of a machine that may have been lost, a search
// that fails is said; else it is only a warning.
func TestSearchFails(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprint("cut ", cut), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t, nil)
				b.world.onFind = func(context.Context, string) error { return errors.New("us-east-1 does not answer") }
				b.mustCreate(1, "a", vmSmall)
				if cut {
					b.world.onApply = func(context.Context, terraform.Root) applied {
						return applied{err: errors.New("plugin did not respond")}
					}
					if _, err := b.Create(t.Context(), ask("b", 1, vmSmall)); err == nil {
						t.Error("Create succeeded")
					}
				}
				b.StopAll("finished")
				left, err := b.Wait(t.Context())
				if len(left) > 0 || cut != (cluster.KindOf(err) == cluster.Unclean) || cut != strings.Contains(fmt.Sprint(err), "us-east-1 does not answer") {
					t.Errorf("Wait gave %v and %v", left, err)
				}
				if got := b.warnings("does not answer"); !cut && len(got) != 1 {
					t.Errorf("%d warnings", len(got))
				}
				// Asked again, it looks again.
				b.world.onFind = nil
				b.finish()
			})
		})
	}
}

// A machine that a search does not show and that the cloud knows all the same is
// not called gone.
func TestNotWhereItIsSearched(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.mustCreate(2, "a", vmSmall)
		b.world.onStop = func(context.Context, cluster.Machine) error { return errors.New("no") }
		b.world.onDestroy = func(context.Context, string) error { return errors.New("no") }
		b.world.mu.Lock()
		hidden := b.world.made[testRun+"-a-1"]
		hidden.Cloud = "a region that is not searched"
		b.world.made[hidden.Name] = hidden
		delete(b.world.alive, testRun+"-a-2")
		b.world.mu.Unlock()
		b.StopAll("finished")
		left, err := b.Wait(t.Context())
		if len(left) != 1 || left[0].Name != hidden.Name || cluster.KindOf(err) != cluster.Unclean {
			t.Errorf("Wait gave %v and %v", left, err)
		}
		b.world.onStop, b.world.onDestroy = nil, nil
		b.recoverBench()
		b.finish()
	})
}

// What cannot be removed is named, counted as left, and not called gone.
func TestRemovalFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.mustCreate(2, "a", vmSmall)
		b.world.mu.Lock()
		stray := Found{Cloud: "vm", Kind: "machine", ID: "i-stray", Name: testRun + "-b-1", Run: testRun, Type: "small"}
		b.world.made[stray.Name], b.world.alive[stray.Name] = stray, true
		b.world.mu.Unlock()
		b.world.onStop = func(context.Context, cluster.Machine) error { return errors.New("no") }
		b.world.onDestroy = func(context.Context, string) error { return errors.New("no") }
		b.world.onRemove = func(_ context.Context, found []Found) error {
			b.world.mu.Lock()
			defer b.world.mu.Unlock()
			delete(b.world.alive, testRun+"-a-1")
			return errors.New("you may not")
		}
		b.StopAll("finished")
		left, err := b.Wait(t.Context())
		var names []string
		for _, m := range left {
			names = append(names, m.Name)
		}
		if want := []string{testRun + "-a-2", stray.Name}; !slices.Equal(names, want) {
			t.Errorf("left are %v, want %v", names, want)
		}
		if cluster.KindOf(err) != cluster.Unclean || !strings.Contains(err.Error(), "you may not") || !strings.Contains(err.Error(), "i-stray") {
			t.Errorf("the error is %v", err)
		}
		if s := b.machine(testRun + "-a-1").State; s != cluster.MachineGone {
			t.Errorf("the one that went nevertheless is %s", s)
		}
		b.world.onStop, b.world.onDestroy, b.world.onRemove = nil, nil, nil
		b.recoverBench()
		b.finish()
	})
}

// The cloud has ended a machine itself. Stopping it is quick, and nothing fails.
func TestPreempted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		machines := b.mustCreate(3, "a", placed(vmSmall, "east", "east-a", "spot"))
		b.world.mu.Lock()
		delete(b.world.alive, machines[0].Name)
		b.world.mu.Unlock()
		status, words, err := b.Status(t.Context(), machines[0].Name)
		if status != StatusGone || words == "" || err != nil {
			t.Errorf("status is %s, %q, %v", status, words, err)
		}
		start := time.Now()
		b.Stop(machines[0].Name, "taken back")
		time.Sleep(time.Millisecond)
		if m := b.machine(machines[0].Name); m.State != cluster.MachineGone || m.GoneAt.Sub(start) > time.Millisecond {
			t.Errorf("the machine is %s", m.State)
		}
		for _, m := range machines[1:] {
			if s, _, _ := b.Status(t.Context(), m.Name); s != StatusRunning {
				t.Errorf("another machine is %s", s)
			}
		}
		b.finish()
		if _, _, err := b.Status(t.Context(), "nobody"); err == nil {
			t.Error("a machine that is not there has a status")
		}
	})
}

func TestStatusOfACloudThatCannotSay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		m := b.mustCreate(1, "a", fastSmall)[0]
		if s, words, err := b.Status(t.Context(), m.Name); s != StatusUnknown || words != "" || err != nil {
			t.Errorf("status is %q, %q, %v", s, words, err)
		}
		b.finish()
	})
}

// Everything that is found is judged by the run it belongs to and by the clock.
func TestFindAll(t *testing.T) {
	store := memory.New()
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	past, future := now.Add(-time.Hour), now.Add(time.Hour)
	run := func(id string, kept bool, states ...cluster.RunState) {
		r := cluster.Run{ID: id, App: "app", State: cluster.RunPending, CreatedAt: now, Kept: kept}
		for _, s := range append([]cluster.RunState{cluster.RunPending}, states...) {
			r.State = s
			if err := store.Commit(t.Context(), cluster.Change{Run: &r}); err != nil {
				t.Fatal(err)
			}
		}
	}
	run("app-live01", false)
	run("app-dead01", false)
	run("app-over01", false, cluster.RunStopping, cluster.RunSucceeded)
	run("app-kept01", true, cluster.RunStopping, cluster.RunSucceeded)

	w := newWorld()
	cloud := vm{quick{&scripted{name: "vm", world: w}}}
	want := map[string]bool{} // by id: is it to be removed?
	put := func(id, run string, expires time.Time, remove bool) {
		f := Found{Cloud: "vm", Kind: "machine", ID: id, Name: id, Run: run, ExpiresAt: expires}
		w.made[id], w.alive[id], want[id] = f, true, remove
	}
	put("live", "app-live01", future, false)
	put("live-late", "app-live01", past, false) // its controller is about to move that
	put("dead", "app-dead01", future, true)
	put("over", "app-over01", future, true)
	put("over-forever", "app-over01", time.Time{}, true)
	put("kept", "app-kept01", future, false)
	put("kept-late", "app-kept01", past, true)
	put("other", "app-other1", future, false)
	put("other-forever", "app-other1", time.Time{}, false)
	put("other-late", "app-other1", past, true)
	put("other-just", "app-other1", now.Add(-time.Second), false) // clocks differ
	put("nobody", "", time.Time{}, false)
	put("nobody-late", "", past, true)
	put("app-over01-a-1", "", time.Time{}, true) // says by its name whose it was
	w.extra["key"] = Found{Cloud: "vm", Kind: "key", ID: "key", Run: "app-over01"}
	want["key"] = true

	clouds := []Cloud{cloud, &scripted{name: "plain", world: w}}
	live := func(run string) bool { return run == "app-live01" }
	all, err := FindAll(t.Context(), clouds, store, now, live)
	if err != nil {
		t.Fatal(err)
	}
	var remove []Found
	for _, j := range all {
		if j.Remove != want[j.ID] || j.Reason == "" {
			t.Errorf("%s: remove %v, because: %s", j.ID, j.Remove, j.Reason)
		}
		if j.Remove {
			remove = append(remove, j.Found)
		}
	}
	if len(all) != len(want) {
		t.Errorf("%d things are judged, want %d", len(all), len(want))
	}
	if err := RemoveFound(t.Context(), clouds, remove); err != nil {
		t.Fatal(err)
	}
	again, err := FindAll(t.Context(), clouds, store, now, live)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range again {
		if j.Remove {
			t.Errorf("%s is still there", j.ID)
		}
	}
	if len(again) != len(all)-len(remove) {
		t.Errorf("%d things are left, want %d", len(again), len(all)-len(remove))
	}

	// One cloud that does not answer hides nothing of the others.
	w.onFind = func(_ context.Context, cloud string) error {
		if cloud == "down" {
			return errors.New("no route")
		}
		return nil
	}
	clouds = append(clouds, vm{quick{&scripted{name: "down", world: w}}})
	all, err = FindAll(t.Context(), clouds, store, now, live)
	if err == nil || !strings.Contains(err.Error(), "down") || len(all) != len(again) {
		t.Errorf("%d things, error %v", len(all), err)
	}
	if err := RemoveFound(t.Context(), clouds, []Found{{Cloud: "plain", ID: "x"}}); err == nil {
		t.Error("a cloud that cannot remove single things did")
	}
}

// A machine that Terraform says could not be created, and that exists nevertheless
// without being in the state, is ended by its name before it is called gone.
func TestFailedAndLost(t *testing.T) {
	for _, o := range []Offer{fastSmall, vmSmall} {
		t.Run(o.Cloud, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t, nil)
				b.world.onApply = func(_ context.Context, root terraform.Root) applied {
					how := applied{lost: true}
					if _, ok := root.Machines["app-abc123-a-2"]; ok {
						how.failing = map[string]*cluster.Failure{"app-abc123-a-2": refuse(cluster.BadRequest, "no")}
					}
					return how
				}
				if _, errs := b.create(3, "a", o); errs[0] != nil || errs[1] == nil || errs[2] != nil {
					t.Errorf("errors are %v", errs)
				}
				time.Sleep(time.Minute)
				if m := b.machine("app-abc123-a-2"); m.State != cluster.MachineGone || b.world.alive[m.Name] {
					t.Errorf("the machine is %s, alive: %v", m.State, b.world.alive[m.Name])
				}
				b.finish()
			})
		})
	}
}

// Where only the cloud can tell whether a machine came to be, and it does not
// answer, the machine is not called gone, whatever Terraform has destroyed.
func TestNotCalledGone(t *testing.T) {
	for _, others := range []int{0, 2} {
		t.Run(fmt.Sprint(others, " others"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t, nil)
				b.world.onStop = func(_ context.Context, m cluster.Machine) error {
					if m.Component == "lost" {
						return errors.New("the API is down")
					}
					return nil
				}
				b.world.onApply = func(_ context.Context, root terraform.Root) applied {
					how := applied{lost: true, failing: map[string]*cluster.Failure{}}
					if _, ok := root.Machines["app-abc123-lost-1"]; ok {
						how.failing["app-abc123-lost-1"] = refuse(cluster.BadRequest, "no")
					}
					return how
				}
				result := make(chan error, 1)
				go func() {
					_, err := b.Create(t.Context(), ask("lost", 1, fastSmall))
					result <- err
				}()
				b.mustCreate(others, "a", fastSmall)
				if err := <-result; err == nil {
					t.Error("Create succeeded")
				}
				time.Sleep(time.Hour)
				b.StopAll("finished")
				left, err := b.Wait(t.Context())
				if len(left) != 1 || left[0].Component != "lost" || cluster.KindOf(err) != cluster.Unclean {
					t.Errorf("Wait gave %v and %v", left, err)
				}
				if got := len(b.world.asked("stop app-abc123-lost")); got < attempts {
					t.Errorf("the cloud was asked %d times", got)
				}
				b.world.onStop = nil
				b.recoverBench()
				b.finish()
			})
		})
	}
}
