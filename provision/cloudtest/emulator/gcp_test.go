package emulator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

const inCompute = "/compute/v1/projects/" + project

// gcpAsk makes a request as the SDKs do.
func gcpAsk(t *testing.T, e *Emulator, method, path, body string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, e.Endpoint(GCP)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer emulated")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answered, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answered.Body.Close()
	b, err := io.ReadAll(answered.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered.StatusCode, string(b)
}

// gcpSee makes a request that has to succeed, and reads the answer.
func gcpSee(t *testing.T, e *Emulator, method, path, body string) values {
	t.Helper()
	status, answer := gcpAsk(t, e, method, path, body)
	if status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	var v values
	if err := json.Unmarshal([]byte(answer), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// gcpAll reads all pages of a list.
func gcpAll(t *testing.T, e *Emulator, path, items string) []values {
	t.Helper()
	var all []values
	mark := "?"
	if strings.Contains(path, "?") {
		mark = "&"
	}
	for token := ""; ; {
		v := gcpSee(t, e, "GET", path+mark+"pageToken="+url.QueryEscape(token), "")
		all = append(all, v.blocks(items)...)
		if token = v.str("nextPageToken"); token == "" {
			return all
		}
	}
}

// What the APIs do not know is an error and never a success.
func TestGCPAnswers(t *testing.T) {
	e := start(t, nil)
	filter := func(f string) string { return inCompute + "/aggregated/instances?filter=" + url.QueryEscape(f) }
	operation := func(of string) string {
		return gcpOperation{typ: "delete", path: "projects/" + project + "/" + of}.name()
	}
	for _, test := range []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"no instances", "GET", inCompute + "/aggregated/instances", "", 200, `"zones/us-central1-a":{"warning":{"code":"NO_RESULTS_ON_PAGE"`},
		{"another method", "GET", inCompute + "/aggregated/licenses", "", 404, "There is no method"},
		{"another verb", "PUT", inCompute + "/zones/us-central1-a/instances/m", "", 404, "There is no method"},
		{"another project", "GET", "/compute/v1/projects/somebodys/zones/us-central1-a/instances/m", "", 404, "The resource 'projects/somebodys' was not found"},
		{"another zone", "GET", inCompute + "/zones/us-central1-z/instances/m", "", 400, "Unknown zone."},
		{"another region", "GET", inCompute + "/regions/mars-north1", "", 400, "Unknown region."},
		{"another parameter", "GET", inCompute + "/aggregated/instances?colour=red", "", 400, `Unknown name \"colour\"`},
		{"by label", "GET", filter(`labels.levin-run = "a"`), "", 200, `"items"`},
		{"by any label", "GET", filter("labels.levin-run:*"), "", 200, `"items"`},
		{"by two", "GET", filter(`(name = "m") (labels.levin-run = "a")`), "", 200, `"items"`},
		{"by pattern", "GET", filter("name eq levin-.*"), "", 200, `"items"`},
		{"by two patterns", "GET", filter(`(name eq "m") (status eq "RUNNING")`), "", 400, "Invalid list filter expression."},
		{"by no pattern", "GET", filter(`name eq "("`), "", 400, "Invalid list filter expression."},
		{"by another field", "GET", filter(`colour = "red"`), "", 400, "Invalid list filter expression."},
		{"by half a filter", "GET", filter(`(name = "m") and more`), "", 400, "Invalid list filter expression."},
		{"no such page", "GET", inCompute + "/aggregated/instances?pageToken=x", "", 400, "The page token is not valid."},
		{"no size of a page", "GET", inCompute + "/aggregated/instances?maxResults=0", "", 400, "'maxResults'"},
		{"an instance that is not there", "DELETE", inCompute + "/zones/us-central1-a/instances/m", "", 404,
			"The resource 'projects/levin-emulated/zones/us-central1-a/instances/m' was not found"},
		{"a disk that is not there", "DELETE", inCompute + "/zones/us-central1-a/disks/d", "", 404, `"reason":"notFound"`},
		{"a rule that is not there", "DELETE", inCompute + "/global/firewalls/f", "", 404, "global/firewalls/f' was not found"},
		{"a policy that is not there", "DELETE", inCompute + "/regions/us-central1/resourcePolicies/p", "", 404, "regions/us-central1/resourcePolicies/p' was not found"},
		{"the default network", "GET", inCompute + "/global/networks/default", "", 200, `"autoCreateSubnetworks":true`},
		{"another network", "GET", inCompute + "/global/networks/n", "", 404, "global/networks/n' was not found"},
		{"another subnetwork", "GET", inCompute + "/regions/us-central1/subnetworks/s", "", 404, "subnetworks/s' was not found"},
		{"an operation that is done", "POST", inCompute + "/zones/us-central1-a/operations/" + operation("zones/us-central1-a/instances/m") + "/wait", "", 200, `"status":"DONE"`},
		{"an operation of another zone", "POST", inCompute + "/zones/us-central1-b/operations/" + operation("zones/us-central1-a/instances/m") + "/wait", "", 404, "was not found"},
		{"no operation", "GET", inCompute + "/global/operations/operation-1", "", 404, "was not found"},
		{"permissions", "POST", "/v1/projects/" + project + ":testIamPermissions", `{"permissions":["compute.instances.create"]}`, 200, "compute.instances.create"},
		{"a permission that is none", "POST", "/v1/projects/" + project + ":testIamPermissions", `{"permissions":["all"]}`, 400, "Permission all is not valid"},
		{"something else sent", "POST", "/v1/projects/" + project + ":testIamPermissions", `{"colours":[]}`, 400, "unknown field"},
		{"another verb of projects", "POST", "/v1/projects/" + project + ":delete", "{}", 404, "There is no method"},
		{"permissions on another project", "POST", "/v1/projects/p:testIamPermissions", `{"permissions":[]}`, 403, "does not have permission"},
		{"another service", "GET", "/v1/services/0000/skus", "", 404, "Service 0000 not found."},
		{"another currency", "GET", "/v1/services/6F81-5844-456A/skus?currencyCode=EUR", "", 400, "currencyCode"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, answer := gcpAsk(t, e, test.method, test.path, test.body)
			if status != test.status || !strings.Contains(answer, test.want) {
				t.Errorf("the answer is %d %s, want %d with %s", status, answer, test.status, test.want)
			}
		})
	}
	if code, answer := ask(t, "GET", e.Endpoint(GCP)+inCompute); code != 401 || !strings.Contains(answer, "Login Required.") {
		t.Errorf("nobody signed it: %d %s", code, answer)
	}
	if e.Calls("instances.delete") != 1 {
		t.Error("calls are not counted")
	}
}

// An instance of real Terraform is seen by the API, and gone when the operation
// that deletes it is done.
func TestGCPDelete(t *testing.T) {
	e := start(t, nil)
	r := newRoot(t, e, gcpRoot(newKey(t), newKey(t), true, `"DELETE"`, ""))
	m := r.gcpMachine()
	at := "/compute/v1/" + m.ID
	i := gcpSee(t, e, "GET", at, "")
	scheduling, _ := i["scheduling"].(map[string]any)
	disk := i.block("disks")
	if i.str("status") != "RUNNING" || last(i.str("machineType")) != "e2-small" || last(i.str("zone")) != "us-central1-b" || i.str("id") != m.InstanceID ||
		i.str("selfLink") != m.SelfLink || i.stringMap("labels")["levin-run"] != "run-1" || values(scheduling).str("provisioningModel") != "SPOT" ||
		!strings.HasSuffix(disk.str("source"), "/zones/us-central1-b/disks/m-1") || !disk.boolean("autoDelete", false) {
		t.Errorf("%+v", i)
	}
	for _, list := range []struct {
		path, filter string
		want         int
	}{
		{"/aggregated/instances", `labels.levin-run = "run-1"`, 1},
		{"/aggregated/instances", `labels.levin-run = "run-2"`, 0},
		{"/aggregated/instances", `labels.levin-run:*`, 1},
		{"/aggregated/instances", `labels.colour:*`, 0},
		{"/aggregated/instances", `(name = "m-1") (status = "RUNNING")`, 1},
		{"/aggregated/instances", `(name = "m-1") (status != "RUNNING")`, 0},
		{"/aggregated/disks", `labels.levin-run = "run-1"`, 1},
	} {
		items, _ := gcpSee(t, e, "GET", inCompute+list.path+"?filter="+url.QueryEscape(list.filter), "")["items"].(map[string]any)
		here, _ := items["zones/us-central1-b"].(map[string]any)
		if n := len(values(here).list(list.path[len("/aggregated/"):])); n != list.want || len(items) != 31 {
			t.Errorf("%s by %s: %d in %d zones, want %d", list.path, list.filter, n, len(items), list.want)
		}
	}
	firewalls := gcpAll(t, e, inCompute+"/global/firewalls?filter="+url.QueryEscape("name eq levin-.*"), "items")
	if len(firewalls) != 1 || firewalls[0].str("description") != "levin-run=run-1" {
		t.Errorf("the firewall rules are %+v", firewalls)
	}
	if code, answer := gcpAsk(t, e, "DELETE", inCompute+"/zones/us-central1-b/disks/m-1", ""); code != 400 || !strings.Contains(answer, "resourceInUseByAnotherResource") {
		t.Errorf("its disk is deleted: %d %s", code, answer)
	}

	begun := gcpSee(t, e, "DELETE", at, "")
	if begun.str("status") != "RUNNING" || begun.str("operationType") != "delete" || begun.str("targetLink") != m.SelfLink {
		t.Errorf("the operation is %+v", begun)
	}
	done := gcpSee(t, e, "POST", inCompute+"/zones/us-central1-b/operations/"+begun.str("name")+"/wait", "")
	if done.str("status") != "DONE" || e.only(t).State != Terminated {
		t.Errorf("the operation is %+v, the instance %+v", done, e.only(t))
	}
	for _, method := range []string{"GET", "DELETE"} {
		if code, answer := gcpAsk(t, e, method, at, ""); code != 404 || !strings.Contains(answer, "The resource '"+m.ID+"' was not found") {
			t.Errorf("%s of what is gone: %d %s", method, code, answer)
		}
	}
	var types []string
	for _, op := range gcpAll(t, e, inCompute+"/zones/us-central1-b/operations?filter="+url.QueryEscape(fmt.Sprintf("targetLink = %q", m.SelfLink)), "items") {
		types = append(types, op.str("operationType")+" "+op.str("status"))
	}
	if want := []string{"insert DONE", "delete DONE"}; !slices.Equal(types, want) {
		t.Errorf("operations were %v, want %v", types, want)
	}
	r.destroy()
	if left := e.Left(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

// Labels are set as a whole, and not over somebody else's change.
func TestGCPLabels(t *testing.T) {
	e := start(t, nil)
	r := newRoot(t, e, gcpRoot(newKey(t), newKey(t), false, "null", ""))
	at := "/compute/v1/" + r.gcpMachine().ID
	set := func(labels map[string]string, fingerprint string) (int, string) {
		b, err := json.Marshal(map[string]any{"labels": labels, "labelFingerprint": fingerprint})
		if err != nil {
			t.Fatal(err)
		}
		return gcpAsk(t, e, "POST", at+"/setLabels", string(b))
	}
	before := gcpSee(t, e, "GET", at, "")
	labels := before.stringMap("labels")
	labels["levin-expires"] = "1900000000"
	if code, answer := set(labels, before.str("labelFingerprint")); code != 200 {
		t.Fatalf("%d %s", code, answer)
	}
	after := gcpSee(t, e, "GET", at, "")
	if after.stringMap("labels")["levin-expires"] != "1900000000" || after.str("labelFingerprint") == before.str("labelFingerprint") {
		t.Errorf("%+v", after)
	}
	if code, answer := set(labels, before.str("labelFingerprint")); code != 412 || !strings.Contains(answer, "conditionNotMet") {
		t.Errorf("over another change: %d %s", code, answer)
	}
	if code, answer := set(map[string]string{"a": "b"}, after.str("labelFingerprint")); code != 400 {
		t.Errorf("without the others: %d %s", code, answer)
	}
	labels["levin-owner"] = "Ann"
	if code, answer := set(labels, after.str("labelFingerprint")); code != 400 || !strings.Contains(answer, "violates format constraints") {
		t.Errorf("with a label that is none: %d %s", code, answer)
	}
	r.destroy()
}

// A spot instance that was taken back is gone, and an operation says why.
func TestGCPPreemptedOperation(t *testing.T) {
	e := start(t, nil)
	r := newRoot(t, e, gcpRoot(newKey(t), newKey(t), true, `"DELETE"`, ""))
	m := r.gcpMachine()
	if err := e.Preempt(GCP, "m-1", 0); err != nil {
		t.Fatal(err)
	}
	waitState(t, e, Terminated)
	list := inCompute + "/zones/us-central1-b/operations?filter="
	found := gcpAll(t, e, list+url.QueryEscape(`operationType = "compute.instances.preempted"`), "items")
	if len(found) != 1 || found[0].str("targetLink") != m.SelfLink || found[0].str("status") != "DONE" {
		t.Errorf("operations are %+v", found)
	}
	if other := gcpAll(t, e, list+url.QueryEscape(`targetLink eq ".*/instances/m"`), "items"); len(other) > 0 {
		t.Errorf("operations on another instance are %+v", other)
	}
	r.destroy()
}

// Faults are worded as Google words them.
func TestGCPFaults(t *testing.T) {
	e := start(t, nil)
	r := newRoot(t, e, gcpRoot(newKey(t), newKey(t), false, "null", ""))
	at := "/compute/v1/" + r.gcpMachine().ID
	for _, test := range []struct {
		fault  Fault
		method string
		path   string
		status int
		want   string
	}{
		{Fault{Kind: FaultThrottled, Op: "terminate"}, "DELETE", at, 403, `"reason":"rateLimitExceeded"`},
		{Fault{Kind: FaultDenied, Op: "terminate"}, "DELETE", at, 403, "Required 'compute.instances.delete' permission"},
		{Fault{Kind: FaultExpired, Op: "describe"}, "GET", at, 401, `"reason":"authError"`},
		{Fault{Kind: FaultCapacity, Op: "terminate"}, "DELETE", at, 503, "does not have enough resources"},
		{Fault{Kind: FaultDenied, Op: "permissions"}, "POST", "/v1/projects/" + project + ":testIamPermissions", 200, "{}"},
	} {
		test.fault.Cloud = GCP
		remove := e.Inject(test.fault)
		status, answer := gcpAsk(t, e, test.method, test.path, `{"permissions":["compute.instances.create"]}`)
		if status != test.status || !strings.Contains(answer, test.want) {
			t.Errorf("%+v: %d %s, want %d with %s", test.fault, status, answer, test.status, test.want)
		}
		remove()
	}
	if e.only(t).State != Running {
		t.Error("a request that failed was carried out")
	}
	// The answer does not arrive, and what was asked is done.
	e.Inject(Fault{Kind: FaultUnsaid, Cloud: GCP, Op: "terminate", Times: 1})
	q, err := http.NewRequestWithContext(t.Context(), "DELETE", e.Endpoint(GCP)+at, nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer emulated")
	if answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(q); err == nil {
		answer.Body.Close()
		t.Errorf("the answer is %s", answer.Status)
	}
	waitState(t, e, Terminated)
	r.destroy()
}

// What is for sale comes in pages, as do its prices.
func TestGCPMarket(t *testing.T) {
	e := start(t, nil)
	names := func(path string) []string {
		var all []string
		for _, v := range gcpAll(t, e, inCompute+path, "items") {
			all = append(all, v.str("name"))
		}
		return all
	}
	types := names("/zones/us-central1-a/machineTypes")
	if len(types) != len(gcpTypes()) || !slices.Contains(types, "g2-standard-4") {
		t.Errorf("types are %v", types)
	}
	if other := names("/zones/us-central1-f/machineTypes"); slices.Contains(other, "g2-standard-4") {
		t.Errorf("types of another zone are %v", other)
	}
	if gpus := names("/zones/us-central1-b/acceleratorTypes"); !slices.Contains(gpus, "nvidia-tesla-v100") {
		t.Errorf("accelerators are %v", gpus)
	}
	if regions := names("/regions"); !slices.Equal(regions, Regions(GCP)) {
		t.Errorf("regions are %v", regions)
	}
	if zones := names("/zones"); len(zones) != 31 {
		t.Errorf("zones are %v", zones)
	}
	skus := gcpAll(t, e, "/v1/services/6F81-5844-456A/skus?currencyCode=USD&pageSize=5000", "skus")
	seen := map[string]bool{}
	for _, sku := range skus {
		if seen[sku.str("skuId")] {
			t.Errorf("%s is there twice", sku.str("skuId"))
		}
		seen[sku.str("skuId")] = true
		rate := sku.block("pricingInfo")["pricingExpression"].(map[string]any)
		price, _ := values(rate).block("tieredRates")["unitPrice"].(map[string]any)
		if sku.str("description") == "Spot Preemptible N1 Predefined Instance Core running in Americas" && values(price).number("nanos") != 9483300 {
			t.Errorf("the price is %v", price)
		}
	}
	if len(skus) != len(gcpSKUs()) {
		t.Errorf("there are %d SKUs in %d", len(gcpSKUs()), len(skus))
	}
	if q := gcpSee(t, e, "GET", inCompute, "").block("quotas"); q.str("metric") != "GPUS_ALL_REGIONS" {
		t.Errorf("quotas are %v", q)
	}
}

// ending is a cloud of one instance, which takes some looks to be gone once it is
// asked to end.
type ending struct {
	API
	mu    sync.Mutex
	state State
	looks int
}

func (a *ending) Things(string, string) []Thing {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == Terminating {
		if a.looks++; a.looks > 4 {
			a.state = Terminated
		}
	}
	return []Thing{{Cloud: GCP, Kind: "google_compute_instance", ID: "m", Region: "us-central1", Zone: "us-central1-a", State: a.state}}
}

func (a *ending) Terminate(string, string, string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state = Terminating
	return nil
}

func (a *ending) Check(context.Context, string, string, string, string, string, bool) (FaultKind, bool) {
	return "", false
}

// The handler waits for the end of instances over any cloud.
func TestGCPHandlerWaits(t *testing.T) {
	cloud := &ending{state: Running}
	h := GCPHandler(cloud)
	do := func(method, path string) values {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), method, inCompute+"/zones/us-central1-a"+path, nil)
		r.Header.Set("Authorization", "Bearer x")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var v values
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return v
	}
	begun := do("DELETE", "/instances/m")
	if done := do("POST", "/operations/"+begun.str("name")+"/wait"); done.str("status") != "DONE" || cloud.state != Terminated {
		t.Errorf("the operation is %+v, the instance %s", done, cloud.state)
	}
}
