package emulator

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// gcpType is a machine type of this cloud: a few of the real ones.
type gcpType struct {
	name       string
	arch       string // as Compute Engine names it
	cpus       int
	memory     int // MB
	gpu        string
	gpus       int
	localSSDs  int // that come with it
	shared     bool
	deprecated bool
}

func gcpTypes() []gcpType {
	return []gcpType{
		{name: "a2-highgpu-1g", arch: "X86_64", cpus: 12, memory: 87040, gpu: "nvidia-tesla-a100", gpus: 1},
		{name: "a2-ultragpu-1g", arch: "X86_64", cpus: 12, memory: 174080, gpu: "nvidia-a100-80gb", gpus: 1, localSSDs: 1},
		{name: "c4a-standard-4", arch: "ARM64", cpus: 4, memory: 16384},
		{name: "ct5lp-hightpu-1t", arch: "X86_64", cpus: 24, memory: 49152, gpu: "ct5lp", gpus: 1},
		{name: "e2-medium", arch: "X86_64", cpus: 2, memory: 4096, shared: true},
		{name: "e2-small", arch: "X86_64", cpus: 2, memory: 2048, shared: true},
		{name: "e2-standard-2", arch: "X86_64", cpus: 2, memory: 8192},
		{name: "e2-standard-4", arch: "X86_64", cpus: 4, memory: 16384},
		{name: "f1-micro", arch: "X86_64", cpus: 1, memory: 614, shared: true, deprecated: true},
		{name: "g2-standard-4", arch: "X86_64", cpus: 4, memory: 16384, gpu: "nvidia-l4", gpus: 1},
		{name: "n1-standard-4", arch: "X86_64", cpus: 4, memory: 15360},
		{name: "n1-standard-16", arch: "X86_64", cpus: 16, memory: 61440},
		{name: "n2-standard-4", arch: "X86_64", cpus: 4, memory: 16384},
		{name: "t2d-standard-4", arch: "X86_64", cpus: 4, memory: 16384},
		{name: "z9-standard-4", arch: "X86_64", cpus: 4, memory: 16384}, // of which no price is listed
	}
}

// gcpTypesIn are the types of a zone: those with built-in GPUs are not in the last
// one of their region.
func gcpTypesIn(zone string) []gcpType {
	zones := Zones(GCP, regionOf(zone))
	all := gcpTypes()
	if zone == zones[len(zones)-1] {
		all = slices.DeleteFunc(all, func(t gcpType) bool { return t.gpus > 0 })
	}
	return all
}

func machineTypesIn(zone string) []any {
	var all []any
	for _, t := range gcpTypesIn(zone) {
		shown := map[string]any{
			"kind": "compute#machineType", "id": googleNumber(t.name), "name": t.name, "zone": zone, "architecture": t.arch,
			"guestCpus": t.cpus, "memoryMb": t.memory, "isSharedCpu": t.shared, "description": fmt.Sprintf("%d vCPUs", t.cpus),
			"selfLink": googleLink("projects/" + project + "/zones/" + zone + "/machineTypes/" + t.name),
		}
		if t.gpus > 0 {
			shown["accelerators"] = []any{map[string]any{"guestAcceleratorType": t.gpu, "guestAcceleratorCount": t.gpus}}
		}
		if t.localSSDs > 0 {
			shown["bundledLocalSsds"] = map[string]any{"partitionCount": t.localSSDs, "defaultInterface": "NVME"}
		}
		if t.deprecated {
			shown["deprecated"] = map[string]any{"state": "DEPRECATED"}
		}
		all = append(all, shown)
	}
	return all
}

// acceleratorTypesIn are the accelerators of a zone, among them some that are no
// GPUs to compute with. The first zone of a region has no V100.
func acceleratorTypesIn(zone string) []any {
	var all []any
	for _, a := range []struct {
		name string
		most int
	}{
		{"ct5lp", 8}, {"nvidia-a100-80gb", 8}, {"nvidia-l4", 8}, {"nvidia-l4-vws", 8}, {"nvidia-tesla-a100", 16},
		{"nvidia-tesla-t4", 4}, {"nvidia-tesla-t4-vws", 4}, {"nvidia-tesla-v100", 8},
	} {
		if a.name == "nvidia-tesla-v100" && zone == Zones(GCP, regionOf(zone))[0] {
			continue
		}
		all = append(all, map[string]any{
			"kind": "compute#acceleratorType", "id": googleNumber(a.name), "name": a.name, "maximumCardsPerInstance": a.most,
			"zone":     googleLink("projects/" + project + "/zones/" + zone),
			"selfLink": googleLink("projects/" + project + "/zones/" + zone + "/acceleratorTypes/" + a.name),
		})
	}
	return all
}

// marketPage is how much of what is for sale one answer lists.
const marketPage = 10

func listMarket(kind string, in func(zone string) []any) func(*gcpCall) (any, error) {
	return func(c *gcpCall) (any, error) {
		if err := c.fails("describe", Thing{}); err != nil {
			return nil, err
		}
		page, next, err := gcpPageOf(c, in(c.zone()), "maxResults", marketPage)
		if err != nil {
			return nil, err
		}
		return withNext(map[string]any{"kind": kind, "items": page}, next), nil
	}
}

func aggregatedMarket(name string, in func(zone string) []any) func(*gcpCall) (any, error) {
	return func(c *gcpCall) (any, error) {
		if err := c.fails("describe", Thing{}); err != nil {
			return nil, err
		}
		type placed struct {
			scope string
			item  any
		}
		var all []placed
		for _, region := range Regions(GCP) {
			for _, zone := range Zones(GCP, region) {
				for _, item := range in(zone) {
					all = append(all, placed{"zones/" + zone, item})
				}
			}
		}
		page, next, err := gcpPageOf(c, all, "maxResults", 20*marketPage)
		if err != nil {
			return nil, err
		}
		perScope := map[string][]any{}
		for _, p := range page {
			perScope[p.scope] = append(perScope[p.scope], p.item)
		}
		return aggregate(name, "zones", perScope, next), nil
	}
}

func listRegions(c *gcpCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	var all []any
	for _, region := range Regions(GCP) {
		all = append(all, showRegion(c, region))
	}
	page, next, err := gcpPageOf(c, all, "maxResults", gcpPage)
	if err != nil {
		return nil, err
	}
	return withNext(map[string]any{"kind": "compute#regionList", "items": page}, next), nil
}

func getRegion(c *gcpCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	return showRegion(c, c.region()), nil
}

func showRegion(c *gcpCall, region string) map[string]any {
	path := "projects/" + project + "/regions/" + region
	var zones []string
	for _, zone := range Zones(GCP, region) {
		zones = append(zones, googleLink("projects/"+project+"/zones/"+zone))
	}
	return map[string]any{
		"kind": "compute#region", "id": googleNumber(region), "name": region, "status": "UP", "zones": zones, "selfLink": googleLink(path), "quotas": c.regionQuotas(region),
	}
}

func listZones(c *gcpCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	var all []any
	for _, region := range Regions(GCP) {
		for _, zone := range Zones(GCP, region) {
			all = append(all, map[string]any{
				"kind": "compute#zone", "id": googleNumber(zone), "name": zone, "status": "UP",
				"region": googleLink("projects/" + project + "/regions/" + region), "selfLink": googleLink("projects/" + project + "/zones/" + zone),
			})
		}
	}
	page, next, err := gcpPageOf(c, all, "maxResults", marketPage)
	if err != nil {
		return nil, err
	}
	return withNext(map[string]any{"kind": "compute#zoneList", "items": page}, next), nil
}

func getProject(c *gcpCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	gpus := 0.0
	for _, t := range c.there("google_compute_instance") {
		gpus += gpusOf(t)
	}
	return map[string]any{
		"kind": "compute#project", "id": projectNumber, "name": project, "selfLink": googleLink("projects/" + project),
		"quotas": []any{quota("GPUS_ALL_REGIONS", 16, gpus), quota("CPUS_ALL_REGIONS", 640, 0), quota("FIREWALLS", 200, float64(len(c.there("google_compute_firewall"))))},
	}, nil
}

func quota(metric string, limit, usage float64) any {
	return map[string]any{"metric": metric, "limit": limit, "usage": usage}
}

// regionQuotas are the limits of a region. Of GPUs there are some of T4 and L4, and
// none of the others; of spot there are limits of their own for T4 alone.
func (c *gcpCall) regionQuotas(region string) []any {
	used := map[string]float64{}
	for _, t := range c.there("google_compute_instance") {
		if t.Region != region {
			continue
		}
		used["INSTANCES"]++
		family, _, _ := strings.Cut(t.Type, "-")
		metric := "CPUS"
		if family == "n2" || family == "a2" || family == "t2d" {
			metric = strings.ToUpper(family) + "_CPUS"
		}
		used[metric] += cpusOf(t.Type)
		if strings.HasPrefix(t.Type, "n1-") {
			spot := ""
			if t.Spot {
				spot = "PREEMPTIBLE_"
			}
			used[spot+"NVIDIA_T4_GPUS"] += gpusOf(t)
		}
	}
	var all []any
	for _, q := range []struct {
		metric string
		limit  float64
	}{
		{"CPUS", 72}, {"N2_CPUS", 24}, {"T2D_CPUS", 24}, {"A2_CPUS", 12}, {"PREEMPTIBLE_CPUS", 0}, {"INSTANCES", 720}, {"IN_USE_ADDRESSES", 69},
		{"SSD_TOTAL_GB", 2048}, {"DISKS_TOTAL_GB", 4096},
		{"NVIDIA_T4_GPUS", 4}, {"NVIDIA_L4_GPUS", 1}, {"NVIDIA_V100_GPUS", 0}, {"NVIDIA_A100_GPUS", 0}, {"NVIDIA_A100_80GB_GPUS", 0},
		{"PREEMPTIBLE_NVIDIA_T4_GPUS", 2}, {"PREEMPTIBLE_NVIDIA_L4_GPUS", 0},
	} {
		all = append(all, quota(q.metric, q.limit, used[q.metric]))
	}
	return all
}

func cpusOf(typ string) float64 {
	for _, t := range gcpTypes() {
		if t.name == typ {
			return float64(t.cpus)
		}
	}
	return 0
}

func gpusOf(t Thing) float64 {
	for _, typ := range gcpTypes() {
		if typ.name == t.Type && typ.gpus > 0 {
			return float64(typ.gpus)
		}
	}
	n := 0.0
	for _, g := range values(t.Args).blocks("guest_accelerator") {
		n += g.number("count")
	}
	return n
}

// testIamPermissions answers which of the permissions whoever asks has: all that
// there are, or none when a fault denies the operation "permissions".
func testIamPermissions(c *gcpCall) (any, error) {
	name, found := strings.CutSuffix(c.http.PathValue("resource"), ":testIamPermissions")
	if !found {
		return nil, &gcpError{http.StatusNotFound, "notFound", "There is no method POST " + c.http.URL.Path + " here"}
	}
	if name != project {
		return nil, &gcpError{http.StatusForbidden, "forbidden", "The caller does not have permission"}
	}
	var in struct {
		Permissions []string `json:"permissions"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	var denied *gcpError
	switch err := c.fails("permissions", Thing{}); {
	case errors.As(err, &denied) && denied.reason == "forbidden":
		return map[string]any{}, nil
	case err != nil:
		return nil, err
	}
	for _, p := range in.Permissions {
		if parts := strings.Split(p, "."); len(parts) != 3 || !slices.Contains([]string{"compute", "iam", "resourcemanager"}, parts[0]) {
			return nil, &gcpError{http.StatusBadRequest, "badRequest", fmt.Sprintf("Permission %s is not valid for this resource.", p)}
		}
	}
	return map[string]any{"permissions": in.Permissions}, nil
}
