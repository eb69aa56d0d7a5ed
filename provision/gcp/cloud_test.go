package gcp

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/catalog"
	"github.com/levinrun/levin/provision/cloudtest/emulator"
)

// A project or a zone that is not there is not found either, and says nothing of a
// machine: it must not count as gone.
func TestAWrongProjectIsNoGoneMachine(t *testing.T) {
	e := emulator.Start(t, nil)
	c := newCloud(t, e, configs.CloudSettings{})
	defer c.Close()
	m := cluster.Machine{Name: "run-a-train-1", Run: "run-a", Cloud: "gcp", CloudID: "projects/another-project/zones/us-central1-a/instances/run-a-train-1"}
	if err := c.Stop(t.Context(), m); err == nil {
		t.Error("Stop in a project that is not there succeeded")
	}
	if status, _, err := c.Status(t.Context(), m); err == nil {
		t.Errorf("Status in a project that is not there is %q", status)
	}
	m.CloudID = "projects/" + emulator.Project + "/zones/us-central1-a/instances/run-a-train-1"
	if err := c.Stop(t.Context(), m); err != nil {
		t.Errorf("Stop of a machine that is gone: %v", err)
	}
	if status, _, err := c.Status(t.Context(), m); err != nil || status != provision.StatusGone {
		t.Errorf("Status of a machine that is gone: %q, %v", status, err)
	}
}

func TestPreflight(t *testing.T) {
	e := emulator.Start(t, nil)
	c := newCloud(t, e, configs.CloudSettings{})
	defer c.Close()
	small, err := c.Offers(t.Context(), configs.Resources{GPU: &configs.GPU{Models: []string{"T4"}, Count: 1}})
	if err != nil || len(small) == 0 {
		t.Fatal(small, err)
	}
	for _, f := range c.Preflight(t.Context(), small[:1]) {
		if !f.OK {
			t.Errorf("%s: %s", f.Check, f.Text)
		}
	}
	var bad []string
	for _, f := range c.Preflight(t.Context(), slicesRepeat(small[0], 1000)) {
		if !f.OK {
			bad = append(bad, f.Text)
		}
	}
	if text := strings.Join(bad, "\n"); !strings.Contains(text, "NVIDIA_T4_GPUS") || !strings.Contains(text, "GPUS_ALL_REGIONS") {
		t.Errorf("a thousand GPUs meet only these limits:\n%s", text)
	}
	defer e.Inject(emulator.Fault{Kind: emulator.FaultDenied, Op: "permissions"})()
	denied := false
	for _, f := range c.Preflight(t.Context(), nil) {
		denied = denied || f.Check == "permissions" && !f.OK && strings.Contains(f.Text, "compute.instances.create")
	}
	if !denied {
		t.Error("missing permissions are not told")
	}
}

func slicesRepeat(o provision.Offer, n int) []provision.Offer {
	all := make([]provision.Offer, n)
	for i := range all {
		all[i] = o
	}
	return all
}

// Prices of whole machines are put together from those of their parts.
func TestRefresh(t *testing.T) {
	e := emulator.Start(t, nil)
	c := newCloud(t, e, configs.CloudSettings{Regions: []string{"us-central1"}})
	defer c.Close()
	if err := c.Refresh(t.Context(), func(line string) { t.Log(line) }); err != nil {
		t.Fatal(err)
	}
	fresh, err := catalog.Load(kind, c.cfg.CacheDir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{ // by the price list of the emulated cloud
		"n2-standard-4":    4*0.031611 + 16*0.004237,
		"g2-standard-4 L4": 4*0.024988 + 16*0.002927 + 0.560040,
	}
	for _, row := range fresh.Rows {
		key := strings.TrimSpace(row.Type + " " + row.GPU)
		if usd, ok := want[key]; ok && row.Region == "us-central1" {
			if math.Abs(row.Price-usd) > 1e-5 || math.Abs(row.SpotPrice-0.3*usd) > 1e-4 {
				t.Errorf("%s costs %g, spot %g; want %g, %g", key, row.Price, row.SpotPrice, usd, 0.3*usd)
			}
			delete(want, key)
		}
	}
	for key := range want {
		t.Errorf("%s is not in the catalog", key)
	}
	kept, err := catalog.Embedded(kind)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(fresh.Regions(), " "), strings.Join(kept.Regions(), " "); got != want {
		t.Errorf("regions %s, want %s: those that were not read keep what they had", got, want)
	}
}

func TestPartOf(t *testing.T) {
	for text, want := range map[string]part{
		"N2 Instance Core running in Americas":                                     {what: "n2 core"},
		"N1 Predefined Instance Ram running in EMEA":                               {what: "n1 ram"},
		"Spot Preemptible T2D AMD Instance Core running in Paris":                  {what: "t2d core", spot: true},
		"C4A Arm Instance Ram running in Americas":                                 {what: "c4a ram"},
		"Compute optimized Core running in Americas":                               {what: "c2 core"},
		"Nvidia Tesla T4 GPU running in Americas":                                  {what: "gpu t4"},
		"Nvidia Tesla A100 80GB GPU attached to Spot Preemptible VMs running in Z": {what: "gpu a100 80gb", spot: true},
		"N2 Custom Instance Core running in Americas":                              {},
		"N2 Sole Tenancy Instance Core running in Americas":                        {},
		"Commitment v1: N2 Instance Core in Americas for 1 Year":                   {},
		"Nvidia L4 GPU attached to DWS Defined Duration VMs running in Americas":   {},
		"Storage PD Capacity":                                                      {},
	} {
		got, ok := partOf(text)
		if want == (part{}) && ok && got.what != "gpu l4 gpu attached to dws defined duration vms" || want != (part{}) && got != want {
			t.Errorf("%q is %+v, %v; want %+v", text, got, ok, want)
		}
	}
}

func FuzzPartOf(f *testing.F) {
	f.Add("Spot Preemptible N2 Instance Core running in Americas")
	f.Fuzz(func(t *testing.T, text string) {
		if p, ok := partOf(text); ok == (p.what == "") {
			t.Errorf("%q is %+v, %v", text, p, ok)
		}
	})
}

func TestProject(t *testing.T) {
	home := t.TempDir()
	gcloud := filepath.Join(home, ".config", "gcloud")
	for name, content := range map[string]string{
		"active_config":              "work\n",
		"configurations/config_work": "[core]\naccount = a@example.com\nproject = of-gcloud\n\n[compute]\nproject = not-this\n",
	} {
		file := filepath.Join(gcloud, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		settings string
		env      []string
		want     string
	}{
		{"of-settings", []string{"GOOGLE_CLOUD_PROJECT=of-env"}, "of-settings"},
		{"", []string{"GOOGLE_PROJECT=second", "GOOGLE_CLOUD_PROJECT=of-env"}, "of-env"},
		{"", []string{"CLOUDSDK_CORE_PROJECT=of-sdk"}, "of-sdk"},
		{"", []string{"NOTHING=1"}, "of-gcloud"},
	} {
		c, err := New(Config{Settings: configs.CloudSettings{Project: tt.settings}, Env: tt.env, Home: home})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.project(); err != nil || got != tt.want {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
		c.Close()
	}
}

func TestEgress(t *testing.T) {
	c := &Cloud{}
	for _, tt := range []struct {
		region, location string
		want             float64
	}{
		{"us-central1", "gcp/us-central1", 0}, {"us-central1", "gcp/us-west1", toContinent}, {"europe-west4", "gcp/us-east1", toEurope},
		{"us-central1", "", toInternet}, {"us-central1", "aws/us-east-1", toInternet},
	} {
		if got := c.Egress(tt.region, tt.location); got != tt.want {
			t.Errorf("from %s to %q: %g, want %g", tt.region, tt.location, got, tt.want)
		}
	}
}
