package storetest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
)

// cooling gives a cooldown that lasts so much longer.
func cooling(zone string, lasts time.Duration) cluster.Cooldown {
	return cluster.Cooldown{
		Cloud: "aws", Region: "us-east-1", Zone: zone, Type: "g4dn.xlarge", Spot: true,
		Kind: cluster.Capacity, Words: "<no> \"more\"\n", Until: time.Now().Add(lasts).In(time.FixedZone("far", 5*3600)),
	}
}

func zones(list []cluster.Cooldown) string {
	var all []string
	for _, c := range list {
		all = append(all, c.Zone)
	}
	return strings.Join(all, " ")
}

// cooldowns come back whole, the one that ends first in front; one for the same
// offer is replaced, and the run that learnt it may be forgotten.
func cooldowns(t *testing.T, s cluster.Store) {
	ctx := t.Context()
	get := func(after time.Duration) []cluster.Cooldown {
		t.Helper()
		return must[[]cluster.Cooldown](t)(s.Cooldowns(ctx, time.Now().Add(after)))
	}
	same(t, "cooldowns of an empty store", len(get(0)), 0)

	long, short := cooling("a", 2*time.Hour), cooling("b", time.Hour)
	r := NewRun("r")
	commit(t, s, cluster.Change{Run: r, Cooldowns: []cluster.Cooldown{long, short}, Events: []cluster.Event{warning("r", "x")}})
	same(t, "cooldowns", get(0), []cluster.Cooldown{short.Clone(), long.Clone()})
	same(t, "cooldowns an hour later", get(90*time.Minute), []cluster.Cooldown{long.Clone()})
	same(t, "cooldowns a day later", len(get(24*time.Hour)), 0)

	// It ends at its end.
	same(t, "at the end", len(must[[]cluster.Cooldown](t)(s.Cooldowns(ctx, long.Until))), 0)
	same(t, "just before", len(must[[]cluster.Cooldown](t)(s.Cooldowns(ctx, long.Until.Add(-1)))), 1)

	// The same offer again, until earlier: what is known last counts.
	again := long
	again.Kind, again.Words, again.Until = cluster.Quota, "", time.Now().Add(30*time.Minute)
	commit(t, s, cluster.Change{Cooldowns: []cluster.Cooldown{again}})
	same(t, "cooldowns after a new one for the same", get(0), []cluster.Cooldown{again.Clone(), short.Clone()})

	// Each of its five columns makes it another.
	others := []cluster.Cooldown{again, again, again, again, again}
	others[0].Cloud, others[1].Region, others[2].Zone, others[3].Type, others[4].Spot = "gcp", "", "", "", false
	commit(t, s, cluster.Change{Cooldowns: others})
	all := get(0)
	same(t, "cooldowns that differ in one column", len(all), 7)
	same(t, "asked again", get(0), all)

	for _, st := range []cluster.RunState{cluster.RunStopping, cluster.RunFailed} {
		r.State = st
		commit(t, s, cluster.Change{Run: r})
	}
	if err := s.DeleteRun(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	same(t, "cooldowns after the run was forgotten", len(get(0)), 7)
}

// cooldownsForgotten: those that are over do not pile up. How soon they are
// forgotten is the store's matter; what lasts is never forgotten.
func cooldownsForgotten(t *testing.T, s cluster.Store) {
	ctx := t.Context()
	commit(t, s, cluster.Change{Cooldowns: []cluster.Cooldown{cooling("over", -time.Hour), cooling("lasts", time.Hour)}})
	commit(t, s, cluster.Change{Cooldowns: []cluster.Cooldown{cooling("new", 2*time.Hour)}})
	got := must[[]cluster.Cooldown](t)(s.Cooldowns(ctx, time.Now()))
	same(t, "cooldowns", zones(got), "lasts new")
	longAgo := must[[]cluster.Cooldown](t)(s.Cooldowns(ctx, time.Now().Add(-24*time.Hour)))
	if z := zones(longAgo); z != "lasts new" && z != "over lasts new" {
		t.Errorf("cooldowns of yesterday are %q", z)
	}
}

// cooldownsConcurrent has runs learn the same and different things at once.
func cooldownsConcurrent(t *testing.T, s cluster.Store) {
	ctx := t.Context()
	const writers, rounds = 6, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range rounds {
				shared, own := cooling("shared", time.Hour), cooling(fmt.Sprint("own-", w, "-", n), time.Hour)
				if err := s.Commit(ctx, cluster.Change{Cooldowns: []cluster.Cooldown{shared, own}}); err != nil {
					t.Errorf("Commit: %v", err)
				}
				if _, err := s.Cooldowns(ctx, time.Now()); err != nil {
					t.Errorf("Cooldowns: %v", err)
				}
			}
		})
	}
	wg.Wait()
	same(t, "cooldowns", len(must[[]cluster.Cooldown](t)(s.Cooldowns(ctx, time.Now()))), writers*rounds+1)
}
