package terraform_test

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/terraform"
)

var update = flag.Bool("update", false, "rewrite golden files")

func sampleRoot() terraform.Root {
	return terraform.Root{
		Run: "demo-abc123", Group: "demo-abc123-g1",
		Module: terraform.Module{
			Name: "sample", Files: fstest.MapFS{"main.tf": {Data: []byte("# a module\n")}, "README.md": {Data: []byte("not copied")}},
			Requires: map[string]terraform.Requirement{
				"zed": {Source: "example/zed", Version: "~> 1.2"}, "alpha": {Source: "example/alpha"}, "terraform": {},
			},
			ProviderConfig: map[string]map[string]any{"zed": {"region": "r1", "retries": 3}, "alpha": {}},
		},
		Machines: map[string]terraform.MachineInput{
			"demo-abc123-train-2": {Type: "big", Zone: "a", Disk: 100, Ports: []int{8000}, Extra: map[string]any{"b": 1, "a": "${not.an.expression}"}},
			"demo-abc123-train-1": {Type: "small"},
		},
		SSHPublicKey: "ssh-ed25519 AAAA levin", IngressCIDRs: []string{"192.0.2.1/32"},
		Tags: map[string]string{"levin-run": "demo-abc123", "levin-owner": "a \"quoted\" name"}, TTL: 86400,
		Extra: map[string]any{"region": "r1"},
	}
}

func TestRootGolden(t *testing.T) {
	files, err := sampleRoot().Files()
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, []string{"main.tf", "modules/sample/main.tf"}) {
		t.Errorf("files: %v", got)
	}
	golden := filepath.Join("testdata", "main.tf.golden")
	if *update {
		if err := os.WriteFile(golden, files["main.tf"], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(files["main.tf"])); diff != "" {
		t.Error(diff)
	}
}

// The same root gives the same bytes, whatever order its maps are walked in.
func TestRootIsDeterministic(t *testing.T) {
	first, err := sampleRoot().Files()
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		again, err := sampleRoot().Files()
		if err != nil {
			t.Fatal(err)
		}
		for name := range first {
			if !bytes.Equal(first[name], again[name]) {
				t.Fatalf("%s differs", name)
			}
		}
	}
}

func TestRootWriteKeepsState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "group")
	if err := sampleRoot().Write(dir); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "terraform.tfstate")
	if err := os.WriteFile(state, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sampleRoot().Write(dir); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(state); string(b) != "precious" {
		t.Errorf("state: %q", b)
	}
	if info, err := os.Stat(filepath.Join(dir, "main.tf")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("main.tf: %v %v", info.Mode(), err)
	}
}
