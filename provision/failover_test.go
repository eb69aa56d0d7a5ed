package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
)

var vmSmall, vmBig = offer("vm", "small", 1), offer("vm", "big", 2)

// placed is an offer in a zone of a region; "spot" as a further word makes it one.
func placed(o Offer, region, zone string, more ...string) Offer {
	o.Region, o.Zone, o.Spot = region, zone, slices.Contains(more, "spot")
	return o
}

// asking is what was tried, in order: "type zone".
func (b *bench) tried() []string {
	var all []string
	for _, m := range b.machines() {
		s := m.Type + " " + m.Zone
		if m.Spot {
			s += " spot"
		}
		all = append(all, s)
	}
	return all
}

// A failure takes in the offers of its scope and no others.
func TestScopes(t *testing.T) {
	offers := []Offer{
		placed(vmSmall, "east", "east-a", "spot"), placed(vmSmall, "east", "east-b", "spot"), placed(vmSmall, "east", "east-a"),
		placed(vmSmall, "west", "west-a", "spot"), placed(vmBig, "east", "east-a", "spot"), slowBig,
	}
	for _, test := range []struct {
		first *cluster.Failure
		want  []string // the second is had
	}{
		{refuseIn(cluster.Capacity, ScopeZone, "no"), []string{"small east-a spot", "small east-b spot"}},
		{refuse(cluster.Capacity, "no"), []string{"small east-a spot", "small east-b spot"}},
		{refuseIn(cluster.Capacity, ScopeRegion, "no"), []string{"small east-a spot", "small east-a"}},
		{refuseIn(cluster.Quota, ScopeRegion, "no"), []string{"small east-a spot", "small east-a"}},
		{refuseIn(cluster.Price, ScopeZone, "no"), []string{"small east-a spot", "small east-b spot"}},
		{refuseIn(cluster.Quota, ScopeAccount, "no"), []string{"small east-a spot", "big "}},
		{refuseIn(cluster.Auth, ScopeAccount, "no"), []string{"small east-a spot"}},
		{refuseIn(cluster.BadRequest, ScopeZone, "no"), []string{"small east-a spot"}},
		{&cluster.Failure{Words: "what is this"}, []string{"small east-a spot"}},
	} {
		t.Run(test.first.Words, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t, nil)
				first := true
				b.world.onApply = func(_ context.Context, root terraform.Root) applied {
					if !first {
						return applied{}
					}
					first = false
					return applied{failing: map[string]*cluster.Failure{slices.Collect(maps.Keys(root.Machines))[0]: test.first}}
				}
				start := time.Now()
				_, err := b.Create(t.Context(), ask("a", 1, offers...))
				if got := b.tried(); !slices.Equal(got, test.want) {
					t.Errorf("tried were %q, want %q", got, test.want)
				}
				if failed := len(test.want) == 1; failed != (err != nil) {
					t.Errorf("error is %v", err)
				}
				if err != nil && (!strings.Contains(err.Error(), test.first.Words) || strings.Contains(test.first.Words, "auth") && !strings.Contains(err.Error(), "sign in")) {
					t.Errorf("the error lacks the cloud's words or what to do: %v", err)
				}
				if took := time.Since(start); took > time.Second {
					t.Errorf("it took %v", took)
				}
				b.finish()
			})
		})
	}
}

// A quota that one type of a family ran into is tried last with the others of the
// family: clouds count by families.
func TestQuotaOfAFamily(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		typ := func(typ, region string) Offer { return placed(offer("vm", typ, 1), region, region+"-a") }
		b.world.onApply = func(ctx context.Context, root terraform.Root) applied {
			for _, in := range root.Machines {
				if in.Type != "c5.large" {
					return failOn(in.Type, refuseIn(cluster.Quota, ScopeRegion, "too many"))(ctx, root)
				}
			}
			return applied{}
		}
		offers := []Offer{typ("g4dn.xlarge", "east"), typ("g4dn.2xlarge", "east"), typ("g4dn.xlarge", "west"), typ("c5.large", "east")}
		m, err := b.Create(t.Context(), ask("a", 1, offers...))
		if err != nil || m.Type != "c5.large" {
			t.Errorf("got %s, error %v", m.Type, err)
		}
		if got, want := b.tried(), []string{"g4dn.xlarge east-a", "g4dn.xlarge west-a", "c5.large east-a"}; !slices.Equal(got, want) {
			t.Errorf("tried were %q, want %q", got, want)
		}
		b.finish()
	})
}

// What one run could not have, another tries after the others, until it has been
// forgotten; it is written down together with the machine's failure.
func TestCooldownsAreShared(t *testing.T) {
	for _, test := range []struct {
		failure *cluster.Failure
		lasts   time.Duration
		rows    int
	}{
		{refuse(cluster.Capacity, "no more"), cooldownCapacity, 1},
		{refuseIn(cluster.Quota, ScopeRegion, "no more"), cooldownQuota, 1},
		{refuseIn(cluster.Quota, ScopeAccount, "no more"), cooldownQuota, 2},
		{refuse(cluster.Price, "no more"), cooldownPrice, 1},
	} {
		t.Run(test.failure.Words, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t, nil)
				b.world.onApply = failOn("small", test.failure)
				offers := []Offer{placed(vmSmall, "east", "east-a"), slowBig}
				if _, errs := b.create(20, "a", offers...); errors.Join(errs...) != nil {
					t.Fatal(errs)
				}
				rows, err := b.store.Cooldowns(t.Context(), time.Now())
				if err != nil || len(rows) != test.rows || !strings.Contains(rows[0].Words, "no more") {
					t.Errorf("%d cooldowns %+v, error %v", len(rows), rows, err)
				}
				b.finish()

				for _, wait := range []time.Duration{test.lasts - time.Minute, 2 * time.Minute} {
					time.Sleep(wait)
					row := cluster.Run{ID: fmt.Sprint("other-", wait), App: "app", State: cluster.RunPending, CreatedAt: time.Now()}
					if err := b.journal.Commit(t.Context(), cluster.Change{Run: &row}); err != nil {
						t.Fatal(err)
					}
					p, err := New(b.config(func(c *Config) { c.Run = row.ID; c.Dir = t.TempDir() }))
					if err != nil {
						t.Fatal(err)
					}
					b.use(p)
					if _, err := p.Create(t.Context(), ask("a", 1, offers...)); err != nil {
						t.Error(err)
					}
					machines, err := b.store.Machines(t.Context(), row.ID)
					if err != nil {
						t.Fatal(err)
					}
					want := "small"
					if wait == test.lasts-time.Minute {
						want = "big"
					}
					if machines[0].Type != want {
						t.Errorf("after %v more the other run tried %s first, want %s", wait, machines[0].Type, want)
					}
					p.StopAll("finished")
					if _, err := p.Wait(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// What passes is tried again after a growing pause, a bounded number of times.
func TestPassingFailuresAreRepeated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, func(c *Config) { c.Backoff = time.Minute })
		var times []time.Time
		b.world.onApply = func(ctx context.Context, root terraform.Root) applied {
			times = append(times, time.Now())
			return failOn("small", refuse(cluster.Throttled, "slow down"))(ctx, root)
		}
		if _, err := b.Create(t.Context(), ask("a", 1, fastSmall)); err == nil || !strings.Contains(err.Error(), "slow down") {
			t.Errorf("error is %v", err)
		}
		if len(times) != 1+repeats {
			t.Fatalf("%d tries, want %d", len(times), 1+repeats)
		}
		for i := range repeats {
			longest := time.Minute << i
			if gap := times[i+1].Sub(times[i]); gap < longest/2 || gap > longest+time.Second {
				t.Errorf("the pause before try %d was %v, want between %v and %v", i+2, gap, longest/2, longest)
			}
		}
		b.finish()
	})
}

// Many offers that failed alike are told of in a few lines.
func TestErrorIsCompact(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.onApply = func(ctx context.Context, root terraform.Root) applied {
			failing := map[string]*cluster.Failure{}
			for name, in := range root.Machines {
				failing[name] = refuse(cluster.Capacity, fmt.Sprintf(
					"creating EC2 Instance %s: operation error EC2: RunInstances, StatusCode: 500, RequestID: %x-1234-5678, api error InsufficientInstanceCapacity: "+
						"We do not have sufficient %s capacity in the Availability Zone you requested (%s). You can get it by choosing us-east-1b, us-east-1d.", name, len(b.world.calls)+0x1000, in.Type, in.Zone))
			}
			return applied{failing: failing}
		}
		var offers []Offer
		for i := range 60 {
			o := placed(offer("vm", []string{"g4dn.xlarge", "g5.xlarge", "g6.xlarge"}[i%3], 1), "us-east-1", fmt.Sprint("use1-az", i/3))
			offers = append(offers, o)
		}
		_, err := b.Create(t.Context(), ask("a", 1, append(offers, slowBig)...))
		text := fmt.Sprint(err)
		if len(text) > 2500 || strings.Count(text, "\n") > 5 {
			t.Errorf("%d bytes on %d lines:\n%s", len(text), strings.Count(text, "\n")+1, text)
		}
		for _, want := range []string{"61 offers were tried", "InsufficientInstanceCapacity", "g5.xlarge in ", "use1-az19", "slow/big", "try again later"} {
			if !strings.Contains(text, want) {
				t.Errorf("the error does not say %q:\n%s", want, text)
			}
		}
		var f *cluster.Failure
		if !errors.As(err, &f) || f.Kind != cluster.Provisioning {
			t.Errorf("the error is of kind %s", cluster.KindOf(err))
		}
		b.finish()
	})
}

// When the time is up, what was tried is told.
func TestStartTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.onApply = func(ctx context.Context, root terraform.Root) applied {
			for _, in := range root.Machines {
				if in.Type == "big" {
					return applied{err: hang(ctx)}
				}
			}
			return failOn("small", refuse(cluster.Capacity, "none left"))(ctx, root)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("too late"))
		defer cancel()
		_, err := b.Create(ctx, ask("a", 1, fastSmall, slowBig))
		for _, want := range []string{"none left", "slow/big"} {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("the error does not say %q: %v", want, err)
			}
		}
		if !errors.Is(err, context.DeadlineExceeded) || cluster.KindOf(err) != cluster.Provisioning {
			t.Errorf("the error is %v", err)
		}
		b.finish()
	})
}

// A machine that never answers is given up, and the next one is made elsewhere.
func TestGiveUp(t *testing.T) {
	for _, cause := range []error{errors.New("no answer"), context.DeadlineExceeded, context.Canceled} {
		t.Run(cause.Error(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBench(t, nil)
				offers := []Offer{placed(vmSmall, "east", "east-a"), placed(vmSmall, "east", "east-b")}
				first := b.mustCreate(1, "a", offers...)[0]
				b.GiveUp(first.Name, "could not be reached", fmt.Errorf("dialing: %w", cause))
				b.GiveUp(first.Name, "could not be reached", cause)
				b.GiveUp("nobody", "could not be reached", cause)
				second, err := b.Create(t.Context(), ask("a", 1, offers...))
				want := "east-b"
				if errors.Is(cause, context.Canceled) {
					want = "east-a"
				}
				if err != nil || second.Zone != want {
					t.Errorf("the second machine is in %s, want %s; error %v", second.Zone, want, err)
				}
				time.Sleep(time.Hour)
				if third := b.mustCreate(1, "b", offers...)[0]; third.Zone != "east-a" {
					t.Errorf("an hour later a machine is in %s", third.Zone)
				}
				if b.machine(first.Name).Error == "" {
					t.Error("the row does not say why")
				}
				b.finish()
			})
		})
	}
}

// The words of Terraform's addresses, which people chose, mean nothing.
func TestAddressesAreNotJudged(t *testing.T) {
	err := &terraform.ApplyError{Diagnostics: []terraform.Diagnostic{
		{Severity: "warning", Summary: "auth: old"},
		{Severity: "error", Summary: "odd", Address: `quota: module.machines["capacity: x"]`},
	}}
	if got := cluster.KindOf(understand(&scripted{}, err)); got != "" {
		t.Errorf("kind is %q", got)
	}
	both := &terraform.ApplyError{Diagnostics: []terraform.Diagnostic{
		{Severity: "error", Summary: "transient: lost"}, {Severity: "error", Summary: "capacity: none"}, {Severity: "error", Summary: "odd"},
	}}
	if got := cluster.KindOf(understand(&scripted{}, both)); got != cluster.Capacity {
		t.Errorf("kind is %q", got)
	}
}

// Errors that are not Terraform's are judged, too.
func TestModuleErrorsAreJudged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, func(c *Config) {
			c.Clouds = append(c.Clouds, badModule{&scripted{name: "bad"}, errors.New("capacity: none")},
				badModule{&scripted{name: "worse"}, &cluster.Failure{Kind: cluster.Auth, What: "no credentials", Next: "get some"}})
		})
		m, err := b.Create(t.Context(), ask("a", 1, offer("bad", "small", 1), fastSmall))
		if err != nil || m.Cloud != "fast" {
			t.Errorf("got a machine of %q, error %v", m.Cloud, err)
		}
		if e := b.machine("app-abc123-a-1").Error; strings.Count(e, "none") != 1 {
			t.Errorf("the row says %q", e)
		}
		_, err = b.Create(t.Context(), ask("b", 1, offer("worse", "small", 1), fastSmall))
		if err == nil || strings.Count(err.Error(), "get some") != 1 {
			t.Errorf("error is %v", err)
		}
		b.finish()
	})
}

type badModule struct {
	*scripted
	err error
}

func (c badModule) Module(context.Context, string) (terraform.Module, terraform.Providers, error) {
	return terraform.Module{}, terraform.Providers{}, c.err
}

// A hundred machines of which one is refused after the other: each moves on alone
// and the rest stay.
func TestOneOfAHundredMovesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.onApply = func(_ context.Context, root terraform.Root) applied {
			failing := map[string]*cluster.Failure{}
			for _, name := range []string{"app-abc123-a-7", "app-abc123-a-50"} {
				if in, ok := root.Machines[name]; ok && in.Type == "small" {
					failing[name] = refuse(cluster.Capacity, "none")
				}
			}
			return applied{failing: failing}
		}
		machines := b.mustCreate(100, "a", vmSmall, vmBig)
		big := 0
		for _, m := range machines {
			if m.Type == "big" {
				big++
			}
		}
		if big != 2 {
			t.Errorf("%d machines moved on, want 2", big)
		}
		synctest.Wait()
		b.finish()
	})
}
