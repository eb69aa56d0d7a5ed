package emulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

func (e *Emulator) serveGCP(w http.ResponseWriter, r *http.Request) {
	gcpHandler{api: e, count: e.count}.ServeHTTP(w, r)
}

// GCPHandler serves the APIs of Compute Engine, Cloud Resource Manager and Cloud
// Billing over the things of a cloud, all at one address.
func GCPHandler(api API) http.Handler { return gcpHandler{api: api, count: func(string) {}} }

type gcpHandler struct {
	api   API
	count func(method string)
}

// gcpMethod is one method of the APIs, by the name that its reference gives it.
type gcpMethod struct {
	name string
	do   func(*gcpCall) (any, error)
}

// gcpMethods are the methods that this cloud knows, by verb and path.
func gcpMethods() map[string]gcpMethod {
	const compute = "/compute/v1/projects/{project}"
	const zone, region, global = compute + "/zones/{zone}", compute + "/regions/{region}", compute + "/global"
	methods := map[string]gcpMethod{
		"GET " + compute: {"projects.get", getProject},

		"GET " + compute + "/aggregated/instances":        {"instances.aggregatedList", aggregated("google_compute_instance", "instances", "zones")},
		"GET " + compute + "/aggregated/disks":            {"disks.aggregatedList", aggregated("google_compute_disk", "disks", "zones")},
		"GET " + compute + "/aggregated/resourcePolicies": {"resourcePolicies.aggregatedList", aggregated("google_compute_resource_policy", "resourcePolicies", "regions")},
		"GET " + compute + "/aggregated/machineTypes":     {"machineTypes.aggregatedList", aggregatedMarket("machineTypes", machineTypesIn)},
		"GET " + compute + "/aggregated/acceleratorTypes": {"acceleratorTypes.aggregatedList", aggregatedMarket("acceleratorTypes", acceleratorTypesIn)},

		"GET " + zone + "/instances":                   {"instances.list", listed("google_compute_instance", "compute#instanceList")},
		"GET " + zone + "/instances/{name}":            {"instances.get", got("google_compute_instance")},
		"DELETE " + zone + "/instances/{name}":         {"instances.delete", deleteInstance},
		"POST " + zone + "/instances/{name}/setLabels": {"instances.setLabels", setLabels},
		"GET " + zone + "/disks":                       {"disks.list", listed("google_compute_disk", "compute#diskList")},
		"GET " + zone + "/disks/{name}":                {"disks.get", got("google_compute_disk")},
		"DELETE " + zone + "/disks/{name}":             {"disks.delete", deleted("google_compute_disk")},
		"GET " + zone + "/machineTypes":                {"machineTypes.list", listMarket("compute#machineTypeList", machineTypesIn)},
		"GET " + zone + "/acceleratorTypes":            {"acceleratorTypes.list", listMarket("compute#acceleratorTypeList", acceleratorTypesIn)},
		"GET " + zone + "/operations":                  {"zoneOperations.list", listOperations},

		"GET " + compute + "/zones":                     {"zones.list", listZones},
		"GET " + compute + "/regions":                   {"regions.list", listRegions},
		"GET " + region:                                 {"regions.get", getRegion},
		"GET " + region + "/subnetworks/{name}":         {"subnetworks.get", getSubnetwork},
		"GET " + region + "/resourcePolicies/{name}":    {"resourcePolicies.get", got("google_compute_resource_policy")},
		"DELETE " + region + "/resourcePolicies/{name}": {"resourcePolicies.delete", deleted("google_compute_resource_policy")},

		"GET " + global + "/firewalls":           {"firewalls.list", listed("google_compute_firewall", "compute#firewallList")},
		"GET " + global + "/firewalls/{name}":    {"firewalls.get", got("google_compute_firewall")},
		"DELETE " + global + "/firewalls/{name}": {"firewalls.delete", deleted("google_compute_firewall")},
		"GET " + global + "/networks/{name}":     {"networks.get", getNetwork},

		"POST /v1/projects/{resource}":    {"projects.testIamPermissions", testIamPermissions},
		"GET /v1/services/{service}/skus": {"services.skus.list", listSKUs},
	}
	for where, name := range map[string]string{zone: "zoneOperations", region: "regionOperations", global: "globalOperations"} {
		methods["GET "+where+"/operations/{operation}"] = gcpMethod{name + ".get", getOperation}
		methods["POST "+where+"/operations/{operation}/wait"] = gcpMethod{name + ".wait", waitOperation}
	}
	return methods
}

// ServeHTTP answers one request.
func (h gcpHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mux := http.NewServeMux()
	for pattern, m := range gcpMethods() {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { h.answer(w, r, m) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		failJSON(w, &gcpError{http.StatusNotFound, "notFound", fmt.Sprintf("There is no method %s %s here", r.Method, r.URL.Path)})
	})
	mux.ServeHTTP(w, r)
}

func (h gcpHandler) answer(w http.ResponseWriter, r *http.Request, m gcpMethod) {
	h.count(m.name)
	call := &gcpCall{api: h.api, http: r, read: map[string]bool{}}
	answer, err := any(nil), call.admit()
	if err == nil {
		answer, err = m.do(call)
	}
	if err == nil {
		err = call.unread()
	}
	if call.unsaid || r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the connection breaks
	}
	if err != nil {
		failJSON(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	json.NewEncoder(w).Encode(answer)
}

// gcpError is an error of the APIs. The reason is what clients go by.
type gcpError struct {
	status          int
	reason, message string
}

func (e *gcpError) Error() string { return e.reason + ": " + e.message }

func invalid(format string, args ...any) error {
	return &gcpError{http.StatusBadRequest, "invalid", fmt.Sprintf(format, args...)}
}

func gcpNotFound(path string) error {
	return &gcpError{http.StatusNotFound, "notFound", fmt.Sprintf("The resource '%s' was not found", path)}
}

func failJSON(w http.ResponseWriter, err error) {
	var e *gcpError
	if !errors.As(err, &e) {
		e = &gcpError{http.StatusInternalServerError, "backendError", err.Error()}
	}
	domain := "global"
	if strings.Contains(strings.ToLower(e.reason), "limitexceeded") || e.reason == "quotaExceeded" {
		domain = "usageLimits"
	}
	body := map[string]any{
		"code": e.status, "message": e.message,
		"errors": []any{map[string]string{"message": e.message, "domain": domain, "reason": e.reason}},
	}
	if status, ok := map[int]string{401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}[e.status]; ok && domain == "global" {
		body["status"] = status
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(e.status)
	json.NewEncoder(w).Encode(map[string]any{"error": body})
}

// gcpCall is one request.
type gcpCall struct {
	api    API
	http   *http.Request
	read   map[string]bool
	unsaid bool // what is asked is done, and the answer does not arrive
}

// admit refuses requests that nobody has signed, and those for places that there
// are not.
func (c *gcpCall) admit() error {
	if token, ok := strings.CutPrefix(c.http.Header.Get("Authorization"), "Bearer "); !ok || token == "" {
		return &gcpError{http.StatusUnauthorized, "required", "Login Required."}
	}
	if p := c.http.PathValue("project"); p != "" && p != project {
		return gcpNotFound("projects/" + p)
	}
	if zone := c.zone(); zone != "" && !slices.Contains(Zones(GCP, regionOf(zone)), zone) {
		return invalid("Invalid value for field 'zone': '%s'. Unknown zone.", zone)
	}
	if region := c.region(); region != "" && len(Zones(GCP, region)) == 0 {
		return invalid("Invalid value for field 'region': '%s'. Unknown region.", region)
	}
	return nil
}

func (c *gcpCall) zone() string { return c.http.PathValue("zone") }
func (c *gcpCall) name() string { return c.http.PathValue("name") }

// region is the region that a request is about: of its zone, if it has one.
func (c *gcpCall) region() string {
	if zone := c.zone(); zone != "" {
		return regionOf(zone)
	}
	return c.http.PathValue("region")
}

// value gives a parameter, "" for one that is not given.
func (c *gcpCall) value(name string) string {
	c.read[name] = true
	return c.http.URL.Query().Get(name)
}

// unread refuses parameters that nobody has looked at.
func (c *gcpCall) unread() error {
	for name := range c.http.URL.Query() {
		if !c.read[name] {
			return invalid("Invalid JSON payload received. Unknown name \"%s\": Cannot bind query parameter.", name)
		}
	}
	return nil
}

// body reads what is sent, and refuses fields that nobody looks at.
func (c *gcpCall) body(into any) error {
	d := json.NewDecoder(io.LimitReader(c.http.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return &gcpError{http.StatusBadRequest, "badRequest", "Invalid JSON payload received. " + err.Error()}
	}
	return nil
}

// fails is what a fault makes of the request.
func (c *gcpCall) fails(op string, t Thing) error {
	region, zone := c.region(), c.zone()
	kind, hit := c.api.Check(c.http.Context(), GCP, op, region, zone, t.Type, t.Spot)
	if !hit {
		return nil
	}
	switch kind {
	case FaultUnsaid:
		c.unsaid = true
		return nil
	case FaultHang:
		<-c.http.Context().Done()
		panic(http.ErrAbortHandler)
	}
	return apiFaultGCP(kind, op, region, zone)
}

// apiFaultGCP is what the APIs say for a fault.
// https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation
func apiFaultGCP(kind FaultKind, op, region, zone string) error {
	switch kind {
	case FaultCapacity, FaultSpot:
		return &gcpError{http.StatusServiceUnavailable, "ZONE_RESOURCE_POOL_EXHAUSTED", fmt.Sprintf(
			"The zone 'projects/%s/zones/%s' does not have enough resources available to fulfill the request.  Try a different zone, or try again later.", project, zone)}
	case FaultQuota:
		return &gcpError{http.StatusForbidden, "quotaExceeded", fmt.Sprintf("Quota 'CPUS' exceeded.  Limit: 8.0 in region %s.", region)}
	case FaultThrottled:
		return &gcpError{http.StatusForbidden, "rateLimitExceeded", fmt.Sprintf(
			"Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service 'compute.googleapis.com' for consumer 'project_number:%s'.", projectNumber)}
	case FaultExpired:
		return &gcpError{http.StatusUnauthorized, "authError", "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential."}
	case FaultDenied:
		verb := map[string]string{"terminate": "delete", "delete": "delete", "tag": "setLabels"}[op]
		if verb == "" {
			verb = "get"
		}
		return &gcpError{http.StatusForbidden, "forbidden", fmt.Sprintf("Required 'compute.instances.%s' permission for 'projects/%s'", verb, project)}
	}
	return &gcpError{http.StatusInternalServerError, "backendError", "Internal error. Please try again or contact Google Support."}
}

// gcpPage is how many things one answer lists, however many are asked for: clients
// have to go on.
const gcpPage = 3

// gcpPageOf cuts out the page that the request asks for, and gives the token of
// the next one.
func gcpPageOf[T any](c *gcpCall, all []T, size string, limit int) (page []T, next string, err error) {
	if s := c.value(size); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return nil, "", invalid("Invalid value for field '%s': '%s'.", size, s)
		}
		limit = min(limit, n)
	}
	page, next, err = cut(all, c.value("pageToken"), limit)
	if err != nil {
		return nil, "", invalid("Invalid value for field 'pageToken': '%s'. The page token is not valid.", c.value("pageToken"))
	}
	return page, next, nil
}
