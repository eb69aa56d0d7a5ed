package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
)

// clockSkew is how far the clock of the computer that set an expiry may be off.
const clockSkew = time.Minute

// Judged is something in a cloud that carries Levin's tags, and whether it should
// be there.
type Judged struct {
	Found
	Reason string `json:"reason"` // for people
	Remove bool   `json:"remove"` // nobody wants it
}

// FindAll lists everything with Levin's tags in the clouds that can be searched,
// whatever Terraform's states say, and judges it by the runs in store:
//
//   - What belongs to a run that is under way is wanted.
//   - What a run was told to keep (--keep) is wanted until it expires.
//   - What belongs to a run that is finished, or whose controller is gone, is not
//     wanted.
//   - What belongs to a run that the store does not know may be another computer's:
//     it is not wanted only once it has expired.
//
// live says whether the controller of a run is there; it is asked only about runs
// of the store that are not finished. Clouds that could not be searched, or not in
// all regions, are named in an error beside what was found.
func FindAll(ctx context.Context, clouds []Cloud, store cluster.Store, now time.Time, live func(run string) bool) ([]Judged, error) {
	found, findErr := findEverywhere(ctx, clouds)
	// The store is read after the search: a machine's row is there before the machine.
	if err := nameRuns(ctx, store, found); err != nil {
		return nil, errors.Join(err, findErr)
	}
	judges := map[string]func(Found) (string, bool){} // by run
	var all []Judged
	for _, f := range found {
		judge := judges[f.Run]
		if judge == nil {
			run, err := store.Run(ctx, f.Run)
			if err != nil && !errors.Is(err, cluster.ErrNotFound) {
				return nil, errors.Join(fmt.Errorf("reading run %s: %w", f.Run, err), findErr)
			}
			known := err == nil
			alive := known && !run.State.Final() && live(run.ID)
			judge = func(f Found) (string, bool) { return judgeFound(f, run, known, alive, now) }
			judges[f.Run] = judge
		}
		j := Judged{Found: f}
		j.Reason, j.Remove = judge(f)
		all = append(all, j)
	}
	slices.SortStableFunc(all, func(a, b Judged) int {
		return cmp.Or(
			cmp.Compare(a.Run, b.Run), cmp.Compare(a.Cloud, b.Cloud), cmp.Compare(a.Region, b.Region),
			compareKinds(a.Kind, b.Kind),
			cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID),
		)
	})
	return all, findErr
}

// compareKinds puts machines before what belongs to them.
func compareKinds(a, b string) int {
	rank := func(kind string) int {
		if kind == "machine" {
			return 0
		}
		return 1
	}
	return cmp.Or(rank(a)-rank(b), cmp.Compare(a, b))
}

// nameRuns fills in the run of things that do not say whose they are, as a
// machine that died on this computer: its name begins with the run's.
func nameRuns(ctx context.Context, store cluster.Store, found []Found) error {
	if !slices.ContainsFunc(found, func(f Found) bool { return f.Run == "" }) {
		return nil
	}
	runs, err := store.Runs(ctx, cluster.RunFilter{})
	if err != nil {
		return fmt.Errorf("reading the runs: %w", err)
	}
	for i := range found {
		for _, r := range runs {
			if found[i].Run == "" && belongs(found[i].Name, r.ID) {
				found[i].Run = r.ID
			}
		}
	}
	return nil
}

// judgeFound says whether something is wanted, and why.
func judgeFound(f Found, run cluster.Run, known, live bool, now time.Time) (reason string, remove bool) {
	at := f.ExpiresAt.Format(time.RFC3339)
	expired := !f.ExpiresAt.IsZero() && now.After(f.ExpiresAt.Add(clockSkew))
	switch {
	case known && live:
		return fmt.Sprintf("run %s is under way", run.ID), false
	case known && run.Kept && !expired:
		return fmt.Sprintf("run %s keeps its machines", run.ID), false
	case expired:
		return "expired at " + at, true
	case known && run.State.Final():
		return fmt.Sprintf("run %s is finished", run.ID), true
	case known:
		return fmt.Sprintf("the controller of run %s is gone", run.ID), true
	case f.Run == "":
		return "belongs to no run, and does not expire", false
	case f.ExpiresAt.IsZero():
		return fmt.Sprintf("run %s is not known here, and it does not expire", f.Run), false
	}
	return fmt.Sprintf("run %s is not known here; expires at %s", f.Run, at), false
}

// findEverywhere searches all clouds at the same time.
func findEverywhere(ctx context.Context, clouds []Cloud) ([]Found, error) {
	found, errs := make([][]Found, len(clouds)), make([]error, len(clouds))
	var tasks sync.WaitGroup
	for i, c := range clouds {
		if sweeper, ok := c.(Sweeper); ok {
			tasks.Go(func() {
				if found[i], errs[i] = sweeper.Find(ctx, ""); errs[i] != nil {
					errs[i] = fmt.Errorf("%s could not be searched: %w", c.Name(), errs[i])
				}
			})
		}
	}
	tasks.Wait()
	return slices.Concat(found...), errors.Join(errs...)
}

// RemoveFound removes things from their clouds and returns once the clouds have
// confirmed it. What cannot be removed keeps nothing else from being removed.
func RemoveFound(ctx context.Context, clouds []Cloud, found []Found) error {
	errs := make([]error, len(clouds))
	var tasks sync.WaitGroup
	for i, c := range clouds {
		var here []Found
		for _, f := range found {
			if f.Cloud == c.Name() {
				here = append(here, f)
			}
		}
		sweeper, ok := c.(Sweeper)
		switch {
		case len(here) == 0:
		case !ok:
			errs[i] = fmt.Errorf("%s cannot remove single things", c.Name())
		default:
			tasks.Go(func() {
				if err := sweeper.Remove(ctx, here); err != nil {
					errs[i] = fmt.Errorf("%s: %w", c.Name(), err)
				}
			})
		}
	}
	tasks.Wait()
	return errors.Join(errs...)
}
