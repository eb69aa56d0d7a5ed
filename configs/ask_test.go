package configs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseResources(t *testing.T) {
	got, err := ParseResources(map[string][]string{
		"gpu": {"a100:8"}, "cpus": {"4.."}, "memory": {"16GB..64GB"}, "arch": {"arm64"}, "region": {"east", "west"}, "zone": {"z"},
		"spot": {"only"}, "max_price": {"2.5"}, "disk": {""}, "cloud": nil,
	})
	want := Resources{
		GPU: &GPU{Models: []string{"A100"}, Count: 8}, CPUs: Range{Min: 4}, Memory: Range{Min: 16, Max: 64}, Arch: "arm64",
		Regions: []string{"east", "west"}, Zones: []string{"z"}, Spot: SpotOnly, MaxPrice: 2.5,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got, err = ParseResources(map[string][]string{"machine": {"cpu-small"}}); err != nil || got.Size != "cpu-small" || got.CPUs.Min != 2 {
		t.Errorf("a size gives %+v, %v", got, err)
	}
	for key, test := range map[string]struct{ text, want string }{
		"gpu":       {"A100:x", "--gpu: gpu must be MODEL[:COUNT]"},
		"max_price": {"cheap", "--max-price: max_price must be a number"},
		"arch":      {"amd46", `--arch: arch must be amd64 or arm64, is "amd46"; did you mean amd64?`},
		"memory":    {"16XB", "--memory: memory has an unknown unit"},
		"colour":    {"red", `--colour: unknown key "colour"`},
	} {
		if _, err := ParseResources(map[string][]string{key: {test.text}}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %s gives %v, want %q", key, test.text, err, test.want)
		}
	}
}
