package catalog

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
)

func builtIn(t testing.TB, kind string) *Catalog {
	t.Helper()
	c, err := Embedded(kind)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func kinds() []string { return []string{"aws", "gcp"} }

func TestEmbeddedIsPlausible(t *testing.T) {
	for _, kind := range kinds() {
		c := builtIn(t, kind)
		if c.Kind != kind || c.AsOf.IsZero() {
			t.Errorf("the catalog of %s is of %s, as of %s", kind, c.Kind, c.AsOf)
		}
		if !slices.IsSortedFunc(c.Rows, compareRows) {
			t.Errorf("the rows of %s are not sorted", kind)
		}
		hardware := map[string]Row{}
		for _, row := range c.Rows {
			name := row.Type + " " + row.GPU + " in " + row.Region
			if row.CPUs < 1 || row.CPUs > 256 || row.Memory < 0.5 || row.Memory > 4096 || row.Region == "" {
				t.Errorf("%s: %+v", name, row)
			}
			// The cheapest processor is about $0.005 an hour, the dearest GPU about $14.
			if low, high := 0.004*row.CPUs, 0.15*row.CPUs+15*float64(row.GPUs); row.Price < low || row.Price > high {
				t.Errorf("%s costs $%g, which is not between $%g and $%g", name, row.Price, low, high)
			}
			if row.SpotPrice > row.Price || row.SpotPrice != 0 && row.SpotPrice < row.Price/20 {
				t.Errorf("%s costs $%g, and $%g as spot", name, row.Price, row.SpotPrice)
			}
			if row.GPUs > 0 && GPUMemory(row.GPUMemory) != row.GPUMemory {
				t.Errorf("%s has GPUs of %g GB", name, row.GPUMemory)
			}
			for _, zone := range row.Zones {
				if !zoneIn(kind, zone, row.Region) {
					t.Errorf("%s: zone %s is not of that region", name, zone)
				}
			}
			same := row
			same.Region, same.Zones, same.Price, same.SpotPrice = "", nil, 0, 0
			if other, ok := hardware[row.Type+row.GPU]; ok && !reflect.DeepEqual(other, same) {
				t.Errorf("%s is %+v, and elsewhere %+v", name, same, other)
			}
			hardware[row.Type+row.GPU] = same
		}
	}
}

// zoneIn knows the zone ids of AWS (use1-az1 of us-east-1) and the zone names of
// GCP (us-east1-b of us-east1).
func zoneIn(kind, zone, region string) bool {
	if kind == "gcp" {
		return len(zone) == len(region)+2 && strings.HasPrefix(zone, region+"-")
	}
	short := map[string]string{
		"us-east-1": "use1", "us-east-2": "use2", "us-west-2": "usw2",
		"eu-west-1": "euw1", "eu-central-1": "euc1", "ap-northeast-1": "apne1",
	}[region]
	return short != "" && strings.HasPrefix(zone, short+"-az")
}

func TestEmbeddedHasEveryFamily(t *testing.T) {
	for kind, want := range map[string]string{
		"aws": "A100 A100-80GB A10G H100 H200 L4 L40S T4 T4G V100 V100-32GB",
		"gcp": "A100 A100-80GB H100 L4 P100 P4 T4 V100",
	} {
		var models []string
		arm := false
		for _, row := range builtIn(t, kind).Rows {
			if row.GPU != "" && !slices.Contains(models, row.GPU) {
				models = append(models, row.GPU)
			}
			arm = arm || row.Arch == "arm64"
		}
		slices.Sort(models)
		if got := strings.Join(models, " "); got != want {
			t.Errorf("%s has %s, want %s", kind, got, want)
		}
		if kind == "aws" && !arm {
			t.Error("aws has nothing with arm64")
		}
	}
}

// The files are as Write would write them, so that a change of one is a small
// difference.
func TestEmbeddedIsInItsOwnForm(t *testing.T) {
	for _, kind := range kinds() {
		file, err := embedded.ReadFile(kind + ".csv")
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := builtIn(t, kind).Write(&b); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(file), b.String()); diff != "" {
			t.Errorf("%s.csv, written anew:\n%s", kind, diff)
		}
	}
	if _, err := Embedded("mars"); err == nil {
		t.Error("there is a catalog of mars")
	}
}

func small() *Catalog {
	return &Catalog{Kind: "aws", AsOf: time.Date(2031, 5, 31, 0, 0, 0, 0, time.UTC), Rows: []Row{
		{Type: "big", Arch: "arm64", CPUs: 8, Memory: 61, Region: "east", Price: 3},
		{Type: "g", Arch: "amd64", CPUs: 4, Memory: 15.25, GPU: "A100-80GB", GPUs: 2, GPUMemory: 80, Region: "east", Zones: []string{"e1", "e2"}, Price: 2, SpotPrice: 0.5},
		{Type: "g", Arch: "amd64", CPUs: 4, Memory: 15.25, GPU: "A100-80GB", GPUs: 2, GPUMemory: 80, Region: "west", SpotPrice: 0.4},
		{Type: "n1", Arch: "amd64", CPUs: 4, Memory: 15, Region: "east", Zones: []string{"e1"}, Price: 0.19},
		{Type: "n1", Arch: "amd64", CPUs: 4, Memory: 15, GPU: "T4", GPUs: 1, GPUMemory: 16, Region: "east", Zones: []string{"e1"}, Price: 0.54},
	}}
}

func TestSaveAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "catalog")
	old := builtIn(t, "aws")
	same := func(want, got *Catalog) {
		t.Helper()
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Catalog{})); diff != "" {
			t.Errorf("loaded (-want +got):\n%s", diff)
		}
	}
	load := func() *Catalog {
		t.Helper()
		c, err := Load("aws", dir)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	same(old, load()) // there is no cache yet
	if err := small().Save(dir); err != nil {
		t.Fatal(err)
	}
	same(small(), load())
	ancient := small()
	ancient.AsOf = old.AsOf.AddDate(0, 0, -1)
	if err := ancient.Save(dir); err != nil {
		t.Fatal(err)
	}
	same(old, load())
	ancient.AsOf = old.AsOf // one that was made for this user is better than one of the same day
	if err := ancient.Save(dir); err != nil {
		t.Fatal(err)
	}
	same(ancient, load())
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("the cache holds %v", entries)
	}

	for _, text := range []string{"", "what is this", "levin-offers,1,gcp,2031\ntype\n", "levin-offers,9,aws,2031-01-01\ntype\n"} {
		if err := os.WriteFile(filepath.Join(dir, "aws.csv"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load("aws", dir)
		var f *cluster.Failure
		if !errors.As(err, &f) || !strings.Contains(f.Next, "levin offers refresh") {
			t.Errorf("Load of %q: %v", text, err)
		}
	}
	if _, err := Load("mars", dir); err == nil {
		t.Error("mars was loaded")
	}
}

func TestReadSaysWhatIsWrong(t *testing.T) {
	const head = "levin-offers,1,aws,2031-05-31\ntype,region,price,spot_price,arch,gpu,gpus,cpus\n"
	for _, test := range []struct{ name, in, want string }{
		{"empty", "", "line 1: must be levin-offers,1,KIND,DATE"},
		{"another format", "levin-offers,2,aws,2031-05-31\n", `line 1: is of format "2"; this version of Levin knows format 1`},
		{"no kind", "levin-offers,1,,2031\n", "line 1: must name the kind"},
		{"date", "levin-offers,1,aws,May\n", `line 1: has the date "May"`},
		{"no columns", "levin-offers,1,aws,2031\n", "line 2 must name the columns"},
		{"unknown column", "levin-offers,1,aws,2031\ntype,colour\n", `line 2: there is no column "colour"; there are type, arch`},
		{"column twice", "levin-offers,1,aws,2031\ntype,price,price\n", "line 2: column price is there twice"},
		{"column missing", "levin-offers,1,aws,2031\nprice\n", "line 2: column type is missing"},
		{"fields", head + "a,east,1\n", "line 3: wrong number of fields"},
		{"type", head + "a,east,1,,,,,\n,east,1,,,,,\n", "line 4: type is empty"},
		{"price", head + "a,east,,,,,,\n", "line 3: a has neither price nor spot_price"},
		{"number", head + "a,east,cheap,,,,,\n", `line 3: price: must be a number from 0, is "cheap"`},
		{"negative", head + "a,east,-1,,,,,\n", "line 3: price: must be a number from 0"},
		{"not a number", head + "a,east,NaN,,,,,\n", "line 3: price: must be a number from 0"},
		{"arch", head + "a,east,1,,vax,,,\n", `line 3: arch: must be amd64 or arm64, is "vax"`},
		{"gpus", head + "a,east,1,,,T4,1.5,\n", `line 3: gpus: must be a whole number, is "1.5"`},
		{"gpu without gpus", head + "a,east,1,,,T4,,\n", "line 3: a must have both gpu and gpus"},
		{"twice", head + "a,east,1,,,,,\nb,east,1,,,,,\na,east,2,,,,,\n", `a in region "east" is there twice`},
		{"quote", head + "\"a,east,1,,,,,\n", "line 3: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Read(strings.NewReader(test.in)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
		})
	}
}

func TestReadOfAFewColumns(t *testing.T) {
	got, err := Read(strings.NewReader("levin-offers,1,lab,2031\r\nprice,type,gpu,gpus,gpu_memory,zones\r\n1.5,box, a100 ,2,79.6,b a\r\n0.2,mini,,,,\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := &Catalog{Kind: "lab", AsOf: time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC), YearOnly: true, Rows: []Row{
		{Type: "box", Arch: "amd64", GPU: "A100-80GB", GPUs: 2, GPUMemory: 80, Zones: []string{"a", "b"}, Price: 1.5},
		{Type: "mini", Arch: "amd64", Price: 0.2},
	}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Catalog{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

func TestAge(t *testing.T) {
	day := func(s string) time.Time {
		d, err := time.Parse(time.DateTime, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, test := range []struct {
		year bool
		now  string
		want string
	}{
		{false, "2031-05-31 23:00:00", "prices as of 2031-05-31, today"},
		{false, "2031-06-01 01:00:00", "prices as of 2031-05-31, 1 day old"},
		{false, "2031-10-21 01:00:00", "prices as of 2031-05-31, 143 days old"},
		{false, "2030-01-01 00:00:00", "prices as of 2031-05-31, today"}, // a clock that is wrong
		{true, "2031-06-01 01:00:00", "prices as of 2031 (day not known), at most 151 days old"},
	} {
		c := small()
		if c.YearOnly = test.year; test.year {
			c.AsOf = day("2031-01-01 00:00:00")
		}
		if got := c.Age(day(test.now)); got != test.want {
			t.Errorf("age is %q, want %q", got, test.want)
		}
	}
}

func TestGPUsGetTheNamesPeopleUse(t *testing.T) {
	for _, test := range []struct {
		model    string
		reported float64
		want     string
		gib      float64
	}{
		{"A10G", 22.35, "A10G", 24}, {"L4", 22.35, "L4", 24}, {"L40S", 44.7, "L40S", 48}, {"T4", 15, "T4", 16}, {"T4", 16, "T4", 16},
		{"V100", 16, "V100", 16}, {"V100", 32, "V100-32GB", 32}, {"V100-32GB", 32, "V100-32GB", 32},
		{"A100", 40, "A100", 40}, {"A100", 39.6, "A100", 40}, {"A100", 80, "A100-80GB", 80}, {"A100-80GB", 80, "A100-80GB", 80}, {"A100-40GB", 40, "A100", 40},
		{"A1000", 8, "A1000", 8}, {"H100", 79.6, "H100", 80}, {"H200", 140.4, "H200", 141}, {"H200", 141, "H200", 141}, {"X", 17.123, "X", 17.12}, {"A100", 0, "A100", 0},
	} {
		gib := GPUMemory(test.reported)
		if got := GPUModel(test.model, gib); got != test.want || gib != test.gib {
			t.Errorf("%s with %g is %s with %g, want %s with %g", test.model, test.reported, got, gib, test.want, test.gib)
		}
	}
}

func TestOffers(t *testing.T) {
	c := small()
	for _, test := range []struct {
		name    string
		regions []string
		ask     configs.Resources
		want    string
	}{
		{"everything on demand", nil, configs.Resources{}, "n1@e1 n1@e1+T4 g@e1+A100-80GB g@e2+A100-80GB big@east"},
		{"spot too", nil, configs.Resources{Spot: configs.SpotAuto, GPU: &configs.GPU{Count: 2}}, "g@west+A100-80GB(spot) g@e1+A100-80GB(spot) g@e2+A100-80GB(spot) g@e1+A100-80GB g@e2+A100-80GB"},
		{"only some regions", []string{"west"}, configs.Resources{Spot: configs.SpotAuto}, "g@west+A100-80GB(spot)"},
		{"a zone", nil, configs.Resources{Zones: []string{"e2"}}, "g@e2+A100-80GB"},
		{"nothing", nil, configs.Resources{Machine: "none"}, ""},
		{"no such region", []string{"mars"}, configs.Resources{}, ""},
	} {
		var got []string
		for _, o := range c.Offers("cloud", test.regions, test.ask) {
			if o.Cloud != "cloud" || o.OS != "linux" {
				t.Errorf("%s: %+v", test.name, o)
			}
			name := o.Type + "@" + o.Zone
			if o.Zone == "" {
				name = o.Type + "@" + o.Region
			}
			if o.GPU != "" {
				name += "+" + o.GPU
			}
			if o.Spot {
				name += "(spot)"
			}
			got = append(got, name)
		}
		if text := strings.Join(got, " "); text != test.want {
			t.Errorf("%s gives %s, want %s", test.name, text, test.want)
		}
	}
}

// Offers are all that satisfy, in order, and nobody's to keep: changing them
// changes nothing.
func TestOffersOfTheEmbedded(t *testing.T) {
	for _, kind := range kinds() {
		c := builtIn(t, kind)
		everything := c.Offers(kind, nil, configs.Resources{Spot: configs.SpotAuto})
		for _, ask := range []configs.Resources{{}, {Spot: configs.SpotOnly}, {GPU: &configs.GPU{Count: 1}}, {Memory: configs.Range{Min: 64}, MaxPrice: 2}} {
			var want []provision.Offer
			for _, o := range everything {
				if len(provision.Unmet(o, ask)) == 0 {
					want = append(want, o)
				}
			}
			provision.SortOffers(want)
			var wait sync.WaitGroup
			for range 2 {
				wait.Go(func() {
					got := c.Offers(kind, nil, ask)
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s, %+v (-want +got):\n%s", kind, ask, diff)
					}
					clear(got)
				})
			}
			wait.Wait()
		}
	}
}

func TestPriceAndRegions(t *testing.T) {
	c := small()
	for _, test := range []struct {
		typ, region string
		spot        bool
		want        float64
	}{
		{"big", "east", false, 3}, {"g", "east", true, 0.5}, {"g", "west", true, 0.4}, {"n1", "east", false, 0.19},
		{"g", "west", false, 0}, {"big", "west", false, 0}, {"none", "east", false, 0}, {"big", "east", true, 0},
	} {
		if got, ok := c.Price(test.typ, test.region, test.spot); got != test.want || ok != (test.want > 0) {
			t.Errorf("%s in %s, spot %v: $%g, %v", test.typ, test.region, test.spot, got, ok)
		}
	}
	if got := c.Regions(); !slices.Equal(got, []string{"east", "west"}) {
		t.Errorf("regions are %q", got)
	}
}

// Whatever can be read is written in a form that reads as the same.
func FuzzRead(f *testing.F) {
	for _, c := range []*Catalog{small(), {Kind: "x", YearOnly: true, AsOf: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}} {
		var b bytes.Buffer
		if err := c.Write(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte("levin-offers,1,x,2026\nprice,type\n1e3,\"a\nb\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := c.Write(&b); err != nil {
			t.Fatal(err)
		}
		again, err := Read(&b)
		if err != nil {
			t.Fatalf("cannot be read again: %v\n%s", err, b.Bytes())
		}
		if diff := cmp.Diff(c, again, cmpopts.IgnoreUnexported(Catalog{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("read again (-first +second):\n%s", diff)
		}
	})
}

func BenchmarkLoadBoth(b *testing.B) {
	for b.Loop() {
		for _, kind := range kinds() {
			c, err := Load(kind, "")
			if err != nil {
				b.Fatal(err)
			}
			c.Offers(kind, nil, configs.Resources{})
		}
	}
}
