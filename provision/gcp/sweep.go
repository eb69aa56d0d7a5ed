package gcp

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/compute/apiv1/computepb"

	"github.com/levinrun/levin/provision"
)

// The labels of everything that Levin makes and that can have some.
const (
	labelRun       = "levin-run"
	labelComponent = "levin-component"
	labelOwner     = "levin-owner"
	labelExpires   = "levin-expires" // unix seconds
	namePrefix     = "levin-"        // of firewall rules and placement policies, which have no labels
)

// The kinds of things that are found, and their collections.
const (
	kindMachine   = "machine"
	kindDisk      = "disk"
	kindPlacement = "placement group"
	kindFirewall  = "firewall"

	disks     = "disks"
	policies  = "resourcePolicies"
	firewalls = "firewalls"
)

// removal is the order of removal: what is needed by others comes after them.
var removal = [...]struct{ kind, collection string }{
	{kindMachine, instances}, {kindDisk, disks}, {kindPlacement, policies}, {kindFirewall, firewalls},
}

// Find lists what carries Levin's labels, or its names where nothing can have
// labels. Disks that go with a machine are part of it and not listed. Firewall
// rules are in no region and are listed whatever the settings' regions are.
func (c *Cloud) Find(ctx context.Context, run string) ([]provision.Found, error) {
	found, err := c.find(ctx, run)
	if err != nil {
		return found, c.failure("could not look for what Levin has made on "+c.cfg.Name, err)
	}
	return found, nil
}

func (c *Cloud) find(ctx context.Context, run string) ([]provision.Found, error) {
	s, err := c.connect()
	if err != nil {
		return nil, err
	}
	project, err := c.project()
	if err != nil {
		return nil, err
	}
	search := search{cloud: c, sdk: s, project: project, run: run}
	// In the order of removal; disks need to know the machines.
	lists := [...]func(context.Context) ([]provision.Found, error){search.machinesAndDisks, search.placements, search.rules}
	var found [len(lists)][]provision.Found
	var errs [len(lists)]error
	var all sync.WaitGroup
	for i, list := range lists {
		all.Go(func() { found[i], errs[i] = list(ctx) })
	}
	all.Wait()
	var joined []provision.Found
	for _, f := range found {
		joined = append(joined, f...)
	}
	return joined, errors.Join(errs[:]...)
}

// search is one look for what there is.
type search struct {
	cloud   *Cloud
	sdk     *sdk
	project string
	run     string // "" is every run
}

// labelled is the filter for things of the run.
func (s search) labelled() string {
	if s.run == "" {
		return "labels." + labelRun + ":*"
	}
	return fmt.Sprintf("labels.%s = %q", labelRun, labelValue(s.run))
}

// labelValue is what the module makes of a value that a label cannot hold.
func labelValue(v string) string {
	v = regexp.MustCompile(`[^a-z0-9_-]`).ReplaceAllString(strings.ToLower(v), "_")
	return v[:min(len(v), 63)]
}

// thing begins what is said of a thing, by its labels.
func (s search) thing(kind string, r resource, labels map[string]string, created string) provision.Found {
	f := provision.Found{
		Cloud: s.cloud.cfg.Name, Region: r.region, Zone: r.zone, Kind: kind, ID: r.String(), Name: r.name,
		Run: labels[labelRun], Component: labels[labelComponent], Owner: labels[labelOwner],
	}
	if n, err := strconv.ParseInt(labels[labelExpires], 10, 64); err == nil {
		f.ExpiresAt = time.Unix(n, 0).UTC()
	}
	if at, err := time.Parse(time.RFC3339, created); err == nil {
		f.CreatedAt = at.UTC()
	}
	return f
}

func (s search) machinesAndDisks(ctx context.Context) ([]provision.Found, error) {
	c := s.cloud
	filter := s.labelled()
	machines, err := c.instances(ctx, s.sdk, s.project, filter)
	errs := []error{err}
	var found []provision.Found
	partOf := map[string]bool{} // disks that go with a machine
	for _, i := range machines {
		f := s.thing(kindMachine, i.resource, i.GetLabels(), i.GetCreationTimestamp())
		c.fill(&f, i)
		found = append(found, f)
		for _, d := range i.GetDisks() {
			if r, err := parseResource(d.GetSource()); err == nil && d.GetAutoDelete() {
				partOf[r.String()] = true
			}
		}
	}
	pages, err := collect(s.sdk.disks.AggregatedList(ctx, &computepb.AggregatedListDisksRequest{Project: s.project, Filter: &filter}, c.options()...).Next)
	errs = append(errs, err)
	for _, p := range pages {
		zone, inZone := strings.CutPrefix(p.Key, "zones/")
		if !inZone || !c.searched(regionOf(zone)) {
			continue // Levin makes no disk that is in several zones
		}
		errs = append(errs, unread(p.Key, p.Value.GetWarning()))
		for _, d := range p.Value.GetDisks() {
			r := resource{s.project, zone, regionOf(zone), disks, d.GetName()}
			if !partOf[r.String()] && d.GetStatus() != computepb.Disk_DELETING.String() {
				f := s.thing(kindDisk, r, d.GetLabels(), d.GetCreationTimestamp())
				f.Type = last(d.GetType())
				found = append(found, f)
			}
		}
	}
	return found, errors.Join(errs...)
}

// fill says what an instance is and costs.
func (c *Cloud) fill(f *provision.Found, i instance) {
	f.Type = last(i.GetMachineType())
	f.Spot = i.GetScheduling().GetProvisioningModel() == "SPOT" || i.GetScheduling().GetPreemptible()
	f.Status, _ = statusOf(i.Instance)
	if f.Status != provision.StatusBooting && f.Status != provision.StatusRunning {
		return // of what does not run only the disk costs something
	}
	gpu, count := "", 0
	for _, a := range i.GetGuestAccelerators() {
		if g, ok := gpuOf(last(a.GetAcceleratorType())); ok {
			gpu, count = g.model, int(a.GetAcceleratorCount())
		}
	}
	cat, err := c.loadCatalog()
	if err != nil {
		return
	}
	for _, row := range cat.Rows {
		// n1 types are sold with and without GPUs; of others the type says it all.
		if row.Type == f.Type && row.Region == f.Region && (row.GPU == gpu && row.GPUs == count || !attaches(f.Type)) {
			f.PricePerHour = row.Price
			if f.Spot {
				f.PricePerHour = row.SpotPrice
			}
			return
		}
	}
}

// groupName is the beginning of the names of what belongs to a group: levin-, the
// run, -g and a number. A run is called after its app, with six characters at the
// end (see cluster.NewRunID).
var groupName = regexp.MustCompile(`^levin-((?:[a-z0-9-]*?-)?[0-9abcdefghjkmnpqrstvwxyz]{6})-g[0-9]+-`)

// placements finds the policies by which the machines of a component stand close
// together. They have no labels: their names say whose they are.
func (s search) placements(ctx context.Context) ([]provision.Found, error) {
	c := s.cloud
	filter := "name eq " + namePrefix + ".*"
	pages, err := collect(s.sdk.policies.AggregatedList(ctx, &computepb.AggregatedListResourcePoliciesRequest{Project: s.project, Filter: &filter}, c.options()...).Next)
	errs := []error{err}
	var found []provision.Found
	for _, p := range pages {
		region := strings.TrimPrefix(p.Key, "regions/")
		if !c.searched(region) {
			continue
		}
		errs = append(errs, unread(p.Key, p.Value.GetWarning()))
		for _, policy := range p.Value.GetResourcePolicies() {
			run := s.runOf(policy.GetName())
			if policy.GetGroupPlacementPolicy() == nil || run == "" || policy.GetStatus() == computepb.ResourcePolicy_DELETING.String() {
				continue
			}
			r := resource{project: s.project, region: region, collection: policies, name: policy.GetName()}
			found = append(found, s.thing(kindPlacement, r, map[string]string{labelRun: run}, policy.GetCreationTimestamp()))
		}
	}
	return found, errors.Join(errs...)
}

// runOf gives the run that a name belongs to, "" when that is not the one that is
// looked for, or none.
func (s search) runOf(name string) string {
	if s.run == "" {
		if m := groupName.FindStringSubmatch(name); m != nil {
			return m[1]
		}
		return ""
	}
	rest, ok := strings.CutPrefix(name, namePrefix+s.run+"-g")
	digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
	if ok && digits > 0 && strings.HasPrefix(rest[digits:], "-") {
		return s.run
	}
	return ""
}

// rules finds firewall rules. Their descriptions say whose they are; roots that
// were ejected have rules with the same names and without a description.
func (s search) rules(ctx context.Context) ([]provision.Found, error) {
	filter := "name eq " + namePrefix + ".*"
	all, err := collect(s.sdk.firewalls.List(ctx, &computepb.ListFirewallsRequest{Project: s.project, Filter: &filter}, s.cloud.options()...).Next)
	var found []provision.Found
	for _, rule := range all {
		said := described(rule.GetDescription())
		if run := said[labelRun]; run == "" || s.run != "" && s.run != run || !strings.HasPrefix(rule.GetName(), namePrefix) {
			continue
		}
		r := resource{project: s.project, collection: firewalls, name: rule.GetName()}
		found = append(found, s.thing(kindFirewall, r, said, rule.GetCreationTimestamp()))
	}
	return found, err
}

// described reads "levin-run=… levin-owner=… levin-expires=…". An owner may have
// spaces in it.
func described(description string) map[string]string {
	said := map[string]string{}
	key := ""
	for _, word := range strings.Fields(description) {
		k, v, ok := strings.Cut(word, "=")
		switch {
		case ok && strings.HasPrefix(k, namePrefix):
			key = k
			said[key] = v
		case key != "":
			said[key] += " " + word
		}
	}
	return said
}

// Remove ends and deletes what Find has found.
func (c *Cloud) Remove(ctx context.Context, found []provision.Found) error {
	if len(found) == 0 {
		return nil
	}
	if err := c.removeAll(ctx, found); err != nil {
		return c.failure("could not remove everything on "+c.cfg.Name, err)
	}
	return nil
}

// removeAll removes things kind after kind. What cannot be removed does not keep
// the rest from being removed.
func (c *Cloud) removeAll(ctx context.Context, found []provision.Found) error {
	s, err := c.connect()
	if err != nil {
		return err
	}
	named := map[string][]resource{}
	var errs []error
	for _, f := range found {
		r, err := parseResource(f.ID)
		if err == nil {
			err = fmt.Errorf("%s is a %q, which is nothing that Levin makes here", f.ID, f.Kind)
			for _, k := range removal {
				if k.kind == f.Kind && k.collection == r.collection {
					err = nil
				}
			}
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		named[r.collection] = append(named[r.collection], r)
	}
	for _, k := range removal {
		errs = append(errs, each(named[k.collection], func(r resource) error {
			if err := c.free(ctx, func() error { return c.remove(ctx, s, r) }); err != nil && !missing(err, r) {
				return fmt.Errorf("%s %s: %w", k.kind, r.name, err)
			}
			return nil
		}))
	}
	return errors.Join(errs...)
}

// remove removes one thing and waits until it is gone.
func (c *Cloud) remove(ctx context.Context, s *sdk, r resource) error {
	switch r.collection {
	case disks:
		begun, err := s.disks.Delete(ctx, &computepb.DeleteDiskRequest{Project: r.project, Zone: r.zone, Disk: r.name}, c.options()...)
		return c.done(ctx, s, r, begun, err)
	case policies:
		begun, err := s.policies.Delete(ctx, &computepb.DeleteResourcePolicyRequest{Project: r.project, Region: r.region, ResourcePolicy: r.name}, c.options()...)
		return c.done(ctx, s, r, begun, err)
	case firewalls:
		begun, err := s.firewalls.Delete(ctx, &computepb.DeleteFirewallRequest{Project: r.project, Firewall: r.name}, c.options()...)
		return c.done(ctx, s, r, begun, err)
	}
	_, err := c.delete(ctx, s, r, false)
	return err
}

// releaseTime is how long something may still count as in use after the machine
// that used it is gone.
const releaseTime = time.Minute

// free deletes something that may be in use for a moment longer.
func (c *Cloud) free(ctx context.Context, remove func() error) error {
	pause := c.poll
	for began := time.Now(); ; {
		err := remove()
		switch reasonOf(err) {
		case "resourceInUseByAnotherResource", "resourceNotReady", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "RESOURCE_NOT_READY":
		default:
			return err
		}
		if time.Since(began) > max(releaseTime, c.settle) {
			return err
		}
		if ended := sleep(ctx, pause); ended != nil {
			return fmt.Errorf("%w: %w", ended, err)
		}
		pause = min(pause*3/2, longestGap)
	}
}
