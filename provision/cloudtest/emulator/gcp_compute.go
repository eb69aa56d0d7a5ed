package emulator

import (
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// googleLink is the link of a path.
func googleLink(path string) string { return "https://www.googleapis.com/compute/v1/" + path }

// collection is what Compute Engine calls things of a kind.
func collection(kind string) string {
	return map[string]string{
		"google_compute_instance": "instances", "google_compute_disk": "disks", "google_compute_firewall": "firewalls",
		"google_compute_resource_policy": "resourcePolicies", "google_compute_network": "networks", "google_compute_subnetwork": "subnetworks",
	}[kind]
}

// googleScope is where a thing is: zones/Z, regions/R or global.
func googleScope(t Thing) string {
	switch {
	case t.Zone != "":
		return "zones/" + t.Zone
	case t.Region != "":
		return "regions/" + t.Region
	}
	return "global"
}

func googlePath(t Thing) string {
	return "projects/" + project + "/" + googleScope(t) + "/" + collection(t.Kind) + "/" + t.ID
}

func googleTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// there gives the things of a kind that exist. Compute Engine does not list what
// is gone.
func (c *gcpCall) there(kind string) []Thing {
	return slices.DeleteFunc(c.api.Things(GCP, kind), func(t Thing) bool { return t.State == Terminated })
}

// find gives the thing that the path names.
func (c *gcpCall) find(kind string) (Thing, error) {
	asked := Thing{Kind: kind, ID: c.name(), Zone: c.zone(), Region: c.region()}
	for _, t := range c.there(kind) {
		if googlePath(t) == googlePath(asked) {
			return t, nil
		}
	}
	return asked, gcpNotFound(googlePath(asked))
}

// fieldOf gives the fields by which things are filtered.
func fieldOf(t Thing) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if label, ok := strings.CutPrefix(name, "labels."); ok {
			v, there := t.Tags[label]
			return v, there
		}
		switch name {
		case "name":
			return t.ID, true
		case "status":
			return GCPState(t.State), true
		}
		return "", false
	}
}

// search gives the things of a kind that pass the request's filter, and are in its
// place if it has one.
func (c *gcpCall) search(kind string) ([]Thing, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	fields := []string{"name"}
	switch kind {
	case "google_compute_instance":
		fields = append(fields, "labels", "status")
	case "google_compute_disk":
		fields = append(fields, "labels")
	}
	filters, err := c.filters(fields...)
	if err != nil {
		return nil, err
	}
	var found []Thing
	for _, t := range c.there(kind) {
		here := (c.zone() == "" || c.zone() == t.Zone) && (c.region() == "" || c.region() == t.Region)
		if here && passesGCP(filters, fieldOf(t)) {
			found = append(found, t)
		}
	}
	slices.SortStableFunc(found, func(a, b Thing) int { return strings.Compare(googlePath(a), googlePath(b)) })
	return found, nil
}

// aggregated lists the things of a kind in all places: each place that there is
// has its part of the page, or a warning that it has none.
func aggregated(kind, name, places string) func(*gcpCall) (any, error) {
	return func(c *gcpCall) (any, error) {
		found, err := c.search(kind)
		if err != nil {
			return nil, err
		}
		page, next, err := gcpPageOf(c, found, "maxResults", gcpPage)
		if err != nil {
			return nil, err
		}
		perScope := map[string][]any{}
		for _, t := range page {
			perScope[googleScope(t)] = append(perScope[googleScope(t)], c.show(t))
		}
		return aggregate(name, places, perScope, next), nil
	}
}

func aggregate(name, places string, perScope map[string][]any, next string) map[string]any {
	items := map[string]any{}
	for _, region := range Regions(GCP) {
		scopes := []string{"regions/" + region}
		if places == "zones" {
			scopes = nil
			for _, zone := range Zones(GCP, region) {
				scopes = append(scopes, "zones/"+zone)
			}
		}
		for _, scope := range scopes {
			items[scope] = map[string]any{"warning": map[string]any{
				"code": "NO_RESULTS_ON_PAGE", "message": fmt.Sprintf("There are no results for scope '%s' on this page.", scope),
				"data": []any{map[string]string{"key": "scope", "value": scope}},
			}}
			if here := perScope[scope]; len(here) > 0 {
				items[scope] = map[string]any{name: here}
			}
		}
	}
	return withNext(map[string]any{"items": items}, next)
}

func withNext(answer map[string]any, next string) map[string]any {
	if next != "" {
		answer["nextPageToken"] = next
	}
	return answer
}

// listed lists the things of a kind in one place.
func listed(kind, answerKind string) func(*gcpCall) (any, error) {
	return func(c *gcpCall) (any, error) {
		found, err := c.search(kind)
		if err != nil {
			return nil, err
		}
		page, next, err := gcpPageOf(c, found, "maxResults", gcpPage)
		if err != nil {
			return nil, err
		}
		items := []any{}
		for _, t := range page {
			items = append(items, c.show(t))
		}
		return withNext(map[string]any{"kind": answerKind, "items": items}, next), nil
	}
}

func got(kind string) func(*gcpCall) (any, error) {
	return func(c *gcpCall) (any, error) {
		t, missing := c.find(kind)
		if err := c.fails("describe", t); err != nil {
			return nil, err
		}
		if missing != nil {
			return nil, missing
		}
		return c.show(t), nil
	}
}

// show gives a thing as Compute Engine does.
func (c *gcpCall) show(t Thing) map[string]any {
	shown := map[string]any{
		"id": googleID(&t), "name": t.ID, "selfLink": googleLink(googlePath(t)), "creationTimestamp": googleTime(t.CreatedAt),
	}
	args := values(t.Args)
	switch t.Kind {
	case "google_compute_instance":
		maps.Copy(shown, c.showInstance(t))
	case "google_compute_disk":
		shown["kind"], shown["zone"], shown["status"] = "compute#disk", googleLink("projects/"+project+"/zones/"+t.Zone), "READY"
		shown["type"] = googleLink("projects/" + project + "/zones/" + t.Zone + "/diskTypes/pd-balanced")
		shown["labels"], shown["labelFingerprint"] = t.Tags, fingerprint(t.Tags)
		if i, ok := c.ownerOf(t); ok {
			shown["users"] = []string{googleLink(googlePath(i))}
		}
	case "google_compute_firewall":
		shown["kind"], shown["direction"] = "compute#firewall", "INGRESS"
		shown["description"], shown["network"] = args.str("description"), googleLink("projects/"+project+"/global/networks/"+last(args.str("network")))
		shown["sourceRanges"], shown["targetTags"] = args.strings("source_ranges"), args.strings("target_tags")
	case "google_compute_resource_policy":
		shown["kind"], shown["region"], shown["status"] = "compute#resourcePolicy", googleLink("projects/"+project+"/regions/"+t.Region), "READY"
		if p := args.block("group_placement_policy"); p != nil {
			shown["groupPlacementPolicy"] = map[string]any{"collocation": p.str("collocation")}
		}
	}
	return shown
}

func (c *gcpCall) showInstance(t Thing) map[string]any {
	args := values(t.Args)
	in := "projects/" + project + "/zones/" + t.Zone
	model := "STANDARD"
	if t.Spot {
		model = "SPOT"
	}
	scheduling := map[string]any{"provisioningModel": model, "preemptible": t.Spot, "automaticRestart": false}
	if action := args.block("scheduling").str("instance_termination_action"); action != "" {
		scheduling["instanceTerminationAction"] = action
	}
	disks := []any{}
	for _, d := range c.there("google_compute_disk") {
		if i, ok := c.ownerOf(d); ok && googlePath(i) == googlePath(t) {
			disks = append(disks, map[string]any{
				"kind": "compute#attachedDisk", "boot": true, "source": googleLink(googlePath(d)),
				"autoDelete": args.block("boot_disk").boolean("auto_delete", true),
			})
		}
	}
	gpus := []any{}
	for _, g := range args.blocks("guest_accelerator") {
		gpus = append(gpus, map[string]any{"acceleratorType": googleLink(in + "/acceleratorTypes/" + last(g.str("type"))), "acceleratorCount": int(g.number("count"))})
	}
	return map[string]any{
		"kind": "compute#instance", "zone": googleLink(in), "machineType": googleLink(in + "/machineTypes/" + t.Type),
		"status": GCPState(t.State), "labels": t.Tags, "labelFingerprint": fingerprint(t.Tags),
		"scheduling": scheduling, "disks": disks, "guestAccelerators": gpus,
	}
}

// ownerOf gives the instance that a boot disk belongs to, which has its name.
func (c *gcpCall) ownerOf(disk Thing) (Thing, bool) {
	for _, i := range c.there("google_compute_instance") {
		if i.ID == disk.ID && i.Zone == disk.Zone {
			return i, true
		}
	}
	return Thing{}, false
}

// fingerprint changes with the labels.
func fingerprint(labels map[string]string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, k+"="+labels[k])
	}
	return fmt.Sprintf("%08x=", crc32.ChecksumIEEE([]byte(strings.Join(all, "\n"))))
}

// deleteInstance begins to end an instance; its operation is done when it is gone.
func deleteInstance(c *gcpCall) (any, error) {
	t, missing := c.find("google_compute_instance")
	if err := c.fails("terminate", t); err != nil {
		return nil, err
	}
	if missing != nil {
		return nil, missing
	}
	switch err := c.api.Terminate(GCP, t.ID, "delete"); {
	case errors.Is(err, ErrNotFound):
		return nil, gcpNotFound(googlePath(t))
	case err != nil:
		return nil, err
	}
	return gcpOperation{typ: "delete", path: googlePath(t), begun: time.Now()}.show("RUNNING"), nil
}

// deleted deletes a thing that is not an instance.
func deleted(kind string) func(*gcpCall) (any, error) {
	return func(c *gcpCall) (any, error) {
		t, missing := c.find(kind)
		if err := c.fails("delete", t); err != nil {
			return nil, err
		}
		if missing != nil {
			return nil, missing
		}
		path := googlePath(t)
		switch err := c.api.Delete(GCP, kind, t.ID); {
		case errors.Is(err, ErrNotFound):
			return nil, gcpNotFound(path)
		case errors.Is(err, ErrInUse):
			return nil, &gcpError{http.StatusBadRequest, "resourceInUseByAnotherResource", fmt.Sprintf("The resource '%s' is already being used by another resource", path)}
		case err != nil:
			return nil, err
		}
		return gcpOperation{typ: "delete", path: path, begun: time.Now()}.show("RUNNING"), nil
	}
}

// setLabels replaces the labels of an instance. Here none can be taken away.
func setLabels(c *gcpCall) (any, error) {
	t, missing := c.find("google_compute_instance")
	if err := c.fails("tag", t); err != nil {
		return nil, err
	}
	if missing != nil {
		return nil, missing
	}
	var in struct {
		Labels           map[string]string `json:"labels"`
		LabelFingerprint string            `json:"labelFingerprint"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	if in.LabelFingerprint != fingerprint(t.Tags) {
		return nil, &gcpError{http.StatusPreconditionFailed, "conditionNotMet", "Labels fingerprint either invalid or resource labels have changed"}
	}
	if err := checkLabels(in.Labels); err != nil {
		return nil, invalid("Invalid value for field 'resource.labels': %v", err)
	}
	for k := range t.Tags {
		if _, kept := in.Labels[k]; !kept {
			return nil, invalid("Invalid value for field 'resource.labels': label '%s' cannot be taken away here", k)
		}
	}
	if err := c.api.Tag(GCP, t.ID, in.Labels); err != nil {
		return nil, err
	}
	return gcpOperation{typ: "setLabels", path: googlePath(t), begun: time.Now()}.show("RUNNING"), nil
}

func getNetwork(c *gcpCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	path := "projects/" + project + "/global/networks/" + c.name()
	network := map[string]any{"kind": "compute#network", "name": c.name(), "selfLink": googleLink(path), "autoCreateSubnetworks": true}
	if c.name() == "default" {
		return network, nil
	}
	t, err := c.find("google_compute_network")
	if err != nil {
		return nil, err
	}
	network["autoCreateSubnetworks"] = values(t.Args).boolean("auto_create_subnetworks", true)
	return network, nil
}

func getSubnetwork(c *gcpCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	network := "default"
	if c.name() != "default" {
		t, err := c.find("google_compute_subnetwork")
		if err != nil {
			return nil, err
		}
		network = last(values(t.Args).str("network"))
	}
	return map[string]any{
		"kind": "compute#subnetwork", "name": c.name(), "region": googleLink("projects/" + project + "/regions/" + c.region()),
		"network":  googleLink("projects/" + project + "/global/networks/" + network),
		"selfLink": googleLink("projects/" + project + "/regions/" + c.region() + "/subnetworks/" + c.name()),
	}, nil
}
