package provision

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
)

// recoverBench closes the bench's Provisioner, as a crash would end it, and puts one
// from the store in its place.
func (b *bench) recoverBench() {
	b.t.Helper()
	b.Close()
	p, err := Recover(b.t.Context(), b.config(nil))
	if err != nil {
		b.t.Fatal(err)
	}
	b.use(p)
}

// hang keeps a script from returning before it is interrupted; what Terraform
// had created by then is in its state.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// A controller dies at each step of a machine's life; another cleans up.
func TestRecoverAtEachStep(t *testing.T) {
	steps := map[string]func(b *bench, o Offer){
		"nothing": func(b *bench, o Offer) {},
		"window": func(b *bench, o Offer) {
			go b.Create(b.t.Context(), ask("a", 1, o))
			time.Sleep(time.Millisecond)
		},
		"creating": func(b *bench, o Offer) {
			b.world.onApply = func(ctx context.Context, _ terraform.Root) applied { return applied{err: hang(ctx), half: true} }
			go b.Create(b.t.Context(), ask("a", 1, o))
			time.Sleep(time.Second)
		},
		"ready": func(b *bench, o Offer) { b.mustCreate(3, "a", o) },
		"one stopping": func(b *bench, o Offer) {
			machines := b.mustCreate(3, "a", o)
			b.world.onStop = func(ctx context.Context, _ cluster.Machine) error { return hang(ctx) }
			b.world.onApply = func(ctx context.Context, _ terraform.Root) applied { return applied{err: hang(ctx), half: true} }
			b.Stop(machines[0].Name, "finished")
			time.Sleep(time.Second)
		},
		"one gone": func(b *bench, o Offer) {
			b.Stop(b.mustCreate(3, "a", o)[0].Name, "finished")
			time.Sleep(time.Second)
		},
		"destroying": func(b *bench, o Offer) {
			b.mustCreate(3, "a", o)
			b.world.onDestroy = func(ctx context.Context, _ string) error { return hang(ctx) }
			b.StopAll("finished")
			time.Sleep(time.Second)
		},
		"destroyed": func(b *bench, o Offer) {
			b.mustCreate(3, "a", o)
			b.finish()
		},
		"failed for good": func(b *bench, o Offer) {
			b.mustCreate(3, "a", o)
			b.world.onDestroy = func(context.Context, string) error { return fmt.Errorf("no") }
			b.StopAll("finished")
			b.Wait(b.t.Context())
		},
	}
	for name, crash := range steps {
		for _, o := range []Offer{slowSmall, fastSmall, vmSmall} {
			t.Run(name+" "+o.Cloud, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					b := newBench(t, nil)
					crash(b, o)
					b.Close()
					before := len(b.world.calls)
					b.world.onApply, b.world.onStop, b.world.onDestroy = nil, nil, nil
					b.recoverBench()
					time.Sleep(time.Minute)
					if len(b.world.calls) != before {
						t.Errorf("Recover alone did %v", b.world.calls[before:])
					}
					b.finish()
				})
			})
		}
	}
}

// Rows in each state that the store can hold, also those that a crash between
// two commits leaves, are cleaned up.
func TestRecoverFromRows(t *testing.T) {
	type state struct {
		group   cluster.GroupState
		machine cluster.MachineState
	}
	for _, s := range []state{
		{cluster.GroupPlanned, cluster.MachineRequested},
		{cluster.GroupPlanned, cluster.MachineStopping},
		{cluster.GroupApplying, cluster.MachineCreating},
		{cluster.GroupApplying, cluster.MachineReady},
		{cluster.GroupApplying, cluster.MachineStopping},
		{cluster.GroupApplied, cluster.MachineReady},
		{cluster.GroupApplied, cluster.MachineStopping},
		{cluster.GroupApplied, cluster.MachineGone},
		{cluster.GroupDestroying, cluster.MachineStopping},
		{cluster.GroupDestroying, cluster.MachineGone},
		{cluster.GroupDestroyed, cluster.MachineGone},
	} {
		for _, cloud := range []string{"slow", "fast", "vm"} {
			t.Run(fmt.Sprintf("%s %s %s", s.group, s.machine, cloud), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					b := newBench(t, nil)
					b.rows(cloud, s.group, s.machine)
					b.recoverBench()
					b.StopAll("cleaning up")
					left, err := b.Wait(t.Context())
					if err != nil || len(left) > 0 {
						t.Errorf("Wait gave %v and %v", left, err)
					}
					if m := b.machine("app-abc123-a-1"); m.State != cluster.MachineGone {
						t.Errorf("the machine is %s", m.State)
					}
					if g := b.groups()[0]; g.State != cluster.GroupDestroyed {
						t.Errorf("the group is %s", g.State)
					}
					if len(b.world.alive) > 0 {
						t.Errorf("alive are %v", b.world.alive)
					}
				})
			})
		}
	}
}

// rows writes a group and a machine and walks them to their states. What must
// exist by then is in the world, and beside it something that the store does not
// know.
func (b *bench) rows(cloud string, group cluster.GroupState, machine cluster.MachineState) {
	b.t.Helper()
	commit := func(c cluster.Change) {
		b.t.Helper()
		if err := b.journal.Commit(b.t.Context(), c); err != nil {
			b.t.Fatal(err)
		}
	}
	dir := b.dir + "/groups/app-abc123-g1"
	g := cluster.Group{ID: "app-abc123-g1", Run: testRun, Cloud: cloud, Dir: dir, State: cluster.GroupPlanned}
	m := cluster.Machine{Name: "app-abc123-a-1", Run: testRun, Component: "a", Cloud: cloud, State: cluster.MachineRequested}
	commit(cluster.Change{Groups: []cluster.Group{g}, Machines: []cluster.Machine{m}})
	if group != cluster.GroupPlanned {
		b.world.writeRoot(dir, terraform.Root{Group: g.ID})
		b.world.state[dir] = map[string]bool{m.Name: true, "unknown": true}
		b.world.alive[m.Name], b.world.alive["unknown"] = true, true
	}
	if machine == cluster.MachineGone {
		delete(b.world.alive, m.Name)
	}
	if group == cluster.GroupDestroyed {
		b.world.state, b.world.alive = map[string]map[string]bool{}, map[string]bool{}
	}
	path := []cluster.GroupState{cluster.GroupApplying, cluster.GroupApplied, cluster.GroupDestroying, cluster.GroupDestroyed}
	for _, next := range path {
		if g.State == group {
			break
		}
		g.State = next
		commit(cluster.Change{Groups: []cluster.Group{g}})
	}
	moves := []cluster.MachineState{cluster.MachineCreating, cluster.MachineReady, cluster.MachineStopping, cluster.MachineGone}
	if group == cluster.GroupPlanned {
		moves = moves[2:]
	}
	for _, next := range moves {
		if m.State == machine {
			break
		}
		m.State = next
		if next == cluster.MachineCreating {
			m.Group, m.CreatingAt = g.ID, time.Now()
		}
		commit(cluster.Change{Machines: []cluster.Machine{m}})
	}
}

// With its folder a group loses the state. What the cloud itself can confirm is
// gone; for the rest Wait speaks up.
func TestRecoverWithoutFolder(t *testing.T) {
	for _, cloud := range []string{"slow", "fast", "vm"} {
		t.Run(cloud, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t, nil)
				b.mustCreate(2, "a", offer(cloud, "small", 1))
				b.recoverBench()
				if err := os.RemoveAll(b.groups()[0].Dir); err != nil {
					t.Fatal(err)
				}
				b.StopAll("cleaning up")
				left, err := b.Wait(t.Context())
				if cloud != "slow" {
					if err != nil || len(left) > 0 || len(b.world.alive) > 0 {
						t.Errorf("Wait gave %v and %v; alive are %v", left, err, b.world.alive)
					}
					return
				}
				if len(left) != 2 || cluster.KindOf(err) != cluster.Unclean || !strings.Contains(err.Error(), "state in it are gone") {
					t.Errorf("Wait gave %v and %v", left, err)
				}
			})
		})
	}
}

func TestRecoverWithoutItsCloud(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.mustCreate(1, "a", slowSmall)
		b.Close()
		p, err := Recover(t.Context(), b.config(func(c *Config) { c.Clouds = c.Clouds[1:] }))
		if err != nil {
			t.Fatal(err)
		}
		b.use(p)
		b.StopAll("cleaning up")
		left, err := b.Wait(t.Context())
		if len(left) != 1 || !strings.Contains(fmt.Sprint(err), `cloud "slow"`) {
			t.Errorf("Wait gave %v and %v", left, err)
		}
		// With the cloud back it works.
		b.recoverBench()
		b.finish()
	})
}

// Names and groups of a recovered run go on where they were.
func TestRecoveredRunGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.mustCreate(2, "a", fastSmall)
		b.recoverBench()
		m := b.mustCreate(1, "a", fastSmall)[0]
		if m.Name != "app-abc123-a-1-r2" || m.Group != "app-abc123-g2" {
			t.Errorf("the new machine is %s in %s", m.Name, m.Group)
		}
		b.Stop("app-abc123-a-2", "finished")
		time.Sleep(time.Minute)
		if s := b.machine("app-abc123-a-2").State; s != cluster.MachineGone {
			t.Errorf("the machine that was stopped is %s", s)
		}
		if s := b.machine("app-abc123-a-1").State; s != cluster.MachineReady {
			t.Errorf("the other machine is %s", s)
		}
		b.finish()
	})
}
