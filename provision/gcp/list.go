package gcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/api/iterator"
)

// collect reads all pages of a list.
func collect[T any](next func() (T, error)) ([]T, error) {
	var all []T
	for {
		t, err := next()
		if errors.Is(err, iterator.Done) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, t)
	}
}

// newestFirst sorts operations by the time at which they were asked for.
func newestFirst(all []*computepb.Operation) {
	slices.SortFunc(all, func(a, b *computepb.Operation) int { return cmp.Compare(b.GetInsertTime(), a.GetInsertTime()) })
}

// unread says which zones or regions could not be read, by the warning that an
// aggregated list has for each; nil for the ones that were read or hold nothing.
func unread(scope string, warning *computepb.Warning) error {
	switch warning.GetCode() {
	case "", computepb.Warning_NO_RESULTS_ON_PAGE.String():
		return nil
	}
	return fmt.Errorf("%s: %s: %s", strings.TrimPrefix(strings.TrimPrefix(scope, "zones/"), "regions/"), warning.GetCode(), warning.GetMessage())
}

// instance is an instance and where it is.
type instance struct {
	resource
	*computepb.Instance
}

// instances lists the instances that pass the filter in the zones that are
// searched. Those that could be read are given with the error of the others.
func (c *Cloud) instances(ctx context.Context, s *sdk, project, filter string) ([]instance, error) {
	pages, err := collect(s.instances.AggregatedList(ctx, &computepb.AggregatedListInstancesRequest{Project: project, Filter: &filter}, c.options()...).Next)
	var all []instance
	errs := []error{err}
	for _, p := range pages {
		zone := strings.TrimPrefix(p.Key, "zones/")
		if !c.searched(regionOf(zone)) {
			continue
		}
		errs = append(errs, unread(p.Key, p.Value.GetWarning()))
		for _, i := range p.Value.GetInstances() {
			all = append(all, instance{resource{project, zone, regionOf(zone), instances, i.GetName()}, i})
		}
	}
	return all, errors.Join(errs...)
}

// searched reports whether things of Levin may be in a region: in those of the
// settings, or in any.
func (c *Cloud) searched(region string) bool {
	return len(c.cfg.Settings.Regions) == 0 || slices.Contains(c.cfg.Settings.Regions, region)
}
