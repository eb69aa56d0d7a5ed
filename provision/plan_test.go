package provision

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

func TestAlternatives(t *testing.T) {
	gpu := func(model string) *configs.GPU { return &configs.GPU{Models: []string{model}, Count: 1} }
	for _, test := range []struct {
		name string
		in   configs.Resources
		want []configs.Resources
	}{
		{"none", configs.Resources{CPUs: configs.Range{Min: 2}}, []configs.Resources{{CPUs: configs.Range{Min: 2}}}},
		{"merged over the rest",
			configs.Resources{CPUs: configs.Range{Min: 2}, Clouds: []string{"aws"}, MaxPrice: 3, AnyOf: []configs.Resources{
				{GPU: gpu("A100")},
				{GPU: gpu("H100"), CPUs: configs.Range{Min: 8}, MaxPrice: 9, Clouds: []string{"gcp"}},
			}},
			[]configs.Resources{
				{GPU: gpu("A100"), CPUs: configs.Range{Min: 2}, Clouds: []string{"aws"}, MaxPrice: 3},
				{GPU: gpu("H100"), CPUs: configs.Range{Min: 8}, Clouds: []string{"gcp"}, MaxPrice: 9},
			}},
		{"in each other",
			configs.Resources{Arch: "arm64", AnyOf: []configs.Resources{
				{Machine: "a"}, {Disk: configs.Range{Min: 9}, AnyOf: []configs.Resources{{Machine: "b"}, {Machine: "c"}}},
			}},
			[]configs.Resources{
				{Arch: "arm64", Machine: "a"},
				{Arch: "arm64", Machine: "b", Disk: configs.Range{Min: 9}},
				{Arch: "arm64", Machine: "c", Disk: configs.Range{Min: 9}},
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Alternatives(test.in)); diff != "" {
				t.Errorf("alternatives (-want +got):\n%s", diff)
			}
		})
	}
}

// Each field of an alternative takes the place of the field of the rest: one
// that is added to Resources and forgotten in merge fails here.
func TestMergeKnowsEveryField(t *testing.T) {
	full := configs.Resources{
		GPU: &configs.GPU{Count: 1}, CPUs: configs.Range{Min: 1}, Memory: configs.Range{Min: 1}, Disk: configs.Range{Min: 1},
		Arch: "arm64", Machine: "m", Size: "s", Clouds: []string{"c"}, Regions: []string{"r"}, Zones: []string{"z"}, Spot: configs.SpotOnly, MaxPrice: 1,
		AnyOf: []configs.Resources{{}},
	}
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Fatalf("the test leaves field %s empty", v.Type().Field(i).Name)
		}
	}
	if diff := cmp.Diff(full, merge(configs.Resources{}, full)); diff != "" {
		t.Errorf("merged over nothing (-want +got):\n%s", diff)
	}
	rest := full
	rest.AnyOf = nil
	if diff := cmp.Diff(rest, merge(full, configs.Resources{})); diff != "" {
		t.Errorf("nothing merged over it (-want +got):\n%s", diff)
	}
}

func TestUnmet(t *testing.T) {
	o := Offer{Cloud: "aws", Region: "us-east-1", Type: "g4dn.xlarge", Arch: "amd64", CPUs: 4, Memory: 16,
		GPU: "T4", GPUs: 1, GPUMemory: 16, PricePerHour: 0.526}
	for _, test := range []struct {
		name string
		ask  configs.Resources
		want string // what is said, "" if nothing
	}{
		{"nothing", configs.Resources{}, ""},
		{"all of it", configs.Resources{GPU: &configs.GPU{Models: []string{"T4"}, Count: 1, Memory: configs.Range{Min: 16}},
			CPUs: configs.Range{Min: 4, Max: 4}, Memory: configs.Range{Max: 16}, Disk: configs.Range{Min: 100}, Arch: "amd64",
			Machine: "g4dn.xlarge", Clouds: []string{"gcp", "aws"}, Regions: []string{"us-east-1"}, MaxPrice: 0.526}, ""},
		{"cloud", configs.Resources{Clouds: []string{"gcp", "x"}}, "cloud must be gcp or x"},
		{"region", configs.Resources{Regions: []string{"west"}}, "region must be west"},
		{"machine", configs.Resources{Machine: "p3"}, "machine must be p3"},
		{"price", configs.Resources{MaxPrice: 0.5}, "costs $0.526 an hour, max_price is $0.5"},
		{"arch", configs.Resources{Arch: "arm64"}, "arch must be arm64, is amd64"},
		{"cpus", configs.Resources{CPUs: configs.Range{Min: 8}}, "cpus must be 8.., is 4"},
		{"cpus, exactly", configs.Resources{CPUs: configs.Range{Min: 2, Max: 2}}, "cpus must be 2, is 4"},
		{"cpus, at most", configs.Resources{CPUs: configs.Range{Max: 2}}, "cpus must be at most 2, is 4"},
		{"memory", configs.Resources{Memory: configs.Range{Min: 32, Max: 64}}, "memory must be 32GB..64GB, is 16GB"},
		{"model", configs.Resources{GPU: &configs.GPU{Models: []string{"A100", "H100"}, Count: 1}}, "gpu must be A100 or H100, is T4"},
		{"count", configs.Resources{GPU: &configs.GPU{Models: []string{"T4"}, Count: 4}}, "gpu must be T4:4, has 1"},
		{"gpu memory", configs.Resources{GPU: &configs.GPU{Count: 1, Memory: configs.Range{Min: 24}}}, "gpu memory must be 24GB.., is 16GB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(Unmet(o, test.ask), "; "); got != test.want {
				t.Errorf("unmet is %q, want %q", got, test.want)
			}
		})
	}
	none := Offer{Cloud: "local", Type: "process", Arch: "amd64"}
	if got := Unmet(none, configs.Resources{CPUs: configs.Range{Min: 1}, GPU: &configs.GPU{Count: 1}}); len(got) != 2 ||
		got[0] != "cpus must be 1.., is unknown" || got[1] != "gpu must be any model, has none" {
		t.Errorf("unmet of an offer that states nothing is %q", got)
	}
	none.Missing = []string{"a GPU"}
	if got := Unmet(none, configs.Resources{CPUs: configs.Range{Min: 64}, GPU: &configs.GPU{Count: 8}}); len(got) != 0 {
		t.Errorf("an offer that says what it misses is not excused: %q", got)
	}
}

func plan(t *testing.T, clouds []Cloud, components ...configs.Component) (Plan, error) {
	t.Helper()
	return NewPlan(t.Context(), &configs.App{Name: "app", Components: components}, clouds, PlanOptions{})
}

func component(name string, r configs.Resources) configs.Component {
	return configs.Component{Name: name, Resources: r}
}

func TestPlan(t *testing.T) {
	gpu := offer("aws", "gpu", 1)
	gpu.GPU, gpu.GPUs = "T4", 1
	far := offer("aws", "small", 0.5)
	far.Region = "far"
	clouds := []Cloud{
		&scripted{name: "aws", offers: []Offer{gpu, offer("aws", "big", 2), far}},
		&scripted{name: "rack", offers: []Offer{offer("rack", "h2", 1), offer("rack", "h1", 1), offer("rack", "h0", 3)}},
	}
	got, err := plan(t, clouds,
		component("any", configs.Resources{}),
		component("gpu", configs.Resources{GPU: &configs.GPU{Count: 1}}),
		component("rack", configs.Resources{Clouds: []string{"rack", "nowhere"}}),
		component("one-of", configs.Resources{MaxPrice: 2, AnyOf: []configs.Resources{{Machine: "big"}, {Regions: []string{"far"}}, {Clouds: []string{"aws"}}}}),
	)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"any: aws/far/small aws/gpu rack/h1 rack/h2 aws/big rack/h0",
		"gpu: aws/gpu",
		"rack: rack/h1 rack/h2 rack/h0",
		"one-of: aws/far/small aws/gpu aws/big",
	}
	for i, c := range got.Choices {
		line := c.Component + ":"
		for _, o := range c.Offers {
			line += " " + o.String()
		}
		if line != want[i] {
			t.Errorf("choice is %q, want %q", line, want[i])
		}
	}
	if c, ok := got.Choice("gpu"); !ok || c.Offers[0].Type != "gpu" {
		t.Errorf("the choice of gpu is %+v, %v", c, ok)
	}
	if _, ok := got.Choice("nobody"); ok {
		t.Error("there is a choice for nobody")
	}
}

func TestPlanNamesAllThatIsUnsatisfied(t *testing.T) {
	clouds := []Cloud{&scripted{name: "rack", offers: []Offer{offer("rack", "small", 1), offer("rack", "big", 2)}}}
	for _, test := range []struct {
		name       string
		components []configs.Component
		kind       cluster.FailureKind
		want       []string
	}{
		{"nearest miss", []configs.Component{component("train", configs.Resources{CPUs: configs.Range{Min: 4}, MaxPrice: 0.5})},
			cluster.Provisioning, []string{"component train", "closest is rack/small", "max_price is $0.5"}},
		{"several", []configs.Component{
			component("fine", configs.Resources{}),
			component("train", configs.Resources{GPU: &configs.GPU{Models: []string{"H100"}, Count: 8}}),
			component("serve", configs.Resources{Memory: configs.Range{Min: 512}}),
		}, cluster.Provisioning, []string{"2 components", "train: ", "H100:8, has none", "serve: ", "512GB.., is 16GB"}},
		{"a cloud that is not there", []configs.Component{component("train", configs.Resources{Clouds: []string{"mars"}})},
			cluster.BadInput, []string{"asks for cloud mars", "only rack"}},
		{"one of each", []configs.Component{
			component("a", configs.Resources{Clouds: []string{"mars"}}),
			component("b", configs.Resources{Machine: "huge"}),
		}, cluster.Provisioning, []string{"asks for cloud mars", "machine must be huge"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := plan(t, clouds, test.components...)
			if got := cluster.KindOf(err); got != test.kind {
				t.Errorf("kind is %q, want %q", got, test.kind)
			}
			for _, want := range test.want {
				if !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
			if strings.Contains(fmt.Sprint(err), "fine") {
				t.Errorf("the error names a component that is satisfied:\n%v", err)
			}
		})
	}
}

// broken is a cloud that cannot say what it offers.
type broken struct{ *scripted }

func (broken) Offers(context.Context, configs.Resources) ([]Offer, error) {
	return nil, errors.New("the catalog is damaged")
}

func TestPlanOfABrokenCloud(t *testing.T) {
	_, err := plan(t, []Cloud{broken{&scripted{name: "aws"}}}, component("a", configs.Resources{}))
	if !strings.Contains(fmt.Sprint(err), "offers of aws: the catalog is damaged") {
		t.Errorf("the error is %v", err)
	}
}
