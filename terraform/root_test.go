package terraform_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
			Name: "sample", Files: fstest.MapFS{
				"main.tf": {Data: []byte("# a module\n")}, "boot/user-data.tftpl": {Data: []byte("a template\n")}, "net/main.tf": {},
				"terraform.tfstate": {Data: []byte("not copied")}, "terraform.tfstate.backup": {}, "own.tfvars": {}, ".terraform/x.tf": {}, ".hidden": {},
			},
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
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, []string{"main.tf", "modules/sample/boot/user-data.tftpl", "modules/sample/main.tf", "modules/sample/net/main.tf"}) {
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

// What was written can be read again.
func TestReadMachines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "group")
	root := sampleRoot()
	root.Machines["9 odd \" name\n"] = terraform.MachineInput{Type: "${x} %{y}", Extra: map[string]any{"none": nil, "list": []any{1.0, "two"}}}
	if err := root.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := terraform.ReadMachines(dir)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(root.Machines)
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.ReplaceAll(string(want), `"ports":null`, `"ports":[]`), string(again)); diff != "" {
		t.Error(diff)
	}
	if _, err := terraform.ReadMachines(t.TempDir()); err == nil {
		t.Error("an empty folder was read")
	}
}

// What a module has no longer does not stay in its folder.
func TestRootWriteRemovesOldFiles(t *testing.T) {
	dir := t.TempDir()
	root := sampleRoot()
	root.Module.Files = fstest.MapFS{"main.tf": {}, "old.tf": {}, "net/old.tf": {}}
	if err := root.Write(dir); err != nil {
		t.Fatal(err)
	}
	if err := sampleRoot().Write(dir); err != nil {
		t.Fatal(err)
	}
	left, err := fs.Glob(os.DirFS(filepath.Join(dir, "modules", "sample")), "*/*.tf")
	if err != nil || !slices.Equal(left, []string{"net/main.tf"}) {
		t.Errorf("left: %v %v", left, err)
	}
	if left, err = fs.Glob(os.DirFS(filepath.Join(dir, "modules", "sample")), "*.tf"); err != nil || !slices.Equal(left, []string{"main.tf"}) {
		t.Errorf("left: %v %v", left, err)
	}
}

func TestRootRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*terraform.Root){
		"a module outside its folder":       func(r *terraform.Root) { r.Module.Name = "../x" },
		"a module without files":            func(r *terraform.Root) { r.Module.Files = nil },
		"a variable of every module":        func(r *terraform.Root) { r.Extra = map[string]any{"run_id": "other"} },
		"a variable that is no name":        func(r *terraform.Root) { r.Extra = map[string]any{"a b": 1} },
		"a value that cannot be written":    func(r *terraform.Root) { r.Extra = map[string]any{"x": func() {}} },
		"a provider setting without a name": func(r *terraform.Root) { r.Module.ProviderConfig = map[string]map[string]any{"zed": {"": 1}} },
	} {
		root := sampleRoot()
		spoil(&root)
		dir := filepath.Join(t.TempDir(), "group")
		if err := root.Write(dir); err == nil {
			t.Errorf("%s was written", name)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s left a folder", name)
		}
	}
}
