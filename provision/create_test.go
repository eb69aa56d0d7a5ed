package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
)

var (
	slowSmall, slowBig = offer("slow", "small", 1), offer("slow", "big", 2)
	fastSmall, fastBig = offer("fast", "small", 1), offer("fast", "big", 2)
)

// bubble runs a test on synctest's clock, where waiting costs nothing and
// everything that was started must have ended.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func TestMachineIsReadyAndGoes(t *testing.T) {
	for _, o := range []Offer{slowSmall, fastSmall, vmSmall} {
		t.Run(o.Cloud, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t, nil)
				b.world.onApply = func(context.Context, terraform.Root) applied {
					time.Sleep(time.Minute)
					return applied{}
				}
				m := b.mustCreate(1, "train", o)[0]
				if m.Name != "app-abc123-train-1" || m.Group != "app-abc123-g1" {
					t.Errorf("machine is %s in group %s", m.Name, m.Group)
				}
				if m.Address != "10.0.0.1" || m.HostKey == "" || m.CloudID == "" || m.User == "" || m.Port == 0 {
					t.Errorf("machine lacks what its outputs say: %+v", m)
				}
				time.Sleep(time.Hour - time.Minute)
				b.finish()
				if entry := cluster.NewLedger(cluster.Run{}, b.machines(), time.Now()).Entries[0]; entry.Cost < 0.99 || entry.Cost > 1.01 {
					t.Errorf("an hour at $1 cost $%g", entry.Cost)
				}
			})
		})
	}
}

// Each state is in the store before the step that it announces.
func TestIntentBeforeEffect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.onApply = func(context.Context, terraform.Root) applied {
			for _, m := range b.machines() {
				if m.State != cluster.MachineCreating || m.CreatingAt.IsZero() || m.Group == "" {
					t.Errorf("during apply: %s is %s in group %q", m.Name, m.State, m.Group)
				}
			}
			if s := b.groups()[0].State; s != cluster.GroupApplying {
				t.Errorf("during apply: the group is %s", s)
			}
			return applied{}
		}
		b.world.onStop = func(_ context.Context, m cluster.Machine) error {
			if s := b.machine(m.Name).State; s != cluster.MachineStopping {
				t.Errorf("during the fast path: %s is %s", m.Name, s)
			}
			return nil
		}
		b.world.onDestroy = func(context.Context, string) error {
			if s := b.groups()[0].State; s != cluster.GroupDestroying {
				t.Errorf("during destroy: the group is %s", s)
			}
			return nil
		}
		writeRoot := b.Provisioner.writeRoot
		b.Provisioner.writeRoot = func(dir string, root terraform.Root) error {
			if _, err := os.Stat(dir); err != nil {
				t.Errorf("the group is applying and its folder is not there: %v", err)
			}
			return writeRoot(dir, root)
		}
		b.mustCreate(3, "train", fastSmall)
		b.finish()
	})
}

func TestTarget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		m := b.mustCreate(1, "a", fastSmall)[0]
		target, err := b.Target(m)
		if err != nil || target.Address != m.Address || target.KeyFiles[0] != filepath.Join(b.dir, "key") {
			t.Errorf("target is %+v, error %v", target, err)
		}
		m.Cloud = "mars"
		if _, err := b.Target(m); cluster.KindOf(err) != cluster.BadInput {
			t.Errorf("the target on a cloud that is not there gave %v", err)
		}
		b.finish()
	})
}

func TestRequestsWithinWindowShareARoot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.mustCreate(3, "a", fastSmall)
		b.mustCreate(2, "b", fastSmall) // after the first group closed
		want := []string{
			"apply app-abc123-g1 app-abc123-a-1,app-abc123-a-2,app-abc123-a-3",
			"apply app-abc123-g2 app-abc123-b-1,app-abc123-b-2",
		}
		if got := b.world.asked("apply"); !slices.Equal(got, want) {
			t.Errorf("applies were\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		b.finish()
	})
}

func TestPlacesDoNotShareARoot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		east, west := fastSmall, fastSmall
		east.Region, west.Region = "east", "west"
		results := make(chan error)
		for i, o := range []Offer{east, west, slowSmall} {
			go func() {
				_, err := b.Create(t.Context(), ask("a", i+1, o))
				results <- err
			}()
		}
		for range 3 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if got := b.world.asked("apply"); len(got) != 3 {
			t.Errorf("applies were %v, want one for each place", got)
		}
		for dir, root := range b.world.roots {
			region := b.world.roots[dir].Extra["region"]
			for name := range root.Machines {
				if got := b.machine(name).Region; region != nil && got != region || region == nil && got != "" {
					t.Errorf("%s of region %q is in a root of region %v", name, got, region)
				}
			}
		}
		b.finish()
	})
}

func TestALaterGroupWaitsForNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.onApply = func(_ context.Context, root terraform.Root) applied {
			if strings.HasSuffix(root.Group, "-g1") {
				time.Sleep(time.Hour)
			}
			return applied{}
		}
		first := make(chan error, 1)
		go func() {
			_, err := b.Create(t.Context(), ask("a", 1, fastSmall))
			first <- err
		}()
		time.Sleep(time.Second)
		start := time.Now()
		if _, err := b.Create(t.Context(), ask("b", 1, fastSmall)); err != nil {
			t.Error(err)
		}
		if waited := time.Since(start); waited > time.Minute {
			t.Errorf("the second group waited %v for the first", waited)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
		b.finish()
	})
}

// Requests that keep coming do not keep a group open for ever.
func TestAGroupDoesNotStayOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, func(c *Config) { c.Window = 10 * time.Millisecond })
		results := make(chan error)
		const n = 100
		for i := range n {
			go func() {
				_, err := b.Create(t.Context(), ask("a", i+1, fastSmall))
				results <- err
			}()
			time.Sleep(9 * time.Millisecond)
		}
		for range n {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		// 900 ms of requests, a group stays open for 200 ms.
		if got := len(b.world.asked("apply")); got < 4 || got > 6 {
			t.Errorf("%d groups, want 5", got)
		}
		b.finish()
	})
}

func TestThousandMachines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.mustCreate(1000, "a", fastSmall)
		if b.world.most > 100 {
			t.Errorf("a group has %d machines", b.world.most)
		}
		if got := len(b.world.asked("apply")); got > 20 {
			t.Errorf("%d groups for 1000 machines", got)
		}
		b.finish()
	})
}

func TestTagsAndInput(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, func(c *Config) { c.Tags = map[string]string{"levin-owner": "ann", "team": "x"} })
		b.mustCreate(1, "train", fastSmall)
		for _, root := range b.world.roots {
			want := map[string]string{"levin-owner": "ann", "team": "x", "levin-run": testRun}
			if !maps.Equal(root.Tags, want) {
				t.Errorf("tags are %v, want %v", root.Tags, want)
			}
			if got := root.Machines["app-abc123-train-1"].Extra["component"]; got != "train" {
				t.Errorf("component is %v", got)
			}
			if root.SSHPublicKey != "ssh-ed25519 AAAA" || root.Run != testRun {
				t.Errorf("root is %+v", root)
			}
		}
		b.finish()
	})
}

// failOn fails every machine of a type.
func failOn(typ string, f *cluster.Failure) func(context.Context, terraform.Root) applied {
	return func(_ context.Context, root terraform.Root) applied {
		failing := map[string]*cluster.Failure{}
		for name, in := range root.Machines {
			if in.Type == typ {
				failing[name] = f
			}
		}
		return applied{failing: failing}
	}
}

func TestFallback(t *testing.T) {
	for _, test := range []struct {
		kind    cluster.FailureKind
		applies int  // until it is over
		ready   bool // on the next offer
	}{
		{cluster.Capacity, 2, true},
		{cluster.Quota, 2, true},
		{cluster.Price, 2, true},
		{cluster.Transient, 2 + repeats, true}, // the same offer again first
		{cluster.Throttled, 2 + repeats, true},
		{cluster.Auth, 1, false},
		{cluster.BadRequest, 1, false},
		{cluster.Provisioning, 1, false},
	} {
		t.Run(string(test.kind), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t, nil)
				b.world.onApply = failOn("small", refuse(test.kind, "the cloud's own words"))
				m, err := b.Create(t.Context(), ask("a", 1, fastSmall, slowBig))
				if got := len(b.world.asked("apply")); got != test.applies {
					t.Errorf("%d applies, want %d", got, test.applies)
				}
				if test.ready {
					if err != nil || m.Type != "big" || m.Cloud != "slow" {
						t.Errorf("got %s on %s, error %v", m.Type, m.Cloud, err)
					}
				} else if !strings.Contains(fmt.Sprint(err), "the cloud's own words") || cluster.KindOf(err) != cluster.Provisioning {
					t.Errorf("error is %v", err)
				}
				b.finish()
			})
		})
	}
}

func TestErrorNamesEveryOffer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.onApply = func(ctx context.Context, root terraform.Root) applied {
			for _, in := range root.Machines {
				return failOn(in.Type, refuse(cluster.Capacity, "no more "+in.Type))(ctx, root)
			}
			return applied{}
		}
		_, err := b.Create(t.Context(), ask("a", 1, fastSmall, slowBig))
		for _, want := range []string{"fast/small", "no more small", "slow/big", "no more big"} {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("the error does not say %q:\n%v", want, err)
			}
		}
		b.finish()
	})
}

// An offer that was out of capacity is tried last for a while.
func TestMemoryOfFailures(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.onApply = failOn("small", refuse(cluster.Capacity, "no more"))
		applies := func() int {
			before := len(b.world.asked("apply"))
			if m, errs := b.create(1, fmt.Sprint("c", before), fastSmall, fastBig); errs[0] != nil || m[0].Type != "big" {
				t.Errorf("got %+v, error %v", m[0], errs[0])
			}
			return len(b.world.asked("apply")) - before
		}
		if got := applies(); got != 2 {
			t.Errorf("the first request needed %d applies, want 2", got)
		}
		if got := applies(); got != 1 {
			t.Errorf("the second request needed %d applies, want 1", got)
		}
		time.Sleep(time.Hour)
		if got := applies(); got != 2 {
			t.Errorf("an hour later a request needed %d applies, want 2", got)
		}
		b.finish()
	})
}

// One machine's failure leaves the others of its group ready.
func TestPartialFailure(t *testing.T) {
	for _, test := range []struct {
		name    string
		outputs bool
		half    bool
	}{{"state only", false, false}, {"with outputs", true, false}, {"created and failed", false, true}} {
		for _, o := range []Offer{slowSmall, fastSmall, vmSmall} {
			t.Run(test.name+" "+o.Cloud, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					b := newBench(t, nil)
					b.world.onApply = func(_ context.Context, root terraform.Root) applied {
						failing := map[string]*cluster.Failure{}
						if _, ok := root.Machines["app-abc123-a-2"]; ok {
							failing["app-abc123-a-2"] = refuse(cluster.BadRequest, "no such image")
						}
						return applied{failing: failing, outputs: test.outputs, half: test.half}
					}
					machines, errs := b.create(3, "a", o)
					for i, err := range errs {
						if i == 1 {
							if !strings.Contains(fmt.Sprint(err), "no such image") {
								t.Errorf("the one that failed says %v", err)
							}
						} else if err != nil || machines[i].State != cluster.MachineReady {
							t.Errorf("machine %d is %s: %v", i+1, machines[i].State, err)
						}
					}
					if got := b.world.asked("destroy"); len(got) > 0 {
						t.Errorf("the group was destroyed under those that live: %v", got)
					}
					synctest.Wait()
					if s := b.machine("app-abc123-a-2").State; s != cluster.MachineGone {
						t.Errorf("the one that failed is %s", s)
					}
					b.finish()
				})
			})
		}
	}
}

// When the group cannot be saved, those that Terraform did not name are tried
// again, each in a group of its own.
func TestInnocentsAreTriedAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.onApply = func(_ context.Context, root terraform.Root) applied {
			switch {
			case len(root.Machines) == 3:
				return applied{failing: map[string]*cluster.Failure{"app-abc123-a-2": refuse(cluster.Auth, "you may not")}}
			case len(root.Machines) == 2:
				return applied{err: &cluster.Failure{Kind: cluster.BadRequest, What: "Terraform crashed"}}
			}
			return applied{}
		}
		machines, errs := b.create(3, "a", fastSmall)
		if errs[0] != nil || errs[1] == nil || errs[2] != nil {
			t.Errorf("errors are %v", errs)
		}
		if machines[0].Name != "app-abc123-a-1-r2" || machines[0].Group == machines[2].Group {
			t.Errorf("machines are %s in %s and %s in %s", machines[0].Name, machines[0].Group, machines[2].Name, machines[2].Group)
		}
		b.finish()
	})
}

// A failure that names no machine is everybody's.
func TestSharedFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.onApply = func(context.Context, terraform.Root) applied {
			return applied{err: &cluster.Failure{Kind: cluster.Auth, What: "no credentials"}}
		}
		_, errs := b.create(3, "a", fastSmall, slowSmall)
		for _, err := range errs {
			if !strings.Contains(fmt.Sprint(err), "no credentials") {
				t.Errorf("error is %v", err)
			}
		}
		if got := len(b.world.asked("apply")); got != 1 {
			t.Errorf("%d applies, want 1", got)
		}
		b.finish()
	})
}

func TestModuleThatSaysNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, func(c *Config) {
			c.Runner = silent{c.Runner}
		})
		_, errs := b.create(1, "a", fastSmall)
		if !strings.Contains(fmt.Sprint(errs[0]), "says nothing of machine") {
			t.Errorf("error is %v", errs[0])
		}
		b.finish()
	})
}

// silent is a Runner whose applies have no outputs.
type silent struct{ terraform.Runner }

func (s silent) Apply(ctx context.Context, dir string, p terraform.Providers) (terraform.Outputs, error) {
	_, err := s.Runner.Apply(ctx, dir, p)
	return nil, err
}

func TestUnknownCloud(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		_, err := b.Create(t.Context(), ask("a", 1, offer("mars", "rover", 1)))
		if cluster.KindOf(err) != cluster.BadInput || !strings.Contains(fmt.Sprint(err), "mars") {
			t.Errorf("error is %v", err)
		}
		if _, err := b.Create(t.Context(), ask("a", 1)); cluster.KindOf(err) != cluster.BadInput {
			t.Errorf("without offers the error is %v", err)
		}
		b.finish()
	})
}

// A request may be given up at any step. It is answered at once, its machine
// goes, and the others of its group stay.
func TestCancelAtEachStep(t *testing.T) {
	for _, step := range []string{"before", "window", "apply", "second apply", "ready"} {
		for _, others := range []int{0, 2} {
			for _, o := range []Offer{slowSmall, fastSmall, vmSmall} {
				t.Run(fmt.Sprintf("%s with %d others on %s", step, others, o.Cloud), func(t *testing.T) {
					bubble(t, func(t *testing.T) { testCancel(t, step, others, o) })
				})
			}
		}
	}
}

func testCancel(t *testing.T, step string, others int, o Offer) {
	b := newBench(t, func(c *Config) { c.Window = time.Second })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	applies := 0
	b.world.onApply = func(ctx context.Context, root terraform.Root) applied {
		applies++
		how := applied{}
		if step == "second apply" && applies == 1 {
			how.failing = map[string]*cluster.Failure{"app-abc123-bad-1": refuse(cluster.BadRequest, "bad")}
			return how
		}
		if step == "apply" || step == "second apply" && applies == 2 {
			cancel()
		}
		select {
		case <-ctx.Done(): // as when Terraform is interrupted: something may exist
			return applied{err: fmt.Errorf("interrupted: %w", ctx.Err()), half: true}
		case <-time.After(time.Minute):
			return how
		}
	}
	if step == "second apply" {
		go b.Create(t.Context(), ask("bad", 1, o))
	}
	other := make(chan error, others)
	for i := range others {
		go func() {
			_, err := b.Create(t.Context(), ask("other", i+1, o))
			other <- err
		}()
	}
	switch step {
	case "before":
		cancel()
	case "window":
		time.AfterFunc(500*time.Millisecond, cancel)
	case "ready":
		// Ends at the moment at which the machine gets ready.
		time.AfterFunc(time.Second+time.Minute, cancel)
	}
	m, err := b.Create(ctx, ask("a", 1, o))
	if step != "ready" && !errors.Is(err, context.Canceled) {
		t.Errorf("Create gave %v, want context.Canceled", err)
	}
	if step == "apply" || step == "second apply" {
		// Terraform needs a minute more for the others; the request does not.
		if s := b.machine("app-abc123-a-1").State; s != cluster.MachineStopping && others > 0 {
			t.Errorf("the machine is %s when Create returns", s)
		}
	}
	for range others {
		if err := <-other; err != nil {
			t.Errorf("another request of the group failed: %v", err)
		}
	}
	time.Sleep(time.Hour) // a cloud without a fast path needs one more apply
	if err != nil && others > 0 {
		for _, m := range b.machines() {
			if m.Component == "a" && m.State != cluster.MachineGone {
				t.Errorf("the cancelled machine is %s", m.State)
			}
			if m.Component == "other" && m.State != cluster.MachineReady {
				t.Errorf("another machine is %s", m.State)
			}
		}
	}
	if err == nil {
		b.Stop(m.Name, "finished")
	}
	b.finish()
}

func TestCreateAfterTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.mustCreate(1, "a", fastSmall)
		b.finish()
		if _, err := b.Create(t.Context(), ask("b", 1, fastSmall)); cluster.KindOf(err) != cluster.Interrupted {
			t.Errorf("Create after StopAll gave %v", err)
		}
		b.Close()
		if _, err := b.Create(t.Context(), ask("c", 1, fastSmall)); err == nil {
			t.Error("Create after Close succeeded")
		}
		b.nothingLeft()
	})
}
