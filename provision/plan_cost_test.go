package provision

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

// metered is a cloud of a world that takes money for what leaves its regions: fee
// USD per GiB, nothing for what stays in the region.
type metered struct {
	*scripted
	fee float64
}

func (m metered) Egress(region, location string) float64 {
	if location == m.name+"/"+region {
		return 0
	}
	return m.fee
}

func at(o Offer, region, zone string) Offer {
	o.Region, o.Zone = region, zone
	return o
}

func spot(o Offer) Offer {
	o.Spot = true
	return o
}

// described gives the offers of a choice, and what is said of the runners-up.
func described(c Choice) string {
	var b strings.Builder
	for _, o := range c.Offers {
		fmt.Fprintf(&b, "%s ", o)
	}
	if c.DataCost != 0 {
		fmt.Fprintf(&b, "data $%.4g ", c.DataCost)
	}
	for _, r := range c.Runners {
		fmt.Fprintf(&b, "| %s: %s ", r.Offer, r.Why)
	}
	return strings.TrimSpace(b.String())
}

func TestPlanPricesMovingData(t *testing.T) {
	dear := metered{&scripted{name: "dear", offers: []Offer{at(offer("dear", "cpu", 1), "east", "")}}, 0.1}
	cheap := metered{&scripted{name: "cheap", offers: []Offer{at(offer("cheap", "cpu", 0.8), "west", "")}}, 0.02}
	free := &scripted{name: "free", offers: []Offer{offer("free", "host", 2)}}
	producer := configs.Component{Name: "make", OutputSize: 10, ForEach: []string{"a", "b"}, MaxMachines: 2}
	consumer := configs.Component{Name: "use", Needs: []string{"make"}, MaxMachines: 1}

	for _, test := range []struct {
		name      string
		component configs.Component // the last one of the app
		app       []configs.Component
		location  string
		want      string // of the last component
	}{
		{name: "nothing is known to move", component: configs.Component{Name: "one"},
			want: "cheap/west/cpu dear/east/cpu free/host | dear/east/cpu: $0.20/h more | free/host: $1.20/h more"},
		{name: "outputs leave the cloud", component: configs.Component{Name: "one", OutputSize: 100},
			// 0.8+2, 1+10, 2
			want: "free/host cheap/west/cpu dear/east/cpu | cheap/west/cpu: moving 100 GiB costs $2.00 more | dear/east/cpu: moving 100 GiB costs $10.00 more"},
		{name: "a long call makes the price count for more", component: configs.Component{Name: "one", OutputSize: 100, Timeout: 4 * time.Hour},
			// 3.2+2, 4+10, 8
			want: "cheap/west/cpu free/host dear/east/cpu data $2 | free/host: $1.20/h more | dear/east/cpu: $0.20/h more; moving 100 GiB costs $8.00 more"},
		{name: "outputs stay where the controller is", component: configs.Component{Name: "one", OutputSize: 10}, location: "dear/east",
			// 1+0, 0.8+0.2, 2: the price decides
			want: "cheap/west/cpu dear/east/cpu free/host data $0.2 | dear/east/cpu: $0.20/h more | free/host: $1.20/h more"},
		{name: "inputs of all calls come from outside for nothing", component: consumer, app: []configs.Component{producer},
			want: "cheap/west/cpu dear/east/cpu free/host | dear/east/cpu: $0.20/h more | free/host: $1.20/h more"},
		{name: "inputs of all calls leave the controller's cloud", component: consumer, app: []configs.Component{producer}, location: "dear/east",
			// 1+0, 0.8+2, 2+2: 2 calls of 10 GiB at $0.1
			want: "dear/east/cpu cheap/west/cpu free/host | cheap/west/cpu: moving 20 GiB costs $2.00 more | free/host: $1.00/h more; moving 20 GiB costs $2.00 more"},
		{name: "the controller is in a cloud that is not asked", component: consumer, app: []configs.Component{producer}, location: "else/where",
			want: "cheap/west/cpu dear/east/cpu free/host | dear/east/cpu: $0.20/h more | free/host: $1.20/h more"},
	} {
		t.Run(test.name, func(t *testing.T) {
			app := &configs.App{Name: "app", Components: append(test.app, test.component)}
			plan, err := NewPlan(t.Context(), app, []Cloud{dear, cheap, free}, PlanOptions{Location: test.location})
			if err != nil {
				t.Fatal(err)
			}
			if got := described(plan.Choices[len(plan.Choices)-1]); got != test.want {
				t.Errorf("choice is\n  %s\nwant\n  %s", got, test.want)
			}
		})
	}
}

func TestPlanKnowsWhatThisHostIs(t *testing.T) {
	dear := metered{&scripted{name: "dear", offers: []Offer{at(offer("dear", "cpu", 1), "east", "")}}, 0.1}
	local := &scripted{name: "here", offers: []Offer{offer("here", "process", 0)}}
	app := &configs.App{Name: "app", Components: []configs.Component{{Name: "make", OutputSize: 100}, {Name: "use", Needs: []string{"make"}}}}
	plan, err := NewPlan(t.Context(), app, []Cloud{dear, local}, PlanOptions{
		Location: "aws/east", Place: func(cloud, region string) string { return "aws/east" },
	})
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := plan.Choice("use"); c.Offers[0].Cloud != "here" || c.DataCost != 0 {
		t.Errorf("choice is %s", described(c))
	}
}

func TestPlanPutsWhatCouldNotBeHadLast(t *testing.T) {
	now := time.Date(2026, 5, 31, 12, 0, 0, 0, time.UTC)
	clouds := []Cloud{
		&scripted{name: "aws", offers: []Offer{
			at(offer("aws", "small", 1), "east", "a"), at(offer("aws", "small", 1), "east", "b"), at(offer("aws", "small", 1.5), "west", "c"),
			at(spot(offer("aws", "small", 0.4)), "east", "a"),
		}},
		&scripted{name: "gcp", offers: []Offer{at(offer("gcp", "large", 2), "north", "n")}},
	}
	cool := func(c cluster.Cooldown, minutes int) cluster.Cooldown {
		c.Until = now.Add(time.Duration(minutes) * time.Minute)
		return c
	}
	for _, test := range []struct {
		name      string
		cooldowns []cluster.Cooldown
		want      string
	}{
		{"none", nil, "aws/a/small (spot) aws/a/small aws/b/small aws/c/small gcp/n/large | aws/a/small: $0.60/h more | gcp/n/large: $1.60/h more"},
		{"a zone", []cluster.Cooldown{cool(cluster.Cooldown{Cloud: "aws", Region: "east", Zone: "a", Type: "small", Spot: true, Kind: cluster.Capacity}, 3)},
			"aws/a/small aws/b/small aws/c/small gcp/n/large aws/a/small (spot) | aws/a/small (spot): was out of capacity, so it is tried last for the next 3 min | aws/c/small: $0.50/h more | gcp/n/large: $1.00/h more"},
		{"a region", []cluster.Cooldown{cool(cluster.Cooldown{Cloud: "aws", Region: "east", Type: "small", Kind: cluster.Quota}, 9)},
			"aws/a/small (spot) aws/c/small gcp/n/large aws/a/small aws/b/small | aws/c/small: $1.10/h more | gcp/n/large: $1.60/h more"},
		{"a cloud, both ways to buy", []cluster.Cooldown{cool(cluster.Cooldown{Cloud: "aws", Kind: cluster.Quota}, 9), cool(cluster.Cooldown{Cloud: "aws", Spot: true, Kind: cluster.Price}, 1)},
			"gcp/n/large aws/a/small (spot) aws/a/small aws/b/small aws/c/small | aws/a/small (spot): was not to be had at its price, so it is tried last for the next 1 min | aws/a/small: was beyond a quota, so it is tried last for the next 9 min"},
		{"over", []cluster.Cooldown{cool(cluster.Cooldown{Cloud: "aws", Spot: true, Kind: cluster.Capacity}, 0)},
			"aws/a/small (spot) aws/a/small aws/b/small aws/c/small gcp/n/large | aws/a/small: $0.60/h more | gcp/n/large: $1.60/h more"},
	} {
		t.Run(test.name, func(t *testing.T) {
			app := &configs.App{Components: []configs.Component{component("one", configs.Resources{Spot: configs.SpotAuto})}}
			plan, err := NewPlan(t.Context(), app, clouds, PlanOptions{Cooldowns: test.cooldowns, Now: now})
			if err != nil {
				t.Fatal(err)
			}
			if got := described(plan.Choices[0]); got != test.want {
				t.Errorf("choice is\n  %s\nwant\n  %s", got, test.want)
			}
		})
	}
}

func TestPlanHasSpotAsAllowed(t *testing.T) {
	clouds := []Cloud{&scripted{name: "aws", offers: []Offer{offer("aws", "small", 1), spot(offer("aws", "small", 0.3)), spot(offer("aws", "rare", 2))}}}
	for policy, want := range map[configs.Spot]string{
		configs.SpotNever: "aws/small",
		configs.SpotAuto:  "aws/small (spot) aws/small aws/rare (spot)",
		configs.SpotOnly:  "aws/small (spot) aws/rare (spot)",
	} {
		got, err := plan(t, clouds, component("one", configs.Resources{Spot: policy}))
		if err != nil {
			t.Fatal(err)
		}
		got.Choices[0].Runners = nil
		if text := described(got.Choices[0]); text != want {
			t.Errorf("spot %q gives %s, want %s", policy, text, want)
		}
	}
}

func TestPlanBoundsFallbacks(t *testing.T) {
	var offers []Offer
	for typ := range 50 {
		for zone := range 30 {
			offers = append(offers, at(offer("aws", fmt.Sprintf("t%02d", typ), float64(1+typ)), "east", fmt.Sprintf("z%02d", zone)))
		}
	}
	other := &scripted{name: "gcp", offers: []Offer{offer("gcp", "dear", 1000)}}
	got, err := plan(t, []Cloud{&scripted{name: "aws", offers: offers}, other}, component("one", configs.Resources{}))
	if err != nil {
		t.Fatal(err)
	}
	c := got.Choices[0]
	types := map[string]int{}
	for i, o := range c.Offers {
		types[o.Type]++
		if i > 0 && o.PricePerHour < c.Offers[i-1].PricePerHour {
			t.Errorf("%s comes after %s", o, c.Offers[i-1])
		}
	}
	// 30 zones of the cheapest, 2 of the next, and then each type once.
	if len(c.Offers) != mostOffers+1 || types["t00"] != 30 || types["t01"] != 2 || types["t02"] != 1 || types["t33"] != 1 || types["dear"] != 1 {
		t.Errorf("%d offers, by type %v", len(c.Offers), types)
	}
	if len(c.Runners) != mostRunners {
		t.Errorf("%d runners-up", len(c.Runners))
	}
}

func TestPlanKeepsToOneTargetForBuilds(t *testing.T) {
	arm := offer("aws", "arm", 1)
	arm.Arch = "arm64"
	mac := offer("rack", "mac", 2)
	mac.Arch, mac.OS = "arm64", "darwin"
	dearArm := offer("aws", "dear-arm", 9)
	dearArm.Arch = "arm64"
	clouds := []Cloud{
		&scripted{name: "aws", offers: []Offer{arm, offer("aws", "amd", 1.5), dearArm}},
		&scripted{name: "rack", offers: []Offer{mac}},
	}
	built := component("built", configs.Resources{})
	built.Build = "make"
	got, err := plan(t, clouds, component("plain", configs.Resources{}), built)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"aws/arm aws/amd rack/mac aws/dear-arm", "aws/arm aws/dear-arm"} {
		got.Choices[i].Runners = nil
		if text := described(got.Choices[i]); text != want {
			t.Errorf("%s gets %s, want %s", got.Choices[i].Component, text, want)
		}
	}
}

func TestPlanReuse(t *testing.T) {
	gpu := offer("aws", "gpu", 1)
	gpu.GPU, gpu.GPUs = "T4", 1
	arm := offer("aws", "arm", 0.7)
	arm.Arch = "arm64"
	clouds := []Cloud{&scripted{name: "aws", offers: []Offer{offer("aws", "small", 0.5), arm, gpu, offer("aws", "big", 2)}}}
	free := []Cloud{&scripted{name: "aws", offers: []Offer{offer("aws", "small", 0)}}}
	mixed := []Cloud{&scripted{name: "aws", offers: []Offer{offer("aws", "small", 0.5)}}, &scripted{name: "here", offers: []Offer{offer("here", "process", 0)}}}

	type components = []configs.Component
	a := configs.Component{Name: "a"}
	b := configs.Component{Name: "b", Needs: []string{"a"}}
	with := func(c configs.Component, change func(*configs.Component)) configs.Component {
		change(&c)
		return c
	}
	res := func(c configs.Component, r configs.Resources) configs.Component { c.Resources = r; return c }

	for _, test := range []struct {
		name   string
		app    components
		clouds []Cloud
		want   bool // b takes over a machine of a
	}{
		{"the same", components{a, b}, clouds, true},
		{"it asks for less", components{res(a, configs.Resources{CPUs: configs.Range{Min: 4}}), b}, clouds, true},
		{"a cheaper offer would do, so it gets that one", components{res(a, configs.Resources{GPU: &configs.GPU{Count: 1}}), b}, clouds, false},
		{"the other's fallbacks are too dear", components{a, res(b, configs.Resources{MaxPrice: 1})}, clouds, false},
		{"both are within the price", components{res(a, configs.Resources{MaxPrice: 1}), res(b, configs.Resources{MaxPrice: 1})}, clouds, true},
		{"any of two", components{res(a, configs.Resources{MaxPrice: 0.6}), res(b, configs.Resources{AnyOf: []configs.Resources{{Machine: "big"}, {Machine: "small"}}})}, clouds, true},
		{"it does not need the other", components{a, with(b, func(c *configs.Component) { c.Needs = nil })}, clouds, false},
		{"machines cost nothing", components{a, b}, free, false},
		{"a fallback costs nothing", components{res(a, configs.Resources{Clouds: []string{"aws", "here"}}), b}, mixed, false},
		{"other ports", components{a, with(b, func(c *configs.Component) { c.Ports = []int{80} })}, clouds, false},
		{"fewer ports", components{with(a, func(c *configs.Component) { c.Ports = []int{80} }), b}, clouds, false},
		{"the same ports", components{with(a, func(c *configs.Component) { c.Ports = []int{80, 90} }), with(b, func(c *configs.Component) { c.Ports = []int{90, 80} })}, clouds, true},
		{"a disk that the other may not have", components{a, res(b, configs.Resources{Disk: configs.Range{Min: 100}})}, clouds, false},
		{"a disk that the other has", components{res(a, configs.Resources{Disk: configs.Range{Min: 200}}), res(b, configs.Resources{Disk: configs.Range{Min: 100}})}, clouds, true},
		{"a disk that is too big", components{res(a, configs.Resources{Disk: configs.Range{Min: 200}}), res(b, configs.Resources{Disk: configs.Range{Min: 100, Max: 150}})}, clouds, false},
		{"built for what a fallback is not", components{a, with(b, func(c *configs.Component) { c.Build = "make" })}, clouds, false},
		{"built for what all are", components{with(a, func(c *configs.Component) { c.Build = "make" }), with(b, func(c *configs.Component) { c.Build = "make" })}, clouds, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := plan(t, test.clouds, test.app...)
			if err != nil {
				t.Fatal(err)
			}
			if got.Reuses("a", "b") != test.want {
				t.Errorf("b takes over machines of %q", got.Choices[1].Reuse)
			}
			if shown := slices.Contains(got.Choices[1].Reuse, "a"); shown != test.want {
				t.Errorf("the choice names %q", got.Choices[1].Reuse)
			}
			if got.Reuses("b", "a") || got.Reuses("nobody", "b") || got.Reuses("a", "nobody") {
				t.Error("machines go the wrong way")
			}
		})
	}
}

// A machine goes from hand to hand, as long as everybody may have what was made
// for the first.
func TestPlanReuseInAChain(t *testing.T) {
	clouds := []Cloud{&scripted{name: "aws", offers: []Offer{offer("aws", "small", 0.5)}}}
	disk := func(low, high float64) configs.Resources {
		return configs.Resources{Disk: configs.Range{Min: low, Max: high}}
	}
	got, err := plan(t, clouds,
		configs.Component{Name: "a", Resources: disk(200, 0)},
		configs.Component{Name: "b", Resources: disk(100, 0), Needs: []string{"a"}},
		configs.Component{Name: "c", Resources: disk(100, 150), Needs: []string{"b"}},
		configs.Component{Name: "d", Needs: []string{"c", "b"}},
		configs.Component{Name: "alone"},
	)
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for _, from := range got.Choices {
		for _, to := range got.Choices {
			if got.Reuses(from.Component, to.Component) {
				pairs = append(pairs, from.Component+to.Component)
			}
		}
	}
	// Not a's by c: its disk is too big. Not b's by a: a needs nothing.
	if want := []string{"ab", "ad", "bc", "bd", "cd"}; !slices.Equal(pairs, want) {
		t.Errorf("machines go %q, want %q", pairs, want)
	}
}

// The names of the fields are a promise.
func TestPlanAsJSON(t *testing.T) {
	clouds := []Cloud{metered{&scripted{name: "aws", offers: []Offer{at(offer("aws", "small", 0.5), "east", "a"), at(offer("aws", "big", 2), "east", "a")}}, 0.1}}
	app := &configs.App{Components: []configs.Component{
		{Name: "a", OutputSize: 1, ForEach: []string{"x", "y", "z"}, MaxMachines: 2},
		{Name: "b", Needs: []string{"a"}},
	}}
	got, err := NewPlan(t.Context(), app, clouds, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range got.Choices {
		got.Choices[i].Offers = got.Choices[i].Offers[:1]
	}
	data, err := json.MarshalIndent(got, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	small := `{"cloud":"aws","region":"east","zone":"a","type":"small","os":"linux","arch":"amd64","cpus":4,"memory":16,"price_per_hour":0.5}`
	big := strings.NewReplacer("small", "big", "0.5", "2").Replace(small)
	want := `{"choices":[
		{"component":"a","offers":[` + small + `],"data_cost":0.1,"runners":[{"offer":` + big + `,"data_cost":0.1,"why":"$1.50/h more"}]},
		{"component":"b","offers":[` + small + `],"runners":[{"offer":` + big + `,"why":"$1.50/h more"}],"reuse":["a"]}
	],"price_per_hour":1.5}`
	var a, b any
	if err := json.Unmarshal([]byte(want), &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("the plan as JSON (-want +got):\n%s", diff)
	}
}
