package terraform_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
	"github.com/levinrun/levin/terraform/runnertest"
)

func realBinary(t testing.TB) terraform.Binary {
	t.Helper()
	b, err := terraform.Find(context.Background(), terraform.FindOptions{CacheDir: t.TempDir(), Env: os.Environ()})
	if err != nil {
		t.Skipf("no Terraform here: %v", err)
	}
	return b
}

func newExec(t *testing.T, edit func(*terraform.Config)) *terraform.Exec {
	t.Helper()
	cfg := terraform.Config{Binary: realBinary(t), CacheDir: t.TempDir(), TempDir: t.TempDir(), Env: os.Environ()}
	if edit != nil {
		edit(&cfg)
	}
	x, err := terraform.NewRunner(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestConformance(t *testing.T) {
	runnertest.Run(t, func(t *testing.T) terraform.Runner { return newExec(t, nil) })
}

// A TF_CLI_CONFIG_FILE that does not exist makes Terraform warn, and nothing else.
func TestMissingCLIConfig(t *testing.T) {
	env := append(os.Environ(), "TF_CLI_CONFIG_FILE="+filepath.Join(t.TempDir(), "missing"))
	if _, err := terraform.Find(t.Context(), terraform.FindOptions{CacheDir: t.TempDir(), Env: env}); err != nil {
		t.Fatal(err)
	}
	x := newExec(t, func(c *terraform.Config) { c.Env = env })
	dir := runnertest.Root(t, runnertest.Hosts("a", "b"))
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

// The user's own environment, and what others put there, stays outside.
func TestEnvironmentIsAnAllowList(t *testing.T) {
	fake := playing(t, `env > "$RECORD"; echo '{}'`)
	record := filepath.Join(t.TempDir(), "env")
	x := newExec(t, func(c *terraform.Config) {
		c.Binary = fake
		c.Env = append(os.Environ(), "AWS_SECRET_ACCESS_KEY=leak", "TF_LOG=TRACE", "TF_VAR_x=1", "LEVIN_TOKEN=leak")
	})
	dir := runnertest.Root(t, runnertest.Hosts("a"))
	x.Apply(t.Context(), dir, terraform.Providers{Env: map[string]string{"GIVEN": "yes", "RECORD": record}})
	b, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	for _, forbidden := range []string{"leak", "TRACE", "TF_VAR_x"} {
		if strings.Contains(string(b), forbidden) {
			t.Errorf("%s went to Terraform:\n%s", forbidden, b)
		}
	}
	for _, wanted := range []string{"GIVEN=yes", "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1"} {
		if !strings.Contains(string(b), wanted) {
			t.Errorf("%s is missing:\n%s", wanted, b)
		}
	}
}

// playing makes a script that plays terraform: it answers version and init, and
// runs body for everything else.
func playing(t *testing.T, body string) terraform.Binary {
	t.Helper()
	path := filepath.Join(t.TempDir(), "terraform")
	script := `#!/bin/sh
case "$1" in
version) echo '{"terraform_version":"1.11.4"}'; exit 0;;
init) [ -z "$INITS" ] || echo init >> "$INITS"; mkdir -p .terraform/modules; echo '{"Modules":[]}' > .terraform/modules/modules.json; exit 0;;
esac
` + body + "\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return terraform.Binary{Path: path, Version: "1.11.4"}
}

// Init runs once for all roots with the same providers, however many at once.
func TestOneInitPerProviderSet(t *testing.T) {
	inits := filepath.Join(t.TempDir(), "inits")
	fake := playing(t, `echo '{"version":4,"resources":[]}' > terraform.tfstate`)
	cache := t.TempDir()
	errs := make(chan error, 20)
	for i := range 20 {
		x := newExec(t, func(c *terraform.Config) { c.Binary, c.CacheDir = fake, cache }) // as many processes would
		machines := runnertest.Hosts("a")
		if i%2 == 1 {
			machines = runnertest.Hosts("b", "c")
		}
		dir := runnertest.Root(t, machines)
		go func() {
			_, err := x.Apply(context.Background(), dir, terraform.Providers{Env: map[string]string{"INITS": inits}})
			errs <- err
		}()
	}
	for range 20 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if b, _ := os.ReadFile(inits); string(b) != "init\n" {
		t.Errorf("inits: %q", b)
	}
}

// The first stage of stopping is SIGINT and time; only after that comes KILL.
func TestStopInTwoStages(t *testing.T) {
	for _, c := range []struct {
		name, script string
		wantRecord   string
		grace        time.Duration
	}{
		{"it finishes", `trap 'echo int >> "$RECORD"; echo "state" > terraform.tfstate; exit 1' INT; echo ready >> "$RECORD"; while :; do sleep 0.05; done`, "ready\nint\n", time.Minute},
		{"it does not", `trap 'echo int >> "$RECORD"' INT TERM; echo ready >> "$RECORD"; while :; do sleep 0.05; done`, "ready\nint\n", 300 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			record := filepath.Join(t.TempDir(), "record")
			x := newExec(t, func(cfg *terraform.Config) { cfg.Binary, cfg.StopGrace = playing(t, c.script), c.grace })
			dir := runnertest.Root(t, runnertest.Hosts("a"))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				_, err := x.Apply(ctx, dir, terraform.Providers{Env: map[string]string{"RECORD": record}})
				ended <- err
			}()
			awaitFile(t, record, "ready")
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("error: %v", err)
			}
			if b, _ := os.ReadFile(record); string(b) != c.wantRecord {
				t.Errorf("record: %q, want %q", b, c.wantRecord)
			}
		})
	}
}

// awaitFile waits for a file of another process to hold text.
func awaitFile(t *testing.T, file, text string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if b, _ := os.ReadFile(file); strings.Contains(string(b), text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s never held %q", file, text)
		}
	}
}

func TestFailureHasTerraformsWords(t *testing.T) {
	x := newExec(t, nil)
	dir := runnertest.Root(t, runnertest.Hosts("a"))
	broken := `resource "terraform_data" "broken" {
  provisioner "local-exec" {
    command = "echo InsufficientInstanceCapacity; exit 3"
  }
}
`
	if err := os.WriteFile(filepath.Join(dir, "broken.tf"), []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := x.Apply(t.Context(), dir, terraform.Providers{})
	var failure *cluster.Failure
	var apply *terraform.ApplyError
	if !errors.As(err, &failure) || !errors.As(err, &apply) {
		t.Fatalf("error: %#v", err)
	}
	if failure.Kind != cluster.Provisioning || !strings.Contains(failure.Words, "InsufficientInstanceCapacity") {
		t.Errorf("failure: %+v", failure)
	}
	if len(apply.Diagnostics) != 1 || apply.Diagnostics[0].Address != "terraform_data.broken" {
		t.Errorf("diagnostics: %+v", apply.Diagnostics)
	}
	// What was created before the failure is in the state, and destroy removes it.
	if left, err := terraform.Resources(dir); err != nil || len(left) == 0 {
		t.Errorf("resources after the failure: %v %v", left, err)
	}
	if err := x.Destroy(t.Context(), dir, terraform.Providers{}); err != nil {
		t.Fatal(err)
	}
	if left, err := terraform.Resources(dir); err != nil || len(left) != 0 {
		t.Errorf("resources after destroy: %v %v", left, err)
	}
}

// Modules are as `terraform fmt` would write them, and valid.
func TestModules(t *testing.T) {
	b := realBinary(t)
	if out, err := exec.Command(b.Path, "fmt", "-check", "-diff", "-recursive", "modules").CombinedOutput(); err != nil {
		t.Errorf("terraform fmt: %v\n%s", err, out)
	}
	dir := runnertest.Root(t, runnertest.Hosts("a"))
	for _, args := range [][]string{{"init", "-input=false"}, {"validate"}, {"fmt", "-check", "-diff", "main.tf"}} {
		cmd := exec.Command(b.Path, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("terraform %v: %v\n%s", args, err, out)
		}
	}
}

func FuzzDecodeMachines(f *testing.F) {
	f.Add([]byte(`{"a":{"address":"127.0.0.1","port":22,"user":"u","host_key":"k","cloud_id":"i","private_address":null}}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"a":null}`))
	f.Add([]byte(`{"a":{"port":1e9}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		machines, err := terraform.DecodeMachines(terraform.Outputs{"machines": json.RawMessage(raw)})
		if err == nil && machines == nil {
			t.Error("neither machines nor an error")
		}
		for name, m := range machines {
			if m.Port < 0 || m.Port > 65535 {
				t.Errorf("%s: port %d", name, m.Port)
			}
		}
	})
}
