package provision_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
)

var update = flag.Bool("update", false, "write the golden files anew")

// What is asked for in an app file gets these offers of the built-in catalogs.
func TestAsks(t *testing.T) {
	app, err := configs.Load("testdata/asks.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	clouds := newShops(t)
	var got strings.Builder
	for _, c := range app.Components {
		fmt.Fprintf(&got, "%s\n", c.Name)
		plan, err := provision.NewPlan(t.Context(), &configs.App{Name: "ask", Components: []configs.Component{c}}, clouds, provision.PlanOptions{})
		if err != nil {
			fmt.Fprintf(&got, "  %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
			continue
		}
		for i, o := range plan.Choices[0].Offers {
			if i == 4 {
				fmt.Fprintf(&got, "  and %d more\n", len(plan.Choices[0].Offers)-i)
				break
			}
			gpu := ""
			if o.GPUs > 0 {
				gpu = fmt.Sprintf(", %d %s of %gGB", o.GPUs, o.GPU, o.GPUMemory)
			}
			fmt.Fprintf(&got, "  $%g %s: %s, %g cpus, %gGB%s\n", o.PricePerHour, o, o.Arch, o.CPUs, o.Memory, gpu)
		}
		for _, r := range plan.Choices[0].Runners {
			fmt.Fprintf(&got, "  not %s: %s\n", r.Offer, r.Why)
		}
	}
	const golden = "testdata/asks.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("offers differ from %s (-want +got); if that is meant, run with -update:\n%s", golden, diff)
	}
}

// pick gives one of the choices, or the zero value.
func pick[T any](r *rand.Rand, choices ...T) T {
	var zero T
	if r.IntN(3) == 0 {
		return zero
	}
	return choices[r.IntN(len(choices))]
}

func randomResources(r *rand.Rand) configs.Resources {
	span := func(sizes ...float64) configs.Range {
		low, high := pick(r, sizes...), pick(r, sizes...)
		if high != 0 && high < low {
			low, high = high, low
		}
		return configs.Range{Min: low, Max: high}
	}
	return configs.Resources{
		GPU: pick(r, &configs.GPU{Count: 1}, &configs.GPU{Count: 2, Memory: span(16, 24, 40, 80)},
			&configs.GPU{Count: 1, Models: []string{"A100"}}, &configs.GPU{Count: 1, Models: []string{"T4", "A100-80GB"}, Memory: span(16, 80)}),
		CPUs: span(1, 4, 8, 64), Memory: span(1, 16, 32, 512), Disk: span(10, 100),
		Arch: pick(r, "amd64", "arm64"), Machine: pick(r, "small", "big"),
		Clouds: pick(r, []string{"aws"}, []string{"aws", "gcp"}), Regions: pick(r, []string{"east"}, []string{"east", "west"}),
		Zones: pick(r, []string{"east-a"}, []string{"east-b", "west-a"}),
		Spot:  pick(r, configs.SpotAuto, configs.SpotOnly), MaxPrice: pick(r, 0.5, 1, 2),
	}
}

func randomOffer(r *rand.Rand) provision.Offer {
	o := provision.Offer{
		Cloud: pick(r, "aws", "gcp"), Region: pick(r, "east", "west"), Zone: pick(r, "east-a", "east-b", "west-a"),
		Type: pick(r, "small", "big"), OS: "linux", Arch: pick(r, "amd64", "arm64"),
		CPUs: pick(r, 1.0, 4, 8, 64), Memory: pick(r, 1.0, 16, 32, 512), Disk: pick(r, 10.0, 100),
		PricePerHour: pick(r, 0.4, 0.7, 1.5, 3), Spot: r.IntN(2) == 0,
	}
	if r.IntN(2) == 0 {
		o.GPUs, o.GPU, o.GPUMemory = 1+r.IntN(2), pick(r, "T4", "A100", "A100-80GB"), pick(r, 16.0, 22.35, 40, 80)
	}
	if r.IntN(8) == 0 {
		o.Missing = []string{"a GPU"}
	}
	return o
}

// Fits and Unmet are one opinion, and what fits still does when less is asked.
func TestFitsAndUnmetAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	fitting := 0
	for range 200_000 {
		o, ask := randomOffer(r), randomResources(r)
		fits, unmet := provision.Fits(&o, &ask), provision.Unmet(o, ask)
		if fits != (len(unmet) == 0) {
			t.Fatalf("Fits is %v and Unmet %q\noffer %+v\nasked %+v", fits, unmet, o, ask)
		}
		if !fits {
			continue
		}
		fitting++
		less := ask
		less.GPU, less.CPUs, less.Memory, less.Zones, less.MaxPrice, less.Arch = nil, configs.Range{}, configs.Range{}, nil, 0, ""
		if less.Spot == configs.SpotOnly {
			less.Spot = configs.SpotAuto
		}
		if !provision.Fits(&o, &less) {
			t.Fatalf("fits %+v, and not the lesser %+v: %+v", ask, less, o)
		}
	}
	if fitting < 100 {
		t.Errorf("only %d offers fit: the test shows nothing", fitting)
	}
}

func TestFitsMakesNoGarbage(t *testing.T) {
	o := provision.Offer{Cloud: "aws", Type: "p4de.24xlarge", Arch: "amd64", CPUs: 96, Memory: 1152, GPU: "A100-80GB", GPUs: 8, GPUMemory: 80}
	ask := configs.Resources{GPU: &configs.GPU{Models: []string{"H100", "A100"}, Count: 8}, CPUs: configs.Range{Min: 4}, Clouds: []string{"gcp", "aws"}}
	fits := false
	if n := testing.AllocsPerRun(100, func() { fits = provision.Fits(&o, &ask) }); n != 0 || !fits {
		t.Errorf("Fits is %v and allocates %g times", fits, n)
	}
}

func TestGPUsAreKnownByModelAndMemory(t *testing.T) {
	for _, test := range []struct {
		ask  string
		gpu  string
		gib  float64
		fits bool
	}{
		{"A100", "A100", 40, true}, {"A100", "A100-80GB", 80, true}, {"A100", "A100", 80, true},
		{"A100-80GB", "A100-80GB", 80, true}, {"A100-80GB", "A100", 80, true}, {"A100-80GB", "A100", 79.2, true},
		{"A100-80GB", "A100", 40, false}, {"A100-80GB", "A100", 0, false},
		{"A100-40GB", "A100", 40, true}, {"A100-40GB", "A100-80GB", 80, false}, {"A100-40GB", "A100-40GB", 0, true},
		{"A100", "A10", 24, false}, {"A10", "A100", 40, false}, {"H100-80GB", "H100", 80, true},
		{"RTX-4090", "RTX-4090", 24, true}, {"RTX-4090", "RTX-3090", 24, false}, {"X-GB", "X-GB", 0, true}, {"X", "X-GB", 0, false},
	} {
		o := provision.Offer{GPU: test.gpu, GPUs: 1, GPUMemory: test.gib}
		if got := provision.Fits(&o, &configs.Resources{GPU: &configs.GPU{Models: []string{test.ask}, Count: 1}}); got != test.fits {
			t.Errorf("%s asked, %s of %g GB: fits is %v", test.ask, test.gpu, test.gib, got)
		}
	}
	for _, test := range []struct {
		ask  configs.Range
		gib  float64
		fits bool
	}{
		{configs.Range{Min: 24}, 22.35, true}, {configs.Range{Min: 24, Max: 24}, 22.35, true}, {configs.Range{Min: 24}, 22, false},
		{configs.Range{Min: 48}, 44.7, true}, {configs.Range{Max: 16}, 22.35, false}, {configs.Range{Min: 16}, 0, false}, {configs.Range{}, 0, true},
	} {
		o := provision.Offer{GPU: "X", GPUs: 1, GPUMemory: test.gib}
		if got := provision.Fits(&o, &configs.Resources{GPU: &configs.GPU{Count: 1, Memory: test.ask}}); got != test.fits {
			t.Errorf("%+v GB asked, %g there: fits is %v", test.ask, test.gib, got)
		}
	}
}
