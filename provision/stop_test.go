package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
)

func TestStopIsFastThenTidy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.onStop = func(context.Context, cluster.Machine) error {
			time.Sleep(time.Second)
			return nil
		}
		b.world.onDestroy = func(context.Context, string) error {
			time.Sleep(time.Hour)
			return nil
		}
		m := b.mustCreate(1, "a", fastSmall)[0]
		b.Stop(m.Name, "finished")
		if s := b.machine(m.Name).State; s != cluster.MachineStopping {
			t.Errorf("when Stop returns the machine is %s", s)
		}
		synctest.Wait()
		if got := b.world.asked("stop"); len(got) != 1 {
			t.Errorf("fast paths asked: %v, want one at once", got)
		}
		time.Sleep(2 * time.Second)
		if s := b.machine(m.Name).State; s != cluster.MachineGone {
			t.Errorf("when the fast path has ended it, the machine is %s", s)
		}
		if s := b.groups()[0].State; s != cluster.GroupDestroying {
			t.Errorf("the group is %s", s)
		}
		b.finish()
	})
}

// While Terraform works on a group, its machines are stopped all the same.
func TestStopWaitsForNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		machines := b.mustCreate(3, "a", fastSmall)
		hold := make(chan struct{})
		b.world.onStop = func(_ context.Context, m cluster.Machine) error {
			if m.Name == machines[0].Name {
				return errors.New("the API is down") // so that Terraform takes it out
			}
			return nil
		}
		b.world.onApply = func(context.Context, terraform.Root) applied {
			<-hold
			return applied{}
		}
		b.Stop(machines[0].Name, "finished")
		synctest.Wait()
		if got := b.world.asked("apply"); len(got) != 2 {
			t.Fatalf("applies are %v, want a second one", got)
		}
		b.Stop(machines[1].Name, "finished")
		synctest.Wait()
		if s := b.machine(machines[1].Name).State; s != cluster.MachineGone {
			t.Errorf("the machine is %s", s)
		}
		close(hold)
		b.finish()
		if !slices.ContainsFunc(b.events, func(e cluster.Event) bool {
			return e.Type == cluster.EventWarning && e.Machine == machines[0].Name && strings.Contains(e.Error, "the API is down")
		}) {
			t.Error("nothing warns that the fast path failed")
		}
	})
}

func TestStopWithoutFastPath(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		machines := b.mustCreate(3, "a", slowSmall)
		b.Stop(machines[1].Name, "finished")
		synctest.Wait()
		for i, want := range []cluster.MachineState{cluster.MachineReady, cluster.MachineGone, cluster.MachineReady} {
			if got := b.machine(machines[i].Name).State; got != want {
				t.Errorf("machine %d is %s, want %s", i+1, got, want)
			}
		}
		if s := b.groups()[0].State; s != cluster.GroupApplied {
			t.Errorf("the group is %s", s)
		}
		b.finish()
	})
}

func TestStopTwiceIsOneStop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		m := b.mustCreate(1, "a", fastSmall)[0]
		for range 3 {
			b.Stop(m.Name, "finished")
		}
		b.Stop("nobody", "finished")
		b.finish()
		b.Stop(m.Name, "finished")
		if got := b.world.asked("stop"); len(got) != 1 {
			t.Errorf("the fast path was asked %d times", len(got))
		}
		b.nothingLeft()
	})
}

func TestStopWhileCreating(t *testing.T) {
	for _, o := range []Offer{slowSmall, fastSmall, vmSmall} {
		for _, others := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s with %d others", o.Cloud, others), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					b := newBench(t, nil)
					b.world.onApply = func(ctx context.Context, _ terraform.Root) applied {
						select {
						case <-ctx.Done():
							return applied{err: ctx.Err(), half: true}
						case <-time.After(time.Minute):
							return applied{}
						}
					}
					for i := range others {
						go b.Create(t.Context(), ask("other", i+1, o))
					}
					result := make(chan error, 1)
					go func() {
						_, err := b.Create(t.Context(), ask("a", 1, o))
						result <- err
					}()
					time.Sleep(time.Second)
					b.Stop("app-abc123-a-1", "no longer wanted")
					err := <-result
					if cluster.KindOf(err) != cluster.Interrupted || !strings.Contains(err.Error(), "no longer wanted") {
						t.Errorf("Create gave %v", err)
					}
					if o.Cloud != "slow" && others > 0 && len(b.world.asked("stop")) > 0 {
						t.Error("the fast path was asked while Terraform was creating the machine")
					}
					time.Sleep(time.Hour)
					m := b.machine("app-abc123-a-1")
					if m.State != cluster.MachineGone {
						t.Errorf("the machine is %s", m.State)
					}
					if took := m.GoneAt.Sub(m.StopRequestedAt); others == 0 && took > time.Second {
						t.Errorf("Terraform went on for %v for a machine that nobody wants", took)
					}
					if got := len(b.world.asked("apply")); o.Cloud != "slow" && got != 1 {
						t.Errorf("%d applies, where the fast path ends the machine", got)
					}
					if got := len(b.world.asked("stop")); o.Cloud != "slow" && got != 1 {
						t.Errorf("the fast path was asked %d times", got)
					}
					b.finish()
				})
			})
		}
	}
}

// StopAll ends requests at whatever step they are.
func TestStopAllAtEachStep(t *testing.T) {
	for _, after := range []time.Duration{0, 500 * time.Millisecond, 30 * time.Second, 61 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t, func(c *Config) { c.Window = time.Second })
				b.world.onApply = func(ctx context.Context, _ terraform.Root) applied {
					select {
					case <-ctx.Done():
						return applied{err: ctx.Err(), half: true}
					case <-time.After(time.Minute):
						return applied{}
					}
				}
				results := make(chan error)
				const n = 6
				for i := range n {
					go func() {
						_, err := b.Create(t.Context(), ask("a", i+1, []Offer{slowSmall, fastSmall}[i%2]))
						results <- err
					}()
				}
				time.Sleep(after)
				b.StopAll("interrupted")
				for range n {
					err := <-results
					if after < time.Minute && cluster.KindOf(err) != cluster.Interrupted {
						t.Errorf("Create gave %v", err)
					}
				}
				b.finish()
			})
		})
	}
}

func TestDestroyIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, func(c *Config) { c.Backoff = time.Minute })
		tries := 0
		b.world.onDestroy = func(context.Context, string) error {
			if tries++; tries < 3 {
				return errors.New("the cloud is busy")
			}
			return nil
		}
		b.mustCreate(2, "a", slowSmall)
		start := time.Now()
		b.finish()
		if waited := time.Since(start); waited != 3*time.Minute {
			t.Errorf("it took %v, want waits of 1 and 2 minutes", waited)
		}
		warnings := 0
		for _, e := range b.events {
			if e.Type == cluster.EventWarning {
				warnings++
			}
		}
		if warnings != 2 {
			t.Errorf("%d warnings, want one for each failed try", warnings)
		}
		if g := b.groups()[0]; g.Error != "" {
			t.Errorf("a group that is destroyed says %q", g.Error)
		}
	})
}

func TestDestroyFailsForGood(t *testing.T) {
	for _, o := range []Offer{slowSmall, fastSmall, vmSmall} {
		t.Run(o.Cloud, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t, nil)
				b.world.onDestroy = func(context.Context, string) error { return errors.New("access denied by the cloud") }
				machines := b.mustCreate(2, "a", o)
				b.StopAll("finished")
				left, err := b.Wait(t.Context())
				if cluster.KindOf(err) != cluster.Unclean || !strings.Contains(err.Error(), "access denied by the cloud") {
					t.Errorf("Wait says %v", err)
				}
				if !strings.Contains(err.Error(), "levin down "+testRun) || !strings.Contains(err.Error(), b.groups()[0].Dir) {
					t.Errorf("Wait does not say what to do: %v", err)
				}
				if o.Cloud != "slow" {
					if len(left) != 0 {
						t.Errorf("machines that the fast path ended are left: %v", left)
					}
				} else {
					if len(left) != len(machines) {
						t.Errorf("left are %v, want both", left)
					}
					for _, m := range left {
						if m.State != cluster.MachineStopping || b.machine(m.Name).Error == "" {
							t.Errorf("%s is %s with error %q", m.Name, m.State, b.machine(m.Name).Error)
						}
					}
				}
				if got := len(b.world.asked("destroy")); got != 3 {
					t.Errorf("destroy was tried %d times", got)
				}
			})
		})
	}
}

// A machine that Terraform cannot take out of its group goes with the group.
func TestShrinkFailsForGood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		machines := b.mustCreate(2, "a", slowSmall)
		b.world.onApply = func(context.Context, terraform.Root) applied {
			return applied{err: errors.New("the provider crashed")}
		}
		b.Stop(machines[0].Name, "finished")
		time.Sleep(time.Hour)
		if s := b.machine(machines[0].Name).State; s != cluster.MachineStopping {
			t.Errorf("the machine is %s", s)
		}
		if got := len(b.world.asked("apply")); got != 4 {
			t.Errorf("%d applies, want the first and 3 tries", got)
		}
		if s := b.machine(machines[1].Name).State; s != cluster.MachineReady {
			t.Errorf("the other machine is %s", s)
		}
		b.finish()
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.onDestroy = func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}
		machines := b.mustCreate(2, "a", slowSmall)
		b.StopAll("finished")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		left, err := b.Wait(ctx)
		if len(left) != len(machines) || cluster.KindOf(err) != cluster.Unclean {
			t.Errorf("Wait gave %v and %v", left, err)
		}
		// Close interrupts Terraform; the rows stay for whoever recovers the run.
		b.Close()
		if s := b.groups()[0].State; s != cluster.GroupDestroying {
			t.Errorf("the group is %s", s)
		}
	})
}

// A store that fails keeps nothing alive, and Wait says that it failed.
func TestStoreFailsWhileCleaningUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.mustCreate(2, "a", fastSmall)
		b.store.Close()
		b.StopAll("finished")
		_, err := b.Wait(t.Context())
		if cluster.KindOf(err) != cluster.Unclean || !strings.Contains(err.Error(), "the store") {
			t.Errorf("Wait says %v", err)
		}
		if len(b.world.alive) > 0 {
			t.Errorf("%v are alive", b.world.alive)
		}
	})
}

func TestStoreFailsBeforeCreating(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.store.Close()
		if _, errs := b.create(2, "a", fastSmall); errs[0] == nil || errs[1] == nil {
			t.Errorf("Create without a store gave %v", errs)
		}
		if len(b.world.calls) > 0 {
			t.Errorf("without intent there was effect: %v", b.world.calls)
		}
		b.StopAll("finished")
		if left, err := b.Wait(t.Context()); err != nil || len(left) > 0 {
			t.Errorf("Wait gave %v and %v", left, err)
		}
	})
}
