package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/levinrun/levin/cluster"
)

func TestTrainAnalyze(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	example, err := filepath.Abs("../../examples/train-analyze")
	if err != nil {
		t.Fatal(err)
	}
	o := u.run(0, example)
	if got := len(o.find(cluster.EventCallSucceeded)); got != 2 {
		t.Errorf("%d calls succeeded, want 2", got)
	}
	// The machine of train is stopped before analyze starts to work: nothing idles.
	stopped, running := -1, -1
	for i, e := range o.events {
		switch {
		case e.Type == cluster.EventMachineStopRequested && e.Component == "train":
			stopped = i
		case e.Type == cluster.EventCallRunning && e.Component == "analyze":
			running = i
		}
	}
	if stopped < 0 || running < stopped {
		t.Errorf("train's machine was stopped at event %d, analyze ran at %d", stopped, running)
	}
	run := o.events[0].Run
	reports, _ := filepath.Glob(filepath.Join(u.home, "runs", run, "artifacts", "*", "report.md"))
	if len(reports) != 1 {
		t.Errorf("reports: %v", reports)
	}
	u.checkClean()
}

func TestParallelDAG(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	example, err := filepath.Abs("../../examples/parallel-dag")
	if err != nil {
		t.Fatal(err)
	}
	u.run(0, example)
	u.checkClean()
}

const failing = `
name: failing
components:
  good: {run: "echo fine"}
  bad: {needs: [good], run: "echo about to fail; echo the reason >&2; exit 7"}
  after: {needs: [bad], run: "echo never"}
  last: {needs: [after], run: "echo never"}
`

func TestFailingComponent(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	o := u.run(1, u.app(failing, nil))
	failed := o.find(cluster.EventCallFailed)
	if len(failed) != 1 || failed[0].ExitCode == nil || *failed[0].ExitCode != 7 {
		t.Fatalf("failed: %+v", failed)
	}
	if skipped := o.find(cluster.EventCallSkipped); len(skipped) != 2 {
		t.Errorf("skipped: %+v", skipped)
	}
	u.checkClean()

	// For people: the last lines and the exit code, on a plain stream.
	text := u.levin("run", u.app(failing, nil))
	for _, want := range []string{"about to fail", "the reason", "7", "skipped", "leaked: 0"} {
		if !strings.Contains(text.stdout, want) {
			t.Errorf("the output lacks %q:\n%s", want, text.stdout)
		}
	}
	if text.code != 1 {
		t.Errorf("exit %d", text.code)
	}
	u.checkClean()
}

const slow = `
name: slow
components:
  first: {run: "echo one", outputs: [], files: [.]}
  work: {needs: [first], run: "echo started; trap '' TERM; sleep 300 & setsid sleep 300 & wait; sleep 300", grace: 1s}
  after: {needs: [work], run: "echo never"}
`

// TestInterrupt sends Ctrl-C at every kind of event of a run.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	moments := []struct {
		name string
		at   func(cluster.Event) bool
	}{
		{"run started", is(cluster.EventRunStarted, "")},
		{"machine requested", is(cluster.EventMachineRequested, "first")},
		{"machine ready", is(cluster.EventMachineReady, "first")},
		{"call started", is(cluster.EventCallStarted, "first")},
		{"shipped", is(cluster.EventCallShipped, "first")},
		{"running", is(cluster.EventCallRunning, "first")},
		{"exited", is(cluster.EventCallExited, "first")},
		{"succeeded", is(cluster.EventCallSucceeded, "first")},
		{"stopping first", is(cluster.EventMachineStopRequested, "first")},
		{"first gone", is(cluster.EventMachineGone, "first")},
		{"second machine requested", is(cluster.EventMachineRequested, "work")},
		{"second machine ready", is(cluster.EventMachineReady, "work")},
		{"second shipped", is(cluster.EventCallShipped, "work")},
		{"work under way", func(e cluster.Event) bool { return e.Type == cluster.EventCallLog && e.Line == "started" }},
	}
	for _, m := range moments {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			u := newUser(t)
			p := u.start("run", u.app(slow, nil), "--json")
			p.until(m.name, m.at)
			p.signal(syscall.SIGINT)
			o := p.wait()
			if o.code != 130 {
				t.Errorf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			u.checkClean()
		})
	}
}

// TestInterruptTwice leaves at once, says how to clean up, and that works.
func TestInterruptTwice(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	p := u.start("run", u.app(slow, nil), "--json")
	e := p.until("work under way", func(e cluster.Event) bool { return e.Type == cluster.EventCallLog && e.Line == "started" })
	p.signal(syscall.SIGINT)
	p.untilType(cluster.EventRunStopping)
	p.signal(syscall.SIGINT)
	o := p.wait()
	if o.code != 130 {
		t.Fatalf("exit %d\n%s", o.code, o.stderr)
	}
	if !strings.Contains(o.stderr, "levin down "+e.Run) && o.find(cluster.EventRunFinished) == nil {
		t.Errorf("no instructions:\n%s", o.stderr)
	}
	if down := u.levin("down", e.Run); down.code != 0 {
		t.Fatalf("down: %d\n%s%s", down.code, down.stdout, down.stderr)
	}
	u.checkClean()
}

func is(t cluster.EventType, component string) func(cluster.Event) bool {
	return func(e cluster.Event) bool { return e.Type == t && (component == "" || e.Component == component) }
}

// TestKilledController kills -9 at each step; `levin down` cleans up at any time.
func TestKilledController(t *testing.T) {
	t.Parallel()
	for _, at := range []cluster.EventType{
		cluster.EventRunStarted, cluster.EventMachineRequested, cluster.EventMachineReady, cluster.EventCallShipped,
		cluster.EventCallRunning, cluster.EventCallLog, cluster.EventMachineStopRequested, cluster.EventMachineGone,
	} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			u := newUser(t)
			p := u.start("run", u.app(slow, nil), "--json")
			e := p.untilType(at)
			p.signal(syscall.SIGKILL)
			p.wait()
			if down := u.levin("down", e.Run); down.code != 0 {
				t.Fatalf("down: %d\n%s%s", down.code, down.stdout, down.stderr)
			}
			u.checkClean()
			if again := u.levin("down", e.Run); again.code != 0 {
				t.Errorf("down twice: %d\n%s", again.code, again.stderr)
			}
			u.checkClean()
		})
	}
}

// TestLease: nobody looks after the machine any more. The work may finish; then
// the machine ends itself, before anybody says `levin down`.
func TestLease(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.settings("lease: 2s\n")
	done := filepath.Join(t.TempDir(), "done")
	app := u.app(fmt.Sprintf(`
name: lease
components:
  work: {run: "echo started; sleep 6; echo finished > %s"}
`, done), nil)
	p := u.start("run", app, "--json")
	e := p.untilType(cluster.EventCallLog)
	p.signal(syscall.SIGKILL)
	p.wait()
	waitUntil(t, "the machine ends itself", func() bool { return len(u.processes()) == 0 })
	if b, err := os.ReadFile(done); err != nil || string(b) != "finished\n" {
		t.Errorf("the work was not allowed to finish: %q %v", b, err)
	}
	if left, _ := os.ReadDir(filepath.Join(u.home, "machines")); len(left) > 0 {
		t.Errorf("the machine left its folder: %s", names(left))
	}
	if down := u.levin("down", e.Run); down.code != 0 {
		t.Fatalf("down: %d\n%s%s", down.code, down.stdout, down.stderr)
	}
	u.checkClean()
}

// TestSecrets looks for a secret's value in every file of the home, in every
// event, on every command line, while the work runs and afterwards.
func TestSecrets(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	const inEnv, inFile = "swordfish-4711-env", "swordfish-4711-file"
	u.env = append(u.env, "TOKEN="+inEnv)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(inFile+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	app := u.app(`
name: secrets
components:
  work:
    setup: 'test "$TOKEN" = swordfish-4711-"env"'
    run: ./work.sh
    outputs: [sum]
`, map[string]string{"work.sh": `#!/bin/sh
echo "the token is $TOKEN, the other $OTHER"
printf '%s' "$TOKEN" | cut -c1-9
printf '%s' "$TOKEN$OTHER" | cksum > sum
echo waiting; sleep 3
`})
	p := u.start("run", app, "--json", "--secret", "TOKEN", "--secret", "OTHER=@"+file)
	p.until("the work", func(e cluster.Event) bool { return e.Line == "waiting" })
	u.checkNoSecret(inEnv, inFile)
	o := p.wait()
	if o.code != 0 {
		t.Fatalf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	if strings.Contains(o.stdout+o.stderr, "swordfish-4711-") {
		t.Errorf("a secret is in the output:\n%s", o.stdout)
	}
	if !strings.Contains(o.logs("work"), "the token is ***, the other ***") {
		t.Errorf("the log: %s", o.logs("work"))
	}
	u.checkNoSecret(inEnv, inFile)
	u.checkClean()
}

func (u *person) checkNoSecret(secrets ...string) {
	u.t.Helper()
	filepath.WalkDir(u.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		b, _ := os.ReadFile(path)
		for _, s := range secrets {
			if strings.Contains(string(b), s) {
				u.t.Errorf("a secret is in %s", path)
			}
		}
		return nil
	})
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		b, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		for _, s := range secrets {
			if strings.Contains(string(b), s) {
				u.t.Errorf("a secret is on the command line of process %s", e.Name())
			}
		}
	}
}
