package local

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
)

func TestOffers(t *testing.T) {
	c := New(Config{Name: "here", Home: t.TempDir(), Price: 0.5})
	defer c.Close()
	c.hardware = func() hardware { return hardware{cpus: 4, memory: 16, disk: 100, gpus: []string{"T4", "T4"}} }
	foreign := "arm64"
	if runtime.GOARCH == foreign {
		foreign = "amd64"
	}
	at := func(min float64) configs.Range { return configs.Range{Min: min} }
	for _, tt := range []struct {
		name    string
		ask     configs.Resources
		none    bool
		missing []string
	}{
		{name: "anything"},
		{name: "what is there", ask: configs.Resources{
			CPUs: at(4), Memory: at(16), Disk: at(100), Arch: runtime.GOARCH, Machine: "process",
			GPU: &configs.GPU{Models: []string{"L4", "T4"}, Count: 2},
		}},
		{name: "less than is there", ask: configs.Resources{CPUs: configs.Range{Min: 1, Max: 4}}},
		{name: "more", ask: configs.Resources{CPUs: at(64), Memory: at(512.5), Disk: at(1000)},
			missing: []string{"cpus 64 (has 4)", "memory 512.5GB (has 16)", "disk 1000GB (has 100)"}},
		{name: "another gpu", ask: configs.Resources{GPU: &configs.GPU{Models: []string{"H100", "A100"}, Count: 1}},
			missing: []string{"gpu H100 or A100 (has none)"}},
		{name: "more gpus", ask: configs.Resources{GPU: &configs.GPU{Count: 8}},
			missing: []string{"gpu of any model:8 (has 2)"}},
		{name: "somewhere else", ask: configs.Resources{Arch: foreign, Machine: "g4dn.xlarge", Regions: []string{"us-east-1", "eu-west-1"}},
			missing: []string{"arch " + foreign + " (is " + runtime.GOARCH + ")", "machine g4dn.xlarge", "region us-east-1 or eu-west-1"}},
		{name: "a place, and at a discount", ask: configs.Resources{Zones: []string{"use1-az1", "us-central1-a"}, Spot: configs.SpotOnly},
			missing: []string{"zone use1-az1 or us-central1-a", "spot"}},
		{name: "at a discount if there is one", ask: configs.Resources{Spot: configs.SpotAuto}},
		{name: "another cloud", ask: configs.Resources{Clouds: []string{"aws", "gcp"}}, none: true},
		{name: "this cloud too", ask: configs.Resources{Clouds: []string{"aws", "here"}}},
		{name: "cheaper", ask: configs.Resources{MaxPrice: 0.4}, none: true},
		{name: "dearer", ask: configs.Resources{MaxPrice: 0.5}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			offers, err := c.Offers(t.Context(), tt.ask)
			if err != nil {
				t.Fatal(err)
			}
			if tt.none {
				if len(offers) > 0 {
					t.Errorf("got %v", offers)
				}
				return
			}
			want := []provision.Offer{{
				Cloud: "here", Type: "process", OS: runtime.GOOS, Arch: runtime.GOARCH,
				CPUs: 4, Memory: 16, Disk: 100, GPU: "T4", GPUs: 2, PricePerHour: 0.5, Missing: tt.missing,
			}}
			if diff := cmp.Diff(want, offers); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// Whatever is asked for, as long as it is not another cloud or a lower price, has
// an offer that a plan takes: an app runs here as it is.
func TestOffersSatisfyWhatIsAsked(t *testing.T) {
	c := New(Config{Name: "here"})
	c.hardware = func() hardware { return hardware{cpus: 8, memory: 16, disk: 100, gpus: []string{"T4", "A10G"}} }
	span := func(low, high float64) configs.Range { return configs.Range{Min: low, Max: high} }
	for _, ask := range []configs.Resources{
		{CPUs: span(2, 2)}, {CPUs: span(0, 4), Memory: span(1, 2), Disk: span(10, 20)}, {CPUs: span(2, 64)}, {CPUs: span(64, 64)},
		{GPU: &configs.GPU{Count: 1, Memory: span(16, 0)}}, {GPU: &configs.GPU{Count: 1, Memory: span(24, 24)}},
		{GPU: &configs.GPU{Models: []string{"A10G"}, Count: 1}}, {GPU: &configs.GPU{Models: []string{"H100"}, Count: 8, Memory: span(80, 0)}},
		{Zones: []string{"use1-az1"}}, {Regions: []string{"us-east-1"}}, {Spot: configs.SpotOnly}, {Spot: configs.SpotAuto}, {Machine: "g5.xlarge"},
	} {
		offers, err := c.Offers(t.Context(), ask)
		if err != nil || len(offers) != 1 {
			t.Fatalf("%+v: %v, %v", ask, offers, err)
		}
		if lacks := provision.Unmet(offers[0], ask); len(lacks) > 0 {
			t.Errorf("%+v: %q", ask, lacks)
		}
	}
}

func TestLookAround(t *testing.T) {
	h := lookAround(filepath.Join(t.TempDir(), "not", "there", "yet"))
	if h.cpus < 1 || h.memory < 1 || h.disk < 0 {
		t.Errorf("unlikely hardware: %+v", h)
	}
}

func TestNvidia(t *testing.T) {
	dir := t.TempDir()
	for bus, model := range map[string]string{
		"0000:00:1e.0": "Tesla T4", "0000:00:1f.0": "NVIDIA A100-SXM4-40GB",
		"0000:00:20.0": "NVIDIA GeForce RTX 4090", "0000:00:21.0": "NVIDIA H100 PCIe",
	} {
		if err := os.Mkdir(filepath.Join(dir, bus), 0o755); err != nil {
			t.Fatal(err)
		}
		text := "Model: \t\t " + model + "\nIRQ: 1\n"
		if err := os.WriteFile(filepath.Join(dir, bus, "information"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"T4", "A100", "RTX-4090", "H100"}, nvidia(dir)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestInputAndTarget(t *testing.T) {
	c := New(Config{Home: t.TempDir(), Lease: 1500 * time.Millisecond})
	defer c.Close()
	in, err := c.Input(provision.Offer{Type: "process"}, configs.Resources{})
	if err != nil || in.Type != "process" || in.Extra["lease_seconds"] != int64(2) {
		t.Errorf("%+v, %v", in, err)
	}
	got, err := c.Target(cluster.Machine{Address: "127.0.0.1", Port: 7, User: "u", HostKey: "ssh-ed25519 AAAA"}, "/key")
	want := cluster.Target{
		Address: "127.0.0.1", Port: 7, User: "u", HostKeys: []string{"ssh-ed25519 AAAA"},
		KeyFiles: []string{"/key"}, PowerOff: true,
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}
