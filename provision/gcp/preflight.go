package gcp

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"cloud.google.com/go/compute/apiv1/computepb"

	"github.com/levinrun/levin/provision"
)

// Preflight looks whether machines could be had: who asks, whether the project is
// there and its Compute Engine API switched on, what that identity may do, whether
// there is a network to put machines into and whether the limits of the project
// leave room for one machine of each offer.
func (c *Cloud) Preflight(ctx context.Context, offers []provision.Offer) []provision.Finding {
	s, who, ok := c.whoAsks(ctx)
	if !ok {
		return []provision.Finding{who} // everything else would fail for the same reason
	}
	name, err := c.project()
	if err != nil {
		return []provision.Finding{who, c.bad("project", "", err)}
	}
	project, err := s.projects.Get(ctx, &computepb.GetProjectRequest{Project: name}, c.options()...)
	if err != nil {
		return []provision.Finding{who, c.bad("project", name, err)}
	}
	all := []provision.Finding{who, {Check: "project", OK: true, Text: name + ": is there, and its Compute Engine API is on"}}

	perRegion := map[string][]provision.Offer{}
	for _, o := range offers {
		perRegion[o.Region] = append(perRegion[o.Region], o)
	}
	for _, region := range c.cfg.Settings.Regions {
		if len(offers) == 0 {
			perRegion[region] = nil
		}
	}
	regions := slices.Sorted(maps.Keys(perRegion))

	var permissions, network provision.Finding
	perRegionFound := make([][]provision.Finding, len(regions))
	var looking sync.WaitGroup
	looking.Go(func() { permissions = c.permissions(ctx, s, name) })
	looking.Go(func() { network = c.network(ctx, s, name, regions) })
	for n, region := range regions {
		looking.Go(func() { perRegionFound[n] = c.quotas(ctx, s, name, region, perRegion[region]) })
	}
	looking.Wait()
	all = append(all, permissions, network)
	all = append(all, slices.Concat(perRegionFound...)...)
	if f, ok := globalGPUs(project, offers); ok {
		all = append(all, f)
	}
	return all
}

// whoAsks names the identity that Google sees, once it has given it a token.
func (c *Cloud) whoAsks(ctx context.Context) (*sdk, provision.Finding, bool) {
	const check = "credentials"
	s, err := c.connect()
	if err == nil {
		_, err = s.tokens.token(ctx)
	}
	if err != nil {
		return nil, c.bad(check, "", err), false
	}
	return s, provision.Finding{Check: check, OK: true, Text: s.who.who}, true
}

// bad is a finding made of an error.
func (c *Cloud) bad(check, where string, err error) provision.Finding {
	text := wordsOf(err)
	if where != "" {
		text = where + ": " + text
	}
	if v, ok := judge(err); ok && v.Next != "" {
		text += "; " + v.Next
	}
	return provision.Finding{Check: check, Text: text}
}

// permissionsNeeded are those that Terraform and the fast path need.
var permissionsNeeded = [...]string{
	"compute.instances.create", "compute.instances.delete", "compute.instances.get", "compute.instances.list",
	"compute.instances.setLabels", "compute.instances.setMetadata", "compute.instances.setTags",
	"compute.disks.create", "compute.disks.delete", "compute.disks.list", "compute.disks.setLabels",
	"compute.firewalls.create", "compute.firewalls.delete", "compute.firewalls.get", "compute.firewalls.list",
	"compute.networks.get", "compute.networks.updatePolicy",
	"compute.resourcePolicies.create", "compute.resourcePolicies.delete", "compute.resourcePolicies.list", "compute.resourcePolicies.use",
	"compute.subnetworks.use", "compute.subnetworks.useExternalIp",
	"compute.globalOperations.get", "compute.regionOperations.get", "compute.zoneOperations.get", "compute.zoneOperations.list",
	"compute.projects.get", "compute.regions.get", "compute.zones.list",
}

// permissions asks which of the permissions whoever asks has.
func (c *Cloud) permissions(ctx context.Context, s *sdk, project string) provision.Finding {
	const check = "permissions"
	needed := permissionsNeeded[:]
	if c.cfg.Settings.Private {
		needed = slices.DeleteFunc(slices.Clone(needed), func(p string) bool { return p == "compute.subnetworks.useExternalIp" })
	}
	in := map[string]any{"permissions": needed}
	var out struct{ Permissions []string }
	err := c.ask(ctx, s, "POST", s.manager+"/v1/projects/"+project+":testIamPermissions", in, &out)
	if reason := reasonOf(err); reason == "SERVICE_DISABLED" || reason == "accessNotConfigured" {
		// Runs do not need that API.
		return provision.Finding{Check: check, OK: true, Text: project + ": not looked at, since the Cloud Resource Manager API is off (`gcloud services enable cloudresourcemanager.googleapis.com`)"}
	}
	if err != nil {
		return c.bad(check, project, err)
	}
	var denied []string
	for _, p := range needed {
		if !slices.Contains(out.Permissions, p) {
			denied = append(denied, p)
		}
	}
	if len(denied) > 0 {
		return provision.Finding{Check: check, Text: fmt.Sprintf(
			"%s: not allowed: %s; whoever manages the project can grant them (roles/compute.instanceAdmin.v1 and roles/compute.securityAdmin have all)", project, strings.Join(denied, ", "))}
	}
	return provision.Finding{Check: check, OK: true, Text: project + ": may create, label and delete VMs, and manage their disks, firewall rules and placement policies"}
}

// network looks for the network and the subnetworks that machines would be put
// into.
func (c *Cloud) network(ctx context.Context, s *sdk, project string, regions []string) provision.Finding {
	const check = "network"
	if len(c.cfg.Settings.Subnets) > 0 {
		return c.subnets(ctx, s, project, regions)
	}
	name := cmp.Or(c.cfg.Settings.Network, "default")
	network, err := s.networks.Get(ctx, &computepb.GetNetworkRequest{Project: project, Network: last(name)}, c.options()...)
	switch {
	case notFound(err) && c.cfg.Settings.Network == "":
		return provision.Finding{Check: check, Text: fmt.Sprintf(
			"%s: there is no network \"default\"; `gcloud compute networks create default --project %s` makes one, or name a network in the settings", project, project)}
	case notFound(err):
		return provision.Finding{Check: check, Text: fmt.Sprintf("%s: there is no network %q; see network in the settings", project, name)}
	case err != nil:
		return c.bad(check, project, err)
	case !network.GetAutoCreateSubnetworks():
		return provision.Finding{Check: check, Text: fmt.Sprintf("%s: network %q has no subnetwork of its own in every region; name some under subnets in the settings", project, name)}
	}
	return provision.Finding{Check: check, OK: true, Text: fmt.Sprintf("%s: network %q", project, name)}
}

// subnets looks for the subnetworks of the settings in each region, as the module
// chooses them: a path names its region, a plain name is one in any region.
func (c *Cloud) subnets(ctx context.Context, s *sdk, project string, regions []string) provision.Finding {
	const check = "network"
	for _, region := range regions {
		at := slices.IndexFunc(c.cfg.Settings.Subnets, func(subnet string) bool {
			return !strings.Contains(subnet, "/") || strings.Contains("/"+subnet, "/"+region+"/")
		})
		if at < 0 {
			return provision.Finding{Check: check, Text: fmt.Sprintf("%s: none of the subnetworks %s is there", region, strings.Join(c.cfg.Settings.Subnets, ", "))}
		}
		name := c.cfg.Settings.Subnets[at]
		in := project
		if r, err := parseResource(name); err == nil {
			in = r.project // of a shared network
		}
		_, err := s.subnetworks.Get(ctx, &computepb.GetSubnetworkRequest{Project: in, Region: region, Subnetwork: last(name)}, c.options()...)
		switch {
		case notFound(err):
			return provision.Finding{Check: check, Text: fmt.Sprintf("%s: there is no subnetwork %q; see subnets in the settings", region, name)}
		case err != nil:
			return c.bad(check, region, err)
		}
	}
	return provision.Finding{Check: check, OK: true, Text: fmt.Sprintf("%s: subnetworks %s", project, strings.Join(c.cfg.Settings.Subnets, ", "))}
}

// quotas compares the limits of a region with what the offers need beside what is
// used.
func (c *Cloud) quotas(ctx context.Context, s *sdk, project, name string, offers []provision.Offer) []provision.Finding {
	const check = "quota"
	region, err := s.regions.Get(ctx, &computepb.GetRegionRequest{Project: project, Region: name}, c.options()...)
	if err != nil {
		return []provision.Finding{c.bad(check, name, err)}
	}
	q := quotasOf(region.GetQuotas())
	asked := map[string]float64{}
	var findings []provision.Finding
	for _, o := range offers {
		needs := q.needsOf(o)
		if len(needs) == 0 {
			findings = append(findings, provision.Finding{Check: check, OK: true, Text: fmt.Sprintf("%s: no limit is known for %s", name, o.Type)})
		}
		for _, n := range needs {
			asked[n.metric] += n.amount
		}
	}
	for _, metric := range slices.Sorted(maps.Keys(asked)) {
		findings = append(findings, room(name, q[metric], asked[metric]))
	}
	return findings
}

// globalGPUs compares the limit on GPUs of all regions together with what the
// offers need; the bool is false when they have no GPU, or the project no such
// limit.
func globalGPUs(project *computepb.Project, offers []provision.Offer) (provision.Finding, bool) {
	asked := 0
	for _, o := range offers {
		asked += o.GPUs
	}
	limit := quotasOf(project.GetQuotas())["GPUS_ALL_REGIONS"]
	if asked == 0 || limit == nil {
		return provision.Finding{}, false
	}
	return room("all regions", limit, float64(asked)), true
}

// room says whether a limit leaves room.
func room(where string, limit *computepb.Quota, asked float64) provision.Finding {
	f := provision.Finding{
		Check: "quota", OK: limit.GetUsage()+asked <= limit.GetLimit(),
		Text: fmt.Sprintf("%s: %s: %g, %g in use, %g asked for", where, limit.GetMetric(), limit.GetLimit(), limit.GetUsage(), asked),
	}
	if !f.OK {
		f.Text += fmt.Sprintf("; ask for %g under IAM & Admin → Quotas in Google's console", limit.GetUsage()+asked)
	}
	return f
}
