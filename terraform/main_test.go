package terraform_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/levinrun/levin/terraform"
	"github.com/levinrun/levin/terraform/runnertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// realBinary is the Terraform of this machine; the test is skipped where there is
// none.
func realBinary(t testing.TB) terraform.Binary {
	t.Helper()
	b, err := terraform.Find(context.Background(), terraform.FindOptions{CacheDir: t.TempDir(), Env: os.Environ()})
	if err != nil {
		t.Skipf("no Terraform here: %v", err)
	}
	return b
}

func newExec(t testing.TB, edit func(*terraform.Config)) *terraform.Exec {
	t.Helper()
	cfg := terraform.Config{CacheDir: t.TempDir(), TempDir: t.TempDir(), Env: os.Environ(), MaxProcesses: 4}
	if edit != nil {
		edit(&cfg)
	}
	if cfg.Binary.Path == "" {
		cfg.Binary = realBinary(t)
	}
	x, err := terraform.NewRunner(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// logging is a binary that notes each of its starts in a file and then is
// another.
func logging(t testing.TB, b terraform.Binary) (terraform.Binary, func() []string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "starts")
	b.Path = script(t, t.TempDir(), "terraform", fmt.Sprintf("echo \"$1\" >>%q; exec %q \"$@\"", log, b.Path))
	return b, func() []string {
		content, err := os.ReadFile(log)
		if err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
		return strings.Fields(string(content))
	}
}

// playing is a script that plays Terraform: it answers version and init, and does
// body for the rest.
func playing(t testing.TB, body string) terraform.Binary {
	t.Helper()
	path := script(t, t.TempDir(), "terraform", `case "$1" in
version) echo '{"terraform_version":"1.11.4"}'; exit 0;;
init) echo Initializing; mkdir -p .terraform/modules; echo '{"Modules":[]}' > .terraform/modules/modules.json; exit 0;;
esac
echo '{"type":"version"}'
`+body)
	return terraform.Binary{Path: path, Version: "1.11.4"}
}

func script(t testing.TB, dir, name, body string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestConformance(t *testing.T) {
	b, cache := realBinary(t), t.TempDir()
	runnertest.Run(t, func(t *testing.T) terraform.Runner {
		return newExec(t, func(c *terraform.Config) { c.Binary, c.CacheDir = b, cache })
	})
}

// An apply is one process and a destroy is one; init runs once for all roots.
func TestProcesses(t *testing.T) {
	b, starts := logging(t, realBinary(t))
	x := newExec(t, func(c *terraform.Config) { c.Binary = b })
	var dirs []string
	for _, name := range []string{"a", "b", "c"} {
		dir := runnertest.Root(t, runnertest.Lines(name))
		if _, err := x.Apply(t.Context(), dir, terraform.Providers{}); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		if err := x.Destroy(t.Context(), dir, terraform.Providers{}); err != nil {
			t.Error(err)
		}
	}
	want := []string{"version", "init", "apply", "apply", "apply", "destroy", "destroy", "destroy"}
	if got := starts(); !slices.Equal(got, want) {
		t.Errorf("started %v, want %v", got, want)
	}
}

// A TF_CLI_CONFIG_FILE that does not exist makes Terraform warn, and nothing else.
func TestMissingCLIConfig(t *testing.T) {
	env := append(os.Environ(), "TF_CLI_CONFIG_FILE="+filepath.Join(t.TempDir(), "missing"))
	b, err := terraform.Find(t.Context(), terraform.FindOptions{CacheDir: t.TempDir(), Env: env})
	if err != nil {
		t.Skipf("no Terraform here: %v", err)
	}
	x := newExec(t, func(c *terraform.Config) { c.Binary, c.Env = b, env })
	dir := runnertest.Root(t, runnertest.Lines("a", "b"))
	outputs, err := x.Apply(t.Context(), dir, terraform.Providers{})
	if err != nil {
		t.Fatal(err)
	}
	if machines, err := terraform.DecodeMachines(outputs); err != nil || len(machines) != 2 {
		t.Errorf("%v %v", machines, err)
	}
	if err := x.Destroy(t.Context(), dir, terraform.Providers{}); err != nil {
		t.Error(err)
	}
}

// The module of own hosts gives back what it was told.
func TestSSHModule(t *testing.T) {
	x := newExec(t, nil)
	dir := filepath.Join(t.TempDir(), "root")
	root := terraform.Root{
		Run: "run", Group: "g1", Module: terraform.SSHModule(),
		Machines: map[string]terraform.MachineInput{
			"1st": {Type: "box", Extra: map[string]any{"address": "a.example", "port": 2200, "user": "u", "host_key": "k"}},
			"2nd": {Type: "box", Extra: map[string]any{"address": "b.example", "port": 22, "user": "", "host_key": ""}},
		},
	}
	if err := root.Write(dir); err != nil {
		t.Fatal(err)
	}
	outputs, err := x.Apply(t.Context(), dir, terraform.Providers{})
	if err != nil {
		t.Fatal(err)
	}
	machines, err := terraform.DecodeMachines(outputs)
	if err != nil {
		t.Fatal(err)
	}
	if m := machines["1st"]; m.Address != "a.example" || m.Port != 2200 || m.User != "u" || m.HostKey != "k" || m.CloudID == "" {
		t.Errorf("1st: %+v", m)
	}
	if m := machines["2nd"]; m.Address != "b.example" || m.Port != 22 || m.User != "" || m.HostKey != "" || len(machines) != 2 {
		t.Errorf("2nd of %d: %+v", len(machines), m)
	}
	if left, err := terraform.Resources(dir); err != nil || len(left) != 2 {
		t.Errorf("resources: %v %v", left, err)
	}
	if err := x.Destroy(t.Context(), dir, terraform.Providers{}); err != nil {
		t.Error(err)
	}
}

// Modules and roots are as `terraform fmt` would write them, and valid.
func TestModulesAreTidy(t *testing.T) {
	b := realBinary(t)
	for _, dir := range []string{"modules", "runnertest/module"} {
		if out, err := exec.Command(b.Path, "fmt", "-check", "-diff", "-recursive", dir).CombinedOutput(); err != nil {
			t.Errorf("terraform fmt: %v\n%s", err, out)
		}
	}
	local := filepath.Join(t.TempDir(), "local")
	root := terraform.Root{Run: "run", Group: "g", Module: terraform.LocalModule(), Machines: map[string]terraform.MachineInput{"a": {}}}
	if err := root.Write(local); err != nil {
		t.Fatal(err)
	}
	shell := runnertest.Root(t, runnertest.Lines("a"))
	for _, dir := range []string{local, shell} {
		if out, err := exec.Command(b.Path, "fmt", "-check", "-diff", "-recursive", dir).CombinedOutput(); err != nil {
			t.Errorf("terraform fmt: %v\n%s", err, out)
		}
	}
	for _, args := range [][]string{{"init", "-input=false"}, {"validate"}} {
		cmd := exec.Command(b.Path, args...)
		cmd.Dir = shell
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("terraform %v: %v\n%s", args, err, out)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	binary, cache := realBinary(b), b.TempDir()
	x := newExec(b, func(c *terraform.Config) { c.Binary, c.CacheDir = binary, cache })
	for b.Loop() {
		b.StopTimer()
		dir := runnertest.Root(b, runnertest.Lines("a", "b"))
		b.StartTimer()
		if _, err := x.Apply(b.Context(), dir, terraform.Providers{}); err != nil {
			b.Fatal(err)
		}
	}
}
