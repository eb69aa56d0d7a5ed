package emulator

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	compute "cloud.google.com/go/compute/apiv1"
	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/protobuf/proto"
)

// bearer signs requests.
type bearer struct{ http.RoundTripper }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer emulated")
	return b.RoundTripper.RoundTrip(r)
}

// client makes a client of the SDK.
func client[C any](t *testing.T, e *Emulator, made func(*testing.T, ...option.ClientOption) (C, error)) C {
	t.Helper()
	c, err := made(t, option.WithEndpoint(e.Endpoint(GCP)), option.WithHTTPClient(&http.Client{Transport: bearer{&http.Transport{DisableKeepAlives: true}}}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// all reads a list to its end.
func all[T any](t *testing.T, next func() (T, error)) []T {
	t.Helper()
	var found []T
	for {
		one, err := next()
		if errors.Is(err, iterator.Done) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, one)
	}
}

const policyRoot = `
terraform {
  required_providers {
    google = { source = "hashicorp/google" }
  }
}
provider "google" {
  project = "levin-emulated"
  region  = "us-central1"
}
resource "google_compute_resource_policy" "p" {
  count = 5
  name  = "levin-run-1-g1-train-${count.index}"
  group_placement_policy { collocation = "COLLOCATED" }
}
resource "google_compute_firewall" "f" {
  count         = 5
  name          = "levin-run-1-g1-${count.index}"
  description   = "levin-run=run-1 levin-owner=ann levin-expires=1900000000"
  network       = "default"
  source_ranges = ["192.0.2.7/32"]
  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}
`

// Google's own SDK understands the answers.
func TestGCPWithSDK(t *testing.T) {
	e := start(t, nil)
	machine := newRoot(t, e, gcpRoot(newKey(t), newKey(t), true, `"DELETE"`, ""))
	m := machine.gcpMachine()
	others := newRoot(t, e, policyRoot)
	others.apply()
	ctx := t.Context()

	instances := client(t, e, func(t *testing.T, o ...option.ClientOption) (*compute.InstancesClient, error) {
		return compute.NewInstancesRESTClient(t.Context(), o...)
	})
	found := 0
	for _, zone := range all(t, instances.AggregatedList(ctx, &computepb.AggregatedListInstancesRequest{Project: project, Filter: proto.String("labels.levin-run:*")}).Next) {
		for _, i := range zone.Value.GetInstances() {
			found++
			if zone.Key != "zones/us-central1-b" || i.GetName() != "m-1" || i.GetStatus() != "RUNNING" || i.GetScheduling().GetProvisioningModel() != "SPOT" || i.GetId() == 0 {
				t.Errorf("in %s: %v", zone.Key, i)
			}
		}
		if n := len(zone.Value.GetInstances()); n == 0 && zone.Value.GetWarning().GetCode() != "NO_RESULTS_ON_PAGE" {
			t.Errorf("%s has the warning %v", zone.Key, zone.Value.GetWarning())
		}
	}
	if found != 1 {
		t.Errorf("%d instances", found)
	}

	policies := client(t, e, func(t *testing.T, o ...option.ClientOption) (*compute.ResourcePoliciesClient, error) {
		return compute.NewResourcePoliciesRESTClient(t.Context(), o...)
	})
	found = 0
	for _, region := range all(t, policies.AggregatedList(ctx, &computepb.AggregatedListResourcePoliciesRequest{Project: project, Filter: proto.String("name eq levin-.*")}).Next) {
		for _, p := range region.Value.GetResourcePolicies() {
			found++
			if region.Key != "regions/us-central1" || p.GetGroupPlacementPolicy().GetCollocation() != "COLLOCATED" {
				t.Errorf("in %s: %v", region.Key, p)
			}
		}
	}
	firewalls := client(t, e, func(t *testing.T, o ...option.ClientOption) (*compute.FirewallsClient, error) {
		return compute.NewFirewallsRESTClient(t.Context(), o...)
	})
	if rules := all(t, firewalls.List(ctx, &computepb.ListFirewallsRequest{Project: project, Filter: proto.String("name eq levin-run-1-g1.*")}).Next); found != 5 || len(rules) != 5 {
		t.Errorf("%d policies and %d rules", found, len(rules))
	}
	op, err := policies.Delete(ctx, &computepb.DeleteResourcePolicyRequest{Project: project, Region: "us-central1", ResourcePolicy: "levin-run-1-g1-train-0"})
	if err == nil {
		err = op.Wait(ctx)
	}
	if err != nil {
		t.Errorf("deleting a policy: %v", err)
	}
	op, err = firewalls.Delete(ctx, &computepb.DeleteFirewallRequest{Project: project, Firewall: "levin-run-1-g1-0"})
	if err == nil {
		err = op.Wait(ctx)
	}
	if err != nil {
		t.Errorf("deleting a firewall rule: %v", err)
	}

	types := client(t, e, func(t *testing.T, o ...option.ClientOption) (*compute.MachineTypesClient, error) {
		return compute.NewMachineTypesRESTClient(t.Context(), o...)
	})
	inZone := all(t, types.List(ctx, &computepb.ListMachineTypesRequest{Project: project, Zone: "us-central1-b"}).Next)
	if i := slices.IndexFunc(inZone, func(m *computepb.MachineType) bool { return m.GetName() == "a2-ultragpu-1g" }); i < 0 ||
		inZone[i].GetAccelerators()[0].GetGuestAcceleratorType() != "nvidia-a100-80gb" || inZone[i].GetBundledLocalSsds().GetPartitionCount() != 1 || inZone[i].GetMemoryMb() != 174080 {
		t.Errorf("types are %v", inZone)
	}
	everywhere := 0
	for _, zone := range all(t, types.AggregatedList(ctx, &computepb.AggregatedListMachineTypesRequest{Project: project}).Next) {
		everywhere += len(zone.Value.GetMachineTypes())
	}
	if want := 31*len(gcpTypes()) - 4*10; everywhere != want { // four with GPUs, each in all zones but one of ten regions
		t.Errorf("%d types in all zones, want %d", everywhere, want)
	}
	accelerators := client(t, e, func(t *testing.T, o ...option.ClientOption) (*compute.AcceleratorTypesClient, error) {
		return compute.NewAcceleratorTypesRESTClient(t.Context(), o...)
	})
	if gpus := all(t, accelerators.List(ctx, &computepb.ListAcceleratorTypesRequest{Project: project, Zone: "us-central1-a"}).Next); len(gpus) != 7 || gpus[0].GetMaximumCardsPerInstance() == 0 {
		t.Errorf("accelerators are %v", gpus)
	}
	regions := client(t, e, func(t *testing.T, o ...option.ClientOption) (*compute.RegionsClient, error) {
		return compute.NewRegionsRESTClient(t.Context(), o...)
	})
	region, err := regions.Get(ctx, &computepb.GetRegionRequest{Project: project, Region: "us-central1"})
	if err != nil || len(region.GetZones()) != 4 || region.GetQuotas()[0].GetLimit() != 72 || region.GetQuotas()[0].GetUsage() != 2 {
		t.Errorf("the region is %v, error %v", region, err)
	}

	operations := client(t, e, func(t *testing.T, o ...option.ClientOption) (*compute.ZoneOperationsClient, error) {
		return compute.NewZoneOperationsRESTClient(t.Context(), o...)
	})
	begun, err := instances.Delete(ctx, &computepb.DeleteInstanceRequest{Project: project, Zone: m.Zone, Instance: "m-1"})
	if err != nil {
		t.Fatal(err)
	}
	done, err := operations.Wait(ctx, &computepb.WaitZoneOperationRequest{Project: project, Zone: m.Zone, Operation: begun.Name()})
	if err != nil || done.GetStatus() != computepb.Operation_DONE || e.only(t).State != Terminated {
		t.Errorf("the operation is %v, error %v", done, err)
	}
	_, err = instances.Get(ctx, &computepb.GetInstanceRequest{Project: project, Zone: m.Zone, Instance: "m-1"})
	var api *googleapi.Error
	if !errors.As(err, &api) || api.Code != http.StatusNotFound || api.Errors[0].Reason != "notFound" || !strings.Contains(api.Message, m.ID) {
		t.Errorf("what is gone gives %v", err)
	}
	machine.destroy()
	others.destroy()
	if left := e.Left(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}
