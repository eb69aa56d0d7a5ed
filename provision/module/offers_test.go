package module

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision"
)

func TestParseOffers(t *testing.T) {
	got, err := parseOffers([]byte("\ufeff# what there is\n" +
		"type, region ,zone,arch,cpus,memory,disk,gpu,gpus,gpu_memory,price,spot_price\r\n" +
		"big,north,n1,arm64,8,64.5,500,a100,2,80,3.20,1.1\n\n" +
		"  small ,,,,,,,,,,0,\n" +
		"spotty,,,,,,,L4,,,,0.25\n"))
	if err != nil {
		t.Fatal(err)
	}
	big := provision.Offer{
		Region: "north", Zone: "n1", Type: "big", OS: "linux", Arch: "arm64", CPUs: 8, Memory: 64.5, Disk: 500,
		GPU: "A100", GPUs: 2, GPUMemory: 80, PricePerHour: 3.2,
	}
	spot := big
	spot.Spot, spot.PricePerHour = true, 1.1
	want := []provision.Offer{
		big, spot,
		{Type: "small", OS: "linux", Arch: "amd64"},
		{Type: "spotty", OS: "linux", Arch: "amd64", GPU: "L4", GPUs: 1, PricePerHour: 0.25, Spot: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseOffersRefuses(t *testing.T) {
	const head = "type,region,zone,arch,cpus,memory,gpu,gpus,price,spot_price\n"
	for _, test := range []struct{ text, want string }{
		{"", "1: the file is empty; its first line names the columns: type,region,"},
		{"# only this\n", "1: the file is empty"},
		{"type,cost\n", `1: "cost" is not a column; the columns are type, region,`},
		{"type,price,type\n", "1: the column type is here twice"},
		{"type,cpus\n", "1: the columns type and price must be there"},
		{"price\n", "1: the columns type and price must be there"},
		{"type,price\n", "1: there are no offers"},
		{head + "a,,,,,,,,1\n", "2: wrong number of fields"},
		{head + "a,,,,,,,,1,\n\n# x\nb,\"\n", "5: extraneous or missing \" in quoted-field"},
		{head + ",,,,,,,,1,\n", "2: type is empty"},
		{head + "a b,,,,,,,,1,\n", `2: type holds blanks or quotes: "a b"`},
		{head + "a,,,x86,,,,,1,\n", `2: arch must be amd64 or arm64, is "x86"`},
		{head + "a,,,,,16GB,,,1,\n", `2: memory must be a number above 0 of GiB, without a unit, is "16GB"`},
		{head + "a,,,,-1,,,,1,\n", `2: cpus must be a number above 0`},
		{head + "a,,,,1e3,,,,1,\n", `2: cpus must be a number above 0`},
		{head + "a,,,,0,,,,1,\n", `2: cpus must be a number above 0`},
		{head + "a,,,,,,,,NaN,\n", `2: price must be a number above 0 of USD an hour`},
		{head + "a,,,,,,,,$1,\n", `2: price must be`},
		{head + "a,,,,,,,,1,0\n", `2: spot_price must be a number above 0`},
		{head + "a,,,,,,,,,\n", "2: price and spot_price are empty; a machine that costs nothing has the price 0"},
		{head + "a,,,,,,A 100,,1,\n", `2: gpu must be a model such as A100, is "A 100"`},
		{head + "a,,,,,,A100,0,1,\n", `2: gpus must be a whole number from 1, is "0"`},
		{head + "a,,,,,,,2,1,\n", "2: there are gpus without a model; fill in gpu"},
		{head + "a,,,,,,,,1,\nb,,,,,,,,1,\na,,,,,,,,2,\n", "4: a is here twice in the same place; it is also on line 2"},
	} {
		if _, err := parseOffers([]byte(test.text)); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%q gave %v\nwant %s", test.text, err, test.want)
		}
	}
}

func TestReadOffers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "offers.csv")
	if err := os.WriteFile(file, []byte("type,region,price\nb,north,2\na,north,1\nc,south,0.5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readOffers("lab", file, []string{"north", "west"})
	if err != nil {
		t.Fatal(err)
	}
	want := []provision.Offer{
		{Cloud: "lab", Region: "north", Type: "a", OS: "linux", Arch: "amd64", PricePerHour: 1},
		{Cloud: "lab", Region: "north", Type: "b", OS: "linux", Arch: "amd64", PricePerHour: 2},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		file    string
		regions []string
		want    string
	}{
		{file, []string{"west"}, "has no offers in west"},
		{file + "x", nil, "no such file"},
		{filepath.Dir(file), nil, "is not a file"},
	} {
		if _, err := readOffers("lab", c.file, c.regions); cluster.KindOf(err) != cluster.BadInput || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %v: %v", c.file, c.regions, err)
		}
	}
}

func FuzzParseOffers(f *testing.F) {
	f.Add("type,price\na,1\n")
	f.Add("# x\ntype,region,zone,arch,cpus,memory,disk,gpu,gpus,gpu_memory,price,spot_price\n\"a\",n,n1,arm64,8,64.5,500,a100,2,80,3.20,1.1\n,,,,,,,,,,,\n")
	f.Add("\ufefftype,price\r\na,\"1\n\"\r\n")
	line := regexp.MustCompile(`^[0-9]+: `)
	f.Fuzz(func(t *testing.T, text string) {
		offers, err := parseOffers([]byte(text))
		if err != nil {
			if !line.MatchString(err.Error()) {
				t.Fatalf("the error names no line: %v", err)
			}
			return
		}
		if len(offers) == 0 {
			t.Fatal("no offers and no error")
		}
		for _, o := range offers {
			if o.Type == "" || o.PricePerHour < 0 || o.PricePerHour > 1e10 || (o.GPU == "") != (o.GPUs == 0) || o.CPUs < 0 || strings.ContainsAny(o.Type+o.Region+o.Zone, " \n\"") {
				t.Fatalf("%+v", o)
			}
		}
	})
}
