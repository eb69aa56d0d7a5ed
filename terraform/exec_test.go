package terraform_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
	"github.com/levinrun/levin/terraform/runnertest"
)

// The user's own environment, and what others put there, stays outside.
func TestEnvironmentIsAnAllowList(t *testing.T) {
	record := filepath.Join(t.TempDir(), "env")
	temp := t.TempDir()
	x := newExec(t, func(c *terraform.Config) {
		c.Binary, c.TempDir = playing(t, "env >"+record), temp
		c.Env = []string{
			"PATH=" + os.Getenv("PATH"), "https_proxy=http://proxy", "TF_TOKEN_example_com=token", "TF_CLI_CONFIG_FILE=/c",
			"AWS_SECRET_ACCESS_KEY=leak", "TF_LOG=leak", "TF_VAR_x=leak", "TF_CLI_ARGS=leak", "TF_DATA_DIR=leak", "LEVIN_TOKEN=leak", "TMPDIR=leak",
		}
	})
	given := map[string]string{"GIVEN": "yes"}
	dir := runnertest.Root(t, runnertest.Lines("a"))
	if _, err := x.Apply(t.Context(), dir, terraform.Providers{Env: given}); err != nil {
		t.Fatal(err)
	}
	env := readFile(t, record)
	if strings.Contains(env, "leak") {
		t.Errorf("went to Terraform:\n%s", env)
	}
	for _, wanted := range []string{"GIVEN=yes", "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "https_proxy=http://proxy", "TF_TOKEN_example_com=token", "TF_CLI_CONFIG_FILE=/c", "TMPDIR=" + temp} {
		if !strings.Contains(env, wanted+"\n") {
			t.Errorf("%s did not go to Terraform:\n%s", wanted, env)
		}
	}
	if len(given) != 1 {
		t.Errorf("the caller's map became %v", given)
	}
	// What terraform-exec keeps for itself is refused, in words.
	_, err := x.Apply(t.Context(), runnertest.Root(t, runnertest.Lines("a")), terraform.Providers{Env: map[string]string{"TF_LOG": "TRACE"}})
	if cluster.KindOf(err) != cluster.Provisioning || !strings.Contains(err.Error(), "TF_LOG") {
		t.Errorf("error: %v", err)
	}
}

// Init runs once for all roots with the same providers, however many at once, and
// whatever is in them. Each Exec here is as good as a process of its own.
func TestOneInitPerProviderSet(t *testing.T) {
	b, starts := logging(t, playing(t, `echo '{"version":4,"resources":[]}' >terraform.tfstate`))
	cache := t.TempDir()
	errs := make(chan error, 20)
	for i := range 20 {
		x := newExec(t, func(c *terraform.Config) { c.Binary, c.CacheDir = b, cache })
		dir := runnertest.Root(t, runnertest.Lines(fmt.Sprint("m", i), "n"))
		go func() {
			_, err := x.Apply(context.Background(), dir, terraform.Providers{})
			errs <- err
		}()
	}
	for range 20 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	got := starts()
	if n := count(got, "init"); n != 1 {
		t.Errorf("%d inits", n)
	}
	if n := count(got, "apply"); n != 20 {
		t.Errorf("%d applies", n)
	}
}

func count(all []string, want string) int {
	n := 0
	for _, s := range all {
		if s == want {
			n++
		}
	}
	return n
}

// What changes the outcome of init is another set; a set that is gone is made
// again.
func TestProviderSets(t *testing.T) {
	b, starts := logging(t, playing(t, ""))
	cache := t.TempDir()
	open := func(version string) *terraform.Exec {
		return newExec(t, func(c *terraform.Config) {
			c.Binary, c.CacheDir = b, cache
			c.Binary.Version = version
		})
	}
	dir := filepath.Join(t.TempDir(), "root")
	root := terraform.Root{Run: "r", Group: "g", Module: runnertest.Shell()}
	step := func(what string, x *terraform.Exec, p terraform.Providers, wantInits int) {
		t.Helper()
		if err := root.Write(dir); err != nil {
			t.Fatal(err)
		}
		before := count(starts(), "init")
		if _, err := x.Apply(t.Context(), dir, p); err != nil {
			t.Fatal(err)
		}
		if n := count(starts(), "init") - before; n != wantInits {
			t.Errorf("%s: %d inits, want %d", what, n, wantInits)
		}
	}
	x := open("1.11.4")
	root.Module.ProviderConfig = map[string]map[string]any{"acme": {"region": "r1"}}
	step("the first", x, terraform.Providers{}, 1)
	step("the same again", x, terraform.Providers{}, 0)
	root.Machines = runnertest.Lines("a")
	root.Module.ProviderConfig["acme"]["region"] = "r2"
	step("other machines in another region", x, terraform.Providers{}, 0)
	root.Module.Requires = map[string]terraform.Requirement{"acme": {Source: "example.com/acme/acme"}}
	step("another requirement", x, terraform.Providers{}, 1)
	reattach := terraform.Providers{Reattach: map[string]terraform.Reattach{"example.com/acme/acme": {Address: "/s"}}}
	step("a provider in this process", x, reattach, 1)
	reattach.Reattach["example.com/acme/acme"] = terraform.Reattach{Address: "/other"}
	step("the same at another address", x, reattach, 0)
	step("another version of Terraform", open("1.12.0"), reattach, 1)
	if err := os.RemoveAll(cache); err != nil {
		t.Fatal(err)
	}
	step("the cache was removed", open("1.12.0"), reattach, 1)
}

// A provider of a registry is linked into each root, and locked there.
func TestRegistryProvider(t *testing.T) {
	b, starts := logging(t, realBinary(t))
	mirror := t.TempDir()
	goos, arch := platform(t, b)
	at := filepath.Join(mirror, "example.com/acme/thing/1.0.0", goos+"_"+arch)
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	script(t, at, "terraform-provider-thing_v1.0.0", "echo not a provider at all; exit 1")
	config := filepath.Join(t.TempDir(), "terraformrc")
	if err := os.WriteFile(config, fmt.Appendf(nil, "provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", mirror), 0o600); err != nil {
		t.Fatal(err)
	}
	x := newExec(t, func(c *terraform.Config) {
		c.Binary, c.Env = b, append(os.Environ(), "TF_CLI_CONFIG_FILE="+config)
	})
	apply := func(requires terraform.Requirement) (string, error) {
		dir := filepath.Join(t.TempDir(), "root")
		module := runnertest.Shell()
		module.Requires = map[string]terraform.Requirement{"thing": requires}
		root := terraform.Root{Run: "r", Group: "g", Module: module, Machines: runnertest.Lines("a")}
		if err := root.Write(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "thing.tf"), []byte("resource \"thing_thing\" \"this\" {}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := x.Apply(t.Context(), dir, terraform.Providers{})
		return dir, err
	}
	for range 2 {
		dir, err := apply(terraform.Requirement{Source: "example.com/acme/thing", Version: "~> 1.0"})
		if err == nil || !strings.Contains(err.Error(), "thing") {
			t.Errorf("a provider that is none: %v", err) // it is found, and started
		}
		link := filepath.Join(dir, ".terraform/providers/example.com/acme/thing/1.0.0", goos+"_"+arch, "terraform-provider-thing_v1.0.0")
		if _, err := os.Stat(link); err != nil {
			t.Error(err)
		}
		if lock := readFile(t, filepath.Join(dir, ".terraform.lock.hcl")); !strings.Contains(lock, "example.com/acme/thing") {
			t.Errorf("lock file: %s", lock)
		}
	}
	if n := count(starts(), "init"); n != 1 {
		t.Errorf("%d inits", n)
	}
	_, err := apply(terraform.Requirement{Source: "example.com/acme/thing", Version: "~> 2.0"})
	var failed *terraform.ApplyError
	if !errors.As(err, &failed) || failed.Command != "init" || !strings.Contains(err.Error(), "example.com/acme/thing") {
		t.Errorf("a version that does not exist: %v", err)
	}
	if strings.ContainsAny(err.Error(), "╷│╵") {
		t.Errorf("lines of a terminal: %v", err)
	}
}

func platform(t *testing.T, b terraform.Binary) (goos, arch string) {
	t.Helper()
	out, err := exec.Command(b.Path, "version", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Platform string }
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	goos, arch, _ = strings.Cut(answer.Platform, "_")
	return goos, arch
}

// The first stage of stopping is SIGINT and time; only after that comes KILL, for
// all that Terraform has started.
func TestStopInTwoStages(t *testing.T) {
	for _, c := range []struct {
		name, onInterrupt string
		grace             time.Duration
	}{
		{"it finishes", `echo '{"version":4,"resources":[]}' >terraform.tfstate; kill -KILL $child; exit 0`, time.Minute},
		{"it fails", `kill -KILL $child; exit 1`, time.Minute},
		{"it does not", ``, 300 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			bell, record := runnertest.NewBell(t), filepath.Join(t.TempDir(), "record")
			alive := filepath.Join(t.TempDir(), "alive")
			if err := syscall.Mkfifo(alive, 0o600); err != nil {
				t.Fatal(err)
			}
			// Everybody who lives holds the other end of it.
			living, err := os.OpenFile(alive, os.O_RDONLY|syscall.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer living.Close()
			body := fmt.Sprintf(`
for s in INT TERM HUP QUIT; do trap "echo $s >>%[1]s" $s; done
trap 'echo INT >>%[1]s; %[2]s' INT
exec 3>%[3]s
sleep 600 &
child=$!
%[4]s
while :; do wait $child; done`, record, c.onInterrupt, alive, bell.Ring("ready"))
			x := newExec(t, func(cfg *terraform.Config) { cfg.Binary, cfg.StopGrace = playing(t, body), c.grace })
			dir := runnertest.Root(t, runnertest.Lines("a"))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				_, err := x.Apply(ctx, dir, terraform.Providers{})
				ended <- err
			}()
			bell.Hear()
			cancel()
			err = <-ended
			if !errors.Is(err, context.Canceled) || cluster.KindOf(err) != cluster.Interrupted {
				t.Errorf("error: %v", err)
			}
			if got := readFile(t, record); got != "INT\n" {
				t.Errorf("signals: %q, want one INT", got)
			}
			if runtime.GOOS != "linux" {
				return // elsewhere nothing can be found by its environment
			}
			living.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := living.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("what Terraform had started is still there: %v", err)
			}
		})
	}
}

// Failures are in Terraform's words, without what it says beside them.
func TestFailureWords(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"diagnostics", `cat <<'END'
{"type":"diagnostic","diagnostic":{"severity":"warning","summary":"w"}}
{"type":"diagnostic","diagnostic":{"severity":"error","summary":"No capacity","detail":"in\nzone a","address":"x.y[\"m\"]"}}
END
exit 1`,
			`x.y["m"]: No capacity: in zone a`},
		{"stderr", `echo "There are some problems with the CLI configuration:
╷
│ Warning: Unable to open CLI configuration file
│
│ The CLI configuration file at \"/x\" does not exist.
╵

╷
│ Error: broken
╵" >&2; exit 1`, "Error: broken"},
		{"nothing", "exit 7", "exit status 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newExec(t, func(cfg *terraform.Config) { cfg.Binary = playing(t, c.body) })
			_, err := x.Apply(t.Context(), runnertest.Root(t, runnertest.Lines("a")), terraform.Providers{})
			var failure *cluster.Failure
			var apply *terraform.ApplyError
			if !errors.As(err, &failure) || !errors.As(err, &apply) {
				t.Fatalf("error: %#v", err)
			}
			if failure.Words != c.want || apply.Command != "apply" {
				t.Errorf("words %q, want %q; %+v", failure.Words, c.want, apply)
			}
		})
	}
}

// A destroy that fails looks at what is left before it is tried once more; one
// that leaves something behind is not believed.
func TestDestroy(t *testing.T) {
	const left = `{"version":4,"resources":[{"mode":"managed","type":"t","name":"n","instances":[{}]}]}`
	const none = `{"version":4,"resources":[]}`
	for _, c := range []struct {
		name, body string
		wantKind   cluster.FailureKind
		want       []string
	}{
		{"at once", "echo '" + none + "' >terraform.tfstate", "", []string{"-refresh=false"}},
		{"second try", "case \"$*\" in *-refresh=false*) exit 1;; esac; echo '" + none + "' >terraform.tfstate", "", []string{"-refresh=false", "-refresh=true"}},
		{"never", "exit 1", cluster.Provisioning, []string{"-refresh=false", "-refresh=true"}},
		{"not believed", "true", cluster.Unclean, []string{"-refresh=false"}},
		{"state elsewhere", "mv terraform.tfstate errored.tfstate", cluster.Unclean, []string{"-refresh=false"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			record := filepath.Join(t.TempDir(), "record")
			x := newExec(t, func(cfg *terraform.Config) {
				cfg.Binary = playing(t, "for a; do case $a in -refresh*) echo $a >>"+record+";; esac; done\n"+c.body)
			})
			dir := runnertest.Root(t, runnertest.Lines("a"))
			if err := os.WriteFile(filepath.Join(dir, "terraform.tfstate"), []byte(left), 0o600); err != nil {
				t.Fatal(err)
			}
			err := x.Destroy(t.Context(), dir, terraform.Providers{})
			if cluster.KindOf(err) != c.wantKind {
				t.Errorf("error: %v", err)
			}
			if got := strings.Fields(readFile(t, record)); !slices.Equal(got, c.want) {
				t.Errorf("tries: %v, want %v", got, c.want)
			}
		})
	}
}

// Not more processes at the same time than allowed.
func TestMaxProcesses(t *testing.T) {
	record := filepath.Join(t.TempDir(), "record")
	lock := filepath.Join(t.TempDir(), "lock")
	x := newExec(t, func(c *terraform.Config) {
		c.MaxProcesses = 1
		c.Binary = playing(t, fmt.Sprintf("mkdir %[1]s || echo overlap >>%[2]s; sleep 0.01; rmdir %[1]s; echo done >>%[2]s", lock, record))
	})
	ended := make(chan error, 5)
	for range 5 {
		dir := runnertest.Root(t, runnertest.Lines("a"))
		go func() {
			_, err := x.Apply(context.Background(), dir, terraform.Providers{})
			ended <- err
		}()
	}
	for range 5 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if got := strings.Fields(readFile(t, record)); len(got) != 5 || slices.Contains(got, "overlap") {
		t.Errorf("record: %v", got)
	}
}

// No interrupt goes to a Terraform that has not said anything yet: it could not
// handle it.
func TestInterruptAfterFirstWord(t *testing.T) {
	bell, release, record := runnertest.NewBell(t), runnertest.NewBell(t), filepath.Join(t.TempDir(), "record")
	x := newExec(t, func(c *terraform.Config) {
		c.Binary = terraform.Binary{Version: "1.11.4", Path: script(t, t.TempDir(), "terraform", fmt.Sprintf(`case "$1" in
version) echo '{"terraform_version":"1.11.4"}'; exit 0;;
init) echo Initializing; exit 0;;
esac
said=nothing
trap 'echo "INT after $said" >>%s; exit 1' INT
%s
%s
said=something
echo '{"type":"version"}'
while :; do sleep 0.01; done`, record, bell.Ring("started"), release.Await()))}
	})
	dir := runnertest.Root(t, runnertest.Lines("a"))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := x.Apply(ctx, dir, terraform.Providers{})
		ended <- err
	}()
	bell.Hear()
	cancel()
	release.Go()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	if got := readFile(t, record); got != "INT after something\n" {
		t.Errorf("record: %q", got)
	}
}

// An init that was interrupted is as if it had never been.
func TestInterruptedInit(t *testing.T) {
	bell, fast := runnertest.NewBell(t), filepath.Join(t.TempDir(), "fast")
	cache := t.TempDir()
	x := newExec(t, func(c *terraform.Config) {
		c.CacheDir = cache
		c.Binary = terraform.Binary{Version: "1.11.4", Path: script(t, t.TempDir(), "terraform", fmt.Sprintf(`case "$1" in
version) echo '{"terraform_version":"1.11.4"}'; exit 0;;
init) echo Initializing; [ -e %[1]s ] && exit 0; mkdir .terraform; %[2]s; trap 'exit 1' INT; while :; do sleep 0.01; done;;
esac
echo '{}'`, fast, bell.Ring("begun")))}
	})
	dir := runnertest.Root(t, runnertest.Lines("a"))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := x.Apply(ctx, dir, terraform.Providers{})
		ended <- err
	}()
	bell.Hear()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || cluster.KindOf(err) != cluster.Interrupted {
		t.Errorf("error: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(cache, "terraform", "sets", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in the cache: %v %v", left, err)
	}
	if err := os.WriteFile(fast, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Apply(t.Context(), dir, terraform.Providers{}); err != nil {
		t.Errorf("the next one: %v", err)
	}
}
