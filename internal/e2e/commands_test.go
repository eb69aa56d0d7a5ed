package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
)

const twoWorkers = `
name: workers
components:
  left: {run: ./work.sh left, grace: 1s}
  right: {run: ./work.sh right, grace: 1s}
`

var worker = map[string]string{"work.sh": `#!/bin/sh
echo "$1 begins"
while [ ! -e ../../../../go-on ]; do sleep 0.1; done
echo "$1 ends"
`}

// TestDetached lives with a run in the background: list it, follow it, look into
// its machine, stop one component, stop it all.
func TestDetached(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	started := u.levin("run", u.app(twoWorkers, worker), "--detach", "--json")
	if started.code != 0 {
		t.Fatalf("detach: %d\n%s%s", started.code, started.stdout, started.stderr)
	}
	var run struct{ Run string }
	if err := json.Unmarshal([]byte(started.stdout), &run); err != nil {
		t.Fatalf("%v: %s", err, started.stdout)
	}

	follow := u.start("logs", "-f", run.Run, "--json")
	begun := map[string]bool{}
	follow.until("both begin", func(e cluster.Event) bool {
		begun[e.Line] = true
		return begun["left begins"] && begun["right begins"]
	})

	ps := u.levin("ps")
	if !strings.Contains(ps.stdout, run.Run) || !strings.Contains(ps.stdout, "running") {
		t.Errorf("ps:\n%s", ps.stdout)
	}
	ls := u.levin("ssh", run.Run, "left", "--", "sh", "-c", "echo $HOME; exit 5")
	if ls.code != 5 || !strings.Contains(ls.stdout, "left") {
		t.Errorf("ssh: %d %q %q", ls.code, ls.stdout, ls.stderr)
	}
	if stop := u.levin("stop", run.Run, "left"); stop.code != 0 {
		t.Errorf("stop left: %d\n%s", stop.code, stop.stderr)
	}
	all := u.start("run", "--help") // any command works beside it
	all.wait()
	if stop := u.levin("stop", run.Run); stop.code != 0 {
		t.Errorf("stop: %d\n%s", stop.code, stop.stderr)
	}
	if o := follow.wait(); o.code != 0 {
		t.Errorf("logs -f: %d\n%s", o.code, o.stderr)
	}
	waitUntil(t, "the controller ends", func() bool { return len(u.processes()) == 0 })
	u.checkClean()
	text := u.levin("ps", run.Run)
	if !strings.Contains(text.stdout, "cancelled") {
		t.Errorf("ps afterwards:\n%s", text.stdout)
	}
}

// TestDetachedRefused: bad input is told on this terminal, not in a log file.
func TestDetachedRefused(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	o := u.levin("run", u.app("name: x\ncomponents:\n  a: {run: \"\"}\n", nil), "--detach")
	if o.code != 2 || !strings.Contains(o.stderr, "app.yaml:3") {
		t.Errorf("%d %s", o.code, o.stderr)
	}
	o = u.levin("run", u.app("name: x\ncomponents:\n  a: {run: \"true\"}\n", nil), "--detach", "--secret", "NOT_THERE")
	if o.code != 2 || !strings.Contains(o.stderr, "NOT_THERE") {
		t.Errorf("%d %s", o.code, o.stderr)
	}
	if left, _ := os.ReadDir(filepath.Join(u.home, "runs")); len(left) > 0 {
		t.Errorf("runs: %s", names(left))
	}
}

// TestKeep leaves the machine up after the run, for a look around.
func TestKeep(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	o := u.run(0, u.app("name: keep\ncomponents:\n  a: {run: \"echo x > made\", outputs: [made]}\n", nil), "--keep=10m")
	run := o.events[0].Run
	if !strings.Contains(u.levin("ps").stdout, "kept") {
		t.Errorf("ps:\n%s", u.levin("ps").stdout)
	}
	look := u.levin("ssh", run, "--", "cat .levin-agent/machines/*/work/a/made")
	if look.stdout != "x\n" {
		t.Errorf("ssh: %d %q %q", look.code, look.stdout, look.stderr)
	}
	if down := u.levin("down", run); down.code != 0 {
		t.Fatalf("down: %d\n%s", down.code, down.stderr)
	}
	u.checkKept(run)
}

// checkKept is checkClean for a run whose machines outlived it: its last event
// was written before they went.
func (u *person) checkKept(run string) {
	u.t.Helper()
	u.checkProcesses()
	u.checkFiles()
	if ps := u.levin("ps"); strings.Contains(ps.stdout, run) {
		u.t.Errorf("ps:\n%s", ps.stdout)
	}
}

// TestKilledAgent: the agent dies at work; it is started again and goes on with
// the work, whose log and exit are whole.
func TestKilledAgent(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	goOn := filepath.Join(t.TempDir(), "go-on")
	app := u.app(fmt.Sprintf(`
name: killed-agent
components:
  work:
    run: 'echo one; while [ ! -e %s ]; do sleep 0.1; done; echo two; echo done > out'
    outputs: [out]
`, goOn), nil)
	p := u.start("run", app, "--json")
	p.until("the work", func(e cluster.Event) bool { return e.Line == "one" })
	killed := 0
	for _, proc := range u.processes() {
		if strings.Contains(proc.cmdline, " serve ") {
			if err := syscall.Kill(proc.pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			killed++
		}
	}
	if killed != 1 {
		t.Fatalf("killed %d agents: %+v", killed, u.processes())
	}
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o := p.wait()
	if o.code != 0 || o.logs("work") != "one\ntwo" {
		t.Errorf("exit %d, log %q\n%s%s", o.code, o.logs("work"), o.stdout, o.stderr)
	}
	u.checkClean()
}

// TestKilledMachine: the machine itself dies at work. The call fails with clear
// words, or is tried again on a new machine when it has retries.
func TestKilledMachine(t *testing.T) {
	t.Parallel()
	for _, retries := range []int{0, 1} {
		t.Run(fmt.Sprint(retries, " retries"), func(t *testing.T) {
			t.Parallel()
			u := newUser(t)
			u.settings("lost_after: 3s\n")
			mark := filepath.Join(t.TempDir(), "mark")
			app := u.app(fmt.Sprintf(`
name: killed-machine
components:
  work: {retries: %d, run: '[ -e %s ] && again=yes; touch %s; echo attempt $LEVIN_ATTEMPT; [ "$again" ] || sleep 300'}
`, retries, mark, mark), nil)
			p := u.start("run", app, "--json")
			p.until("the work", func(e cluster.Event) bool { return e.Line == "attempt 1" })
			for _, proc := range u.processes() { // power failure: everything of the machine at once
				if !strings.HasPrefix(proc.cmdline, built.levin+" run") {
					syscall.Kill(proc.pid, syscall.SIGKILL)
				}
			}
			o := p.wait()
			if want := 1 - retries; retries == 1 && o.code != want {
				t.Errorf("exit %d, want %d\n%s%s", o.code, want, o.stdout, o.stderr)
			}
			if retries == 0 && o.code == 0 {
				t.Errorf("exit 0 without the machine")
			}
			u.checkClean()
		})
	}
}

// TestTerminal looks at the live view on a real pseudo terminal.
func TestTerminal(t *testing.T) {
	t.Parallel()
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip("there is no script(1) here to make a terminal")
	}
	u := newUser(t)
	app := u.app("name: live\ncomponents:\n  one: {run: \"printf 'hello \\\\033]0;evil\\\\007there\\\\n'\"}\n  two: {needs: [one], run: 'true'}\n", nil)
	cmd := exec.Command(script, "-qec", built.levin+" run "+app, "/dev/null")
	cmd.Env, cmd.Dir = append(u.env, "TERM=xterm"), filepath.Dir(u.home)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"one", "│ ", "hello there", "\x1b[", "succeeded", "leaked: 0"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the screen lacks %q:\n%q", want, out)
		}
	}
	if bytes.Contains(out, []byte("evil")) {
		t.Error("a log line set the terminal's title")
	}
	u.checkClean()
}

const wide = `
name: wide
components:
  work:
    for_each: [%s]
    max_machines: 8
    run: 'echo item ${each}; echo "{\"item\": \"${each}\"}" > $LEVIN_RESULT'
  count:
    needs: [work]
    run: 'printf "%%s" ''${work.result}'' | tr "," "\n" | grep -c item'
`

// TestWide runs 200 calls over 8 machines, and watches what all its processes
// take together.
func TestWide(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("200 calls take a while")
	}
	u := newUser(t)
	items := make([]string, 200)
	for i := range items {
		items[i] = fmt.Sprintf("i%d", i)
	}
	p := u.start("run", u.app(fmt.Sprintf(wide, strings.Join(items, ", ")), nil), "--json")
	peak, processes := int64(0), 0
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
				procs := u.processes()
				var sum int64
				for _, proc := range procs {
					sum += pss(proc.pid)
				}
				peak, processes = max(peak, sum), max(processes, len(procs))
			}
		}
	}()
	o := p.wait()
	close(stop)
	<-stopped
	if o.code != 0 {
		t.Fatalf("exit %d\n%s", o.code, o.stderr)
	}
	if got := o.logs("count"); got != "200" {
		t.Errorf("count: %q", got)
	}
	if n := len(o.find(cluster.EventMachineRequested)); n != 9 {
		t.Errorf("%d machines were requested, want 8 and 1", n)
	}
	t.Logf("peak: %d MiB in %d processes", peak>>20, processes)
	if peak == 0 || peak > 2<<30 {
		t.Errorf("all processes together took %d MiB", peak>>20)
	}
	u.checkClean()
}

// pss is a process's share of memory in bytes, shared pages divided among those
// who share them.
func pss(pid int) int64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kib int64
		if n, _ := fmt.Sscanf(s.Text(), "Pss: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}

// TestDownStopsARunUnderWay: `levin down` of a live run stops it first, and waits
// for its end.
func TestDownStopsARunUnderWay(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	p := u.start("run", u.app(slow, nil), "--json")
	e := p.until("work under way", func(e cluster.Event) bool { return e.Type == cluster.EventCallLog && e.Line == "started" })
	down := u.levin("down", e.Run)
	if down.code != 0 || !strings.Contains(down.stderr, "still under way") {
		t.Errorf("down: %d\n%s%s", down.code, down.stdout, down.stderr)
	}
	if o := p.wait(); o.code != 130 {
		t.Errorf("run: exit %d\n%s", o.code, o.stderr)
	}
	u.checkClean()
}
