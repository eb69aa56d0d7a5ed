package emulator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// configureGCP takes the provider block.
func (s *session) configureGCP(in values) error {
	s.project, s.region, s.zone = in.str("project"), in.str("region"), in.str("zone")
	if s.project == "" {
		s.project = project // from GOOGLE_PROJECT, see Env
	}
	if s.region == "" && s.zone != "" {
		s.region = regionOf(s.zone)
	}
	if s.project != project {
		return fmt.Errorf("project %s does not exist here: this is %s", s.project, project)
	}
	if _, ok := zonesOfGCP()[s.region]; s.region != "" && !ok {
		return fmt.Errorf("unknown region %q", s.region)
	}
	s.tags = in.stringMap("default_labels")
	return nil
}

// googleError is an answer of the API that is an error, in the words of the
// provider.
func googleError(what string, status int, reason, format string, args ...any) error {
	return fmt.Errorf("%s: googleapi: Error %d: %s, %s", what, status, fmt.Sprintf(format, args...), reason)
}

// tfFaultGCP is what the provider says for a fault.
// https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation
func tfFaultGCP(kind FaultKind, r request, what string) error {
	zone := "projects/" + project + "/zones/" + r.zone
	switch kind {
	case FaultCapacity:
		return googleError(what, 503, "ZONE_RESOURCE_POOL_EXHAUSTED",
			"The zone '%s' does not have enough resources available to fulfill the request.  Try a different zone, or try again later.", zone)
	case FaultSpot: // this one comes when the operation has been waited for
		return verbatim("Error waiting for instance to create: The zone '%s' does not have enough resources available to fulfill the request.  '(resource type:compute)'.", zone)
	case FaultQuota:
		if strings.HasPrefix(r.typ, "n1-") {
			return googleError(what, 403, "quotaExceeded", "Quota 'NVIDIA_T4_GPUS' exceeded.  Limit: 0.0 in region %s.", r.region)
		}
		return verbatim("Error waiting for instance to create: Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally.")
	case FaultThrottled:
		return googleError(what, 403, "rateLimitExceeded",
			"Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service 'compute.googleapis.com' for consumer 'project_number:%s'.", projectNumber)
	case FaultExpired:
		return fmt.Errorf(`%s: Post "https://compute.googleapis.com/compute/v1/%s/instances?alt=json&prettyPrint=false": oauth2: "invalid_grant" "Token has been expired or revoked."`, what, zone)
	case FaultDenied:
		return googleError(what, 403, "forbidden", "Required 'compute.instances.create' permission for '%s/instances/'", zone)
	}
	return googleError(what, 500, "backendError", "Internal error")
}

func gcpInUse(t *Thing) error {
	return googleError("Error deleting "+t.Kind, 400, "resourceInUseByAnotherResource", "The resource '%s' is already being used by another resource", t.stateID)
}

// taken is what the API says of a name that something else has.
func taken(what, path string) error {
	return googleError(what, 409, "alreadyExists", "The resource '%s' already exists", path)
}

func gcpResources() map[string]resource {
	no, yes := cty.False, cty.True
	return map[string]resource{
		"google_compute_instance": {
			defaults: map[string]cty.Value{
				"can_ip_forward": no, "deletion_protection": no,
				"boot_disk.auto_delete": yes, "boot_disk.mode": cty.StringVal("READ_WRITE"),
				"scheduling.automatic_restart": yes, "scheduling.preemptible": no,
			},
			filled: []string{
				"boot_disk.initialize_params", "confidential_instance_config", "guest_accelerator", "reservation_affinity",
				"scheduling", "shielded_instance_config",
			},
			forceNew: []string{"boot_disk", "description", "guest_accelerator", "hostname", "name", "network_interface", "project", "service_account", "zone"},
			updated:  []string{"metadata", "tags", "deletion_protection"},
			check:    checkGCPInstance, promise: promiseLabels, create: createGCPInstance, live: liveGCPInstance,
		},
		"google_compute_firewall": {
			defaults: map[string]cty.Value{"priority": cty.NumberIntVal(1000)},
			forceNew: []string{"direction", "name", "network", "project"},
			updated:  []string{"allow", "deny", "description", "destination_ranges", "disabled", "priority", "source_ranges", "source_tags", "target_tags"},
			create:   createFirewall,
		},
		"google_compute_network": {
			defaults: map[string]cty.Value{"auto_create_subnetworks": yes, "delete_default_routes_on_create": no},
			forceNew: []string{"auto_create_subnetworks", "description", "mtu", "name", "project"},
			updated:  []string{"routing_mode"},
			create:   createNetwork,
		},
		"google_compute_subnetwork": {
			forceNew: []string{"description", "ip_cidr_range", "name", "network", "project", "region"},
			updated:  []string{"private_ip_google_access"},
			create:   createSubnetwork,
		},
		"google_compute_resource_policy": {
			forceNew: []string{"description", "group_placement_policy", "name", "project", "region"},
			create:   createResourcePolicy,
		},
	}
}

// promiseLabels says what labels there will be: the resource's, those of the
// provider block, and the one by which the provider marks what it makes.
func promiseLabels(s *session, planned, _ cty.Value) map[string]cty.Value {
	labels := planned.GetAttr("labels")
	if !labels.IsWhollyKnown() {
		return nil
	}
	all := s.allTags(plainObject(planned).stringMap("labels"))
	promised := map[string]cty.Value{"terraform_labels": stringMapValue(all)}
	effective := maps.Clone(all)
	effective["goog-terraform-provisioned"] = "true"
	promised["effective_labels"] = stringMapValue(effective)
	return promised
}

// googleName is what names of things have to look like.
// https://cloud.google.com/compute/docs/naming-resources
var googleName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)

// checkLabels refuses labels that GCP refuses.
// https://cloud.google.com/compute/docs/labeling-resources#requirements
func checkLabels(labels map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if !regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`).MatchString(k) {
			return verbatim("Label key '%s' violates format constraints. The key must start with a lowercase character, can only contain lowercase letters, numeric characters, underscores and dashes.", k)
		}
		if !regexp.MustCompile(`^[a-z0-9_-]{0,63}$`).MatchString(labels[k]) {
			return verbatim("Label value '%s' violates format constraints. The value can only contain lowercase letters, numeric characters, underscores and dashes. The value can be at most 63 characters long.", labels[k])
		}
	}
	return nil
}

func checkGCPInstance(in values) error {
	if name := in.str("name"); name != "" && !googleName.MatchString(name) {
		return fmt.Errorf(`"name" (%q) doesn't match regexp "^(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)$"`, name)
	}
	return nil
}

// googleThing starts a thing of GCP. where is "global/firewalls",
// "zones/Z/instances", …
func (s *session) googleThing(kind, where, name string, in values) *Thing {
	t := &Thing{
		Cloud: GCP, Kind: kind, ID: name, Name: name, Args: in, CreatedAt: time.Now(),
		stateID: "projects/" + s.project + "/" + where + "/" + name,
	}
	t.Tags = s.allTags(in.stringMap("labels"))
	return t
}

func (t *Thing) selfLink() string { return "https://www.googleapis.com/compute/v1/" + t.stateID }

func (t *Thing) sameAs(other *Thing) bool { return t.stateID == other.stateID }

// googleAnswers are the attributes that all have.
func (t *Thing) googleAnswers() values {
	return values{
		"id": t.stateID, "self_link": t.selfLink(), "project": project,
		"creation_timestamp": t.CreatedAt.UTC().Format("2006-01-02T15:04:05.000-07:00"),
	}
}

// last is the last part of a path or link.
func last(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// network finds a network by name or link: the default one, or one that was made.
func (s *session) network(link string) (name string, err error) {
	name = last(link)
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if name == "default" || name != "" && s.e.findID(GCP, "google_compute_network", name) != nil {
		return name, nil
	}
	return "", verbatim("The resource 'projects/%s/global/networks/%s' was not found", s.project, name)
}

// subnetwork finds a subnetwork of a region by name or link, "" being the default
// network's, and gives what an instance in it needs.
func (s *session) subnetwork(region, link, network string) (name string, uses []string, err error) {
	name = last(link)
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	made := s.e.find(GCP, func(t *Thing) bool {
		if t.Kind != "google_compute_subnetwork" || t.Region != region {
			return false
		}
		return t.Name == name || name == "" && last(values(t.Args).str("network")) == network
	})
	switch {
	case made != nil:
		return made.Name, []string{made.ID}, nil
	case (name == "" || name == "default") && (network == "" || network == "default"):
		return "default", nil, nil
	case name == "":
		return "", nil, verbatim("Network '%s' has no subnetwork in region %s", network, region)
	}
	return "", nil, verbatim("The resource 'projects/%s/regions/%s/subnetworks/%s' was not found", s.project, region, name)
}

// createGCPInstance is instances.insert, and the wait for its operation.
func createGCPInstance(ctx context.Context, s *session, in values) (*Thing, values, error) {
	const doing = "Error creating instance"
	t, err := s.newGCPInstance(in)
	if err != nil {
		return nil, nil, googleError(doing, 400, "invalid", "Invalid value: %v", err)
	}
	r := request{cloud: GCP, op: "create", region: t.Region, zone: t.Zone, typ: t.Type, spot: t.Spot, instance: true}
	fault, hit := s.e.check(ctx, r)
	s.e.count("instances.insert")
	switch {
	case hit && fault == FaultHang:
		return nil, nil, fmt.Errorf("%s: Post \"https://compute.googleapis.com/compute/v1/\": %w", doing, context.Canceled)
	case hit && fault == FaultNoBoot:
		t.life.noBoot = true
	case hit && fault != FaultLost && fault != FaultUnsaid:
		return nil, nil, tfFaultGCP(fault, r, doing)
	}
	if !s.e.add(t, t.sameAs) {
		return nil, nil, taken(doing, t.stateID)
	}
	boot := in.block("boot_disk")
	disk := s.googleThing("google_compute_disk", "zones/"+t.Zone+"/disks", t.ID, boot)
	disk.Zone, disk.Region, disk.Tags = t.Zone, t.Region, boot.block("initialize_params").stringMap("labels")
	if !s.e.add(disk, disk.sameAs) {
		s.e.mu.Lock()
		s.e.drop(func(other *Thing) bool { return other == t })
		s.e.mu.Unlock()
		return nil, nil, taken(doing, disk.stateID)
	}
	if boot.boolean("auto_delete", true) {
		t.disk = disk
	}
	s.e.launch(t)
	answers := gcpAnswers(t, disk, in)
	if hit && (fault == FaultLost || fault == FaultUnsaid) {
		return t, answers, errLost
	}
	err = s.e.await(ctx, func() bool { return t.State != Pending })
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	switch {
	case err != nil:
		err = fmt.Errorf("Error waiting for instance to create: %w", err)
	case t.State != Running:
		err = fmt.Errorf("Error waiting for instance to create: %s", t.Reason)
	}
	answers["current_status"] = GCPState(t.State)
	return t, answers, err
}

// newGCPInstance makes what instances.insert would, or says what is wrong with it.
func (s *session) newGCPInstance(in values) (*Thing, error) {
	zone := last(in.str("zone"))
	if zone == "" {
		zone = s.zone
	}
	region := regionOf(zone)
	if !slices.Contains(Zones(GCP, region), zone) {
		return nil, fmt.Errorf("unknown zone '%s'", zone)
	}
	t := s.googleThing("google_compute_instance", "zones/"+zone+"/instances", in.str("name"), in)
	t.Region, t.Zone, t.Type = region, zone, last(in.str("machine_type"))
	t.Tags["goog-terraform-provisioned"] = "true"
	if !googleName.MatchString(t.ID) || !validType(GCP, t.Type) {
		return nil, fmt.Errorf("name '%s' or machine type '%s'", t.ID, t.Type)
	}
	if err := checkLabels(t.Tags); err != nil {
		return nil, err
	}
	params := in.block("boot_disk").block("initialize_params")
	if err := checkLabels(params.stringMap("labels")); err != nil {
		return nil, err
	}
	image, ok := gcpImage(params.str("image"))
	switch {
	case !ok:
		return nil, verbatim("Could not find image or family %s", params.str("image"))
	case image.arch != archOfType(GCP, t.Type):
		return nil, fmt.Errorf("image %s is for %s, machine type %s is not", image.id, image.arch, t.Type)
	case params.number("size") != 0 && params.number("size") < image.disk:
		return nil, verbatim("Requested disk size cannot be smaller than the image size (%v GB)", image.disk)
	}
	b, err := gcpBirth(t, in)
	if err != nil {
		return nil, err
	}
	if err := s.connect(t, in); err != nil {
		return nil, err
	}
	t.life = newLife(b)
	return t, nil
}

// connect finds the networks and policies that the instance needs.
func (s *session) connect(t *Thing, in values) error {
	nic := in.block("network_interface")
	network := last(nic.str("network"))
	if network != "" {
		if _, err := s.network(network); err != nil {
			return err
		}
		if network != "default" {
			t.Uses = append(t.Uses, network)
		}
	}
	_, uses, err := s.subnetwork(t.Region, nic.str("subnetwork"), network)
	if err != nil {
		return err
	}
	t.Uses = append(t.Uses, uses...)
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	for _, link := range in.strings("resource_policies") {
		policy := s.e.findID(GCP, "google_compute_resource_policy", last(link))
		if policy == nil || policy.Region != t.Region {
			return verbatim("The resource policy '%s' was not found in region %s", link, t.Region)
		}
		t.Uses = append(t.Uses, policy.ID)
	}
	return nil
}

// gcpBirth reads scheduling and metadata.
func gcpBirth(t *Thing, in values) (birth, error) {
	b := birth{whenOff: Stopped, offWords: "compute.instances.guestTerminate", preemptEnd: Stopped, maxRunEnd: Stopped}
	scheduling := in.block("scheduling")
	t.Spot = scheduling.str("provisioning_model") == "SPOT" || scheduling.boolean("preemptible", false)
	action := scheduling.str("instance_termination_action")
	b.maxRun = scheduling.block("max_run_duration").number("seconds")
	gpus := len(in.list("guest_accelerator")) > 0 || regexp.MustCompile(`^(a2|a3|a4|g2|g4)-`).MatchString(t.Type)
	switch {
	case t.Spot && scheduling.boolean("automatic_restart", true):
		return b, errors.New("scheduling: automatic restart is not supported for preemptible instances")
	case action != "" && !t.Spot && b.maxRun == 0:
		return b, errors.New("scheduling: instanceTerminationAction is only allowed for Spot instances and instances with a limited run time")
	case b.maxRun != 0 && action == "":
		return b, errors.New("scheduling: you must specify an instanceTerminationAction for an instance with a limited run time")
	case b.maxRun != 0 && (b.maxRun < 30 || b.maxRun > 120*24*3600):
		return b, errors.New("scheduling: maxRunDuration must be between 30 seconds and 120 days")
	case gpus && scheduling.str("on_host_maintenance") != "TERMINATE":
		return b, verbatim("Instances with guest accelerators do not support live migration.")
	case t.Spot && scheduling.str("on_host_maintenance") == "MIGRATE":
		return b, errors.New("scheduling: onHostMaintenance must be TERMINATE for preemptible instances")
	case len(in.list("guest_accelerator")) > 0 && !strings.HasPrefix(t.Type, "n1-"):
		return b, fmt.Errorf("[%s, guest accelerators] features are not compatible for creating instance", t.Type)
	}
	if action == "DELETE" {
		b.preemptEnd, b.maxRunEnd = Terminated, Terminated
	}
	metadata := in.stringMap("metadata")
	var keys []string
	for line := range strings.Lines(metadata["ssh-keys"]) {
		if line = strings.TrimSpace(line); line != "" {
			keys = append(keys, line)
		}
	}
	if len(keys) > 1 {
		return b, errors.New("instances here let in one SSH key")
	}
	if len(keys) == 1 {
		user, key, ok := strings.Cut(keys[0], ":")
		if !ok || user == "" || strings.EqualFold(metadata["enable-oslogin"], "true") {
			return b, errors.New("ssh-keys is not USER:KEY, or OS Login is on and nobody looks at it")
		}
		b.clientKey = key
	}
	var err error
	b.user, err = parseUserData([]byte(metadata["user-data"]))
	return b, err
}

// gcpAnswers are the attributes that GCP decides on.
func gcpAnswers(t, disk *Thing, in values) values {
	nic := in.block("network_interface")
	link := func(where, name, otherwise string) string {
		if name == "" {
			name = otherwise
		}
		return "https://www.googleapis.com/compute/v1/projects/" + project + "/" + where + "/" + last(name)
	}
	access := []any{}
	for range nic.list("access_config") {
		access = append(access, map[string]any{"nat_ip": t.life.address, "network_tier": "PREMIUM"})
	}
	scheduling := in.block("scheduling")
	model := "STANDARD"
	if t.Spot {
		model = "SPOT"
	}
	answers := t.googleAnswers()
	maps.Copy(answers, values{
		"zone": t.Zone, "instance_id": googleID(t), "current_status": GCPState(t.State), "cpu_platform": "Intel Broadwell",
		"boot_disk": []any{map[string]any{
			"source": disk.selfLink(), "device_name": "persistent-disk-0",
			"initialize_params": []any{map[string]any{
				"image": "https://www.googleapis.com/compute/v1/" + in.block("boot_disk").block("initialize_params").str("image"),
				"size":  10, "type": "pd-standard",
			}},
		}},
		"network_interface": []any{map[string]any{
			"name": "nic0", "network_ip": t.life.address, "stack_type": "IPV4_ONLY", "subnetwork_project": project,
			"network":       link("global/networks", nic.str("network"), "default"),
			"subnetwork":    link("regions/"+t.Region+"/subnetworks", nic.str("subnetwork"), "default"),
			"access_config": access,
		}},
		"scheduling": []any{map[string]any{
			"on_host_maintenance": "MIGRATE", "provisioning_model": model, "automatic_restart": true, "preemptible": scheduling.boolean("preemptible", false),
		}},
		"shielded_instance_config": []any{map[string]any{"enable_integrity_monitoring": true, "enable_vtpm": true, "enable_secure_boot": false}},
	})
	return answers
}

// GCPState is what Compute Engine calls a state.
func GCPState(s State) string {
	return map[State]string{
		Pending: "PROVISIONING", Running: "RUNNING", Terminating: "STOPPING", Stopped: "TERMINATED", Terminated: "TERMINATED",
	}[s]
}

func liveGCPInstance(t *Thing) values {
	own := map[string]string{}
	for k := range plainObject(t.state).stringMap("labels") {
		if v, ok := t.Tags[k]; ok {
			own[k] = v
		}
	}
	live := values{"current_status": GCPState(t.State), "effective_labels": t.Tags}
	if len(own) > 0 {
		live["labels"] = own
	}
	return live
}

func createFirewall(ctx context.Context, s *session, in values) (*Thing, values, error) {
	const doing = "Error creating Firewall"
	if err := s.refused(ctx, doing, doing); err != nil {
		return nil, nil, err
	}
	t := s.googleThing("google_compute_firewall", "global/firewalls", in.str("name"), in)
	network, err := s.network(in.str("network"))
	if err != nil {
		return nil, nil, googleError(doing, 404, "notFound", "%v", err)
	}
	switch {
	case !googleName.MatchString(t.ID):
		return nil, nil, googleError(doing, 400, "invalid", "Invalid value for field 'resource.name': '%s'", t.ID)
	case len(in.list("allow")) == 0 && len(in.list("deny")) == 0:
		return nil, nil, googleError(doing, 400, "required", "Required field 'resource.allowed' or 'resource.denied' not specified")
	}
	if network != "default" {
		t.Uses = []string{network}
	}
	if !s.e.add(t, t.sameAs) {
		return nil, nil, taken(doing, t.stateID)
	}
	answers := t.googleAnswers()
	answers["direction"] = "INGRESS"
	return t, answers, nil
}

func createNetwork(ctx context.Context, s *session, in values) (*Thing, values, error) {
	const doing = "Error creating Network"
	if err := s.refused(ctx, doing, doing); err != nil {
		return nil, nil, err
	}
	t := s.googleThing("google_compute_network", "global/networks", in.str("name"), in)
	if t.ID == "default" || !s.e.add(t, t.sameAs) {
		return nil, nil, taken(doing, t.stateID)
	}
	answers := t.googleAnswers()
	answers["network_id"], answers["numeric_id"], answers["routing_mode"], answers["mtu"] = googleID(t), googleID(t), "REGIONAL", 1460
	return t, answers, nil
}

func createSubnetwork(ctx context.Context, s *session, in values) (*Thing, values, error) {
	const doing = "Error creating Subnetwork"
	if err := s.refused(ctx, doing, doing); err != nil {
		return nil, nil, err
	}
	region := in.str("region")
	if region == "" {
		region = s.region
	}
	network, err := s.network(in.str("network"))
	if _, ok := zonesOfGCP()[region]; err == nil && !ok {
		err = fmt.Errorf("unknown region '%s'", region)
	}
	if err != nil {
		return nil, nil, googleError(doing, 404, "notFound", "%v", err)
	}
	t := s.googleThing("google_compute_subnetwork", "regions/"+region+"/subnetworks", in.str("name"), in)
	t.Region = region
	if network != "default" {
		t.Uses = []string{network}
	}
	if t.ID == "default" || !s.e.add(t, t.sameAs) {
		return nil, nil, taken(doing, t.stateID)
	}
	answers := t.googleAnswers()
	answers["region"], answers["gateway_address"], answers["stack_type"], answers["purpose"] = region, "10.0.0.1", "IPV4_ONLY", "PRIVATE"
	return t, answers, nil
}

func createResourcePolicy(ctx context.Context, s *session, in values) (*Thing, values, error) {
	const doing = "Error creating ResourcePolicy"
	if err := s.refused(ctx, doing, doing); err != nil {
		return nil, nil, err
	}
	region := in.str("region")
	if region == "" {
		region = s.region
	}
	if _, ok := zonesOfGCP()[region]; !ok {
		return nil, nil, googleError(doing, 404, "notFound", "unknown region '%s'", region)
	}
	t := s.googleThing("google_compute_resource_policy", "regions/"+region+"/resourcePolicies", in.str("name"), in)
	t.Region = region
	if !googleName.MatchString(t.ID) {
		return nil, nil, googleError(doing, 400, "invalid", "Invalid value for field 'resource.name': '%s'", t.ID)
	}
	if !s.e.add(t, t.sameAs) {
		return nil, nil, taken(doing, t.stateID)
	}
	answers := t.googleAnswers()
	answers["region"] = region
	return t, answers, nil
}
