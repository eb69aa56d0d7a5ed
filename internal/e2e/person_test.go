package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
)

// patience bounds waiting for something that must happen; it is no measure of
// speed.
const patience = 2 * time.Minute

// person is somebody with an empty home and temporary folder of their own.
type person struct {
	t    testing.TB
	home string // $LEVIN_HOME
	tmp  string // $TMPDIR: must be empty at the end
	env  []string
	// hostHomes are the home folders on own hosts that this person uses.
	hostHomes []string
}

func newUser(t testing.TB) *person {
	t.Helper()
	base := t.TempDir()
	u := &person{t: t, home: filepath.Join(base, "levin"), tmp: filepath.Join(base, "tmp")}
	if err := os.MkdirAll(u.tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	u.env = append(withoutLevin(os.Environ()), "LEVIN_HOME="+u.home, "TMPDIR="+u.tmp, "HOME="+base, "XDG_CACHE_HOME="+built.cache,
		"LEVIN_CONFIG="+filepath.Join(base, "settings.yaml"), "GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"), "GOFLAGS="+goEnv(t, "GOFLAGS"))
	u.settings("cloud: local\n")
	return u
}

func withoutLevin(env []string) []string {
	var out []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, "LEVIN_") {
			out = append(out, kv)
		}
	}
	return out
}

var goEnv = func() func(t testing.TB, key string) string {
	var mu sync.Mutex
	seen := map[string]string{}
	return func(t testing.TB, key string) string {
		mu.Lock()
		defer mu.Unlock()
		if v, ok := seen[key]; ok {
			return v
		}
		out, err := exec.Command("go", "env", key).Output()
		if err != nil {
			t.Fatal(err)
		}
		seen[key] = strings.TrimSpace(string(out))
		return seen[key]
	}
}()

// settings writes the settings file.
func (u *person) settings(yaml string) {
	u.t.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(u.home), "settings.yaml"), []byte(yaml), 0o600); err != nil {
		u.t.Fatal(err)
	}
}

// app writes an app folder and gives its path. files are name → content; a name
// that ends in .sh becomes executable.
func (u *person) app(yaml string, files map[string]string) string {
	u.t.Helper()
	dir := u.t.TempDir()
	write := func(name, content string, mode os.FileMode) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			u.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			u.t.Fatal(err)
		}
	}
	write("app.yaml", yaml, 0o644)
	for name, content := range files {
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, ".sh") {
			mode = 0o755
		}
		write(name, content, mode)
	}
	return dir
}

// outcome is a finished command.
type outcome struct {
	code   int
	stdout string
	stderr string
	events []cluster.Event // of --json
}

// levin runs a command to its end.
func (u *person) levin(args ...string) outcome {
	u.t.Helper()
	p := u.start(args...)
	return p.wait()
}

// run runs an app with --json and checks the exit code.
func (u *person) run(want int, app string, args ...string) outcome {
	u.t.Helper()
	o := u.levin(append([]string{"run", app, "--json"}, args...)...)
	if o.code != want {
		u.t.Fatalf("levin run exited with %d, want %d\n%s%s", o.code, want, o.stdout, o.stderr)
	}
	return o
}

// process is a command that runs.
type process struct {
	u      *person
	cmd    *exec.Cmd
	stderr bytes.Buffer
	stdout bytes.Buffer
	events []cluster.Event
	lines  chan cluster.Event // closed at the end of stdout
}

func (u *person) start(args ...string) *process {
	u.t.Helper()
	p := &process{u: u, cmd: exec.Command(built.levin, args...), lines: make(chan cluster.Event, 100_000)}
	p.cmd.Env = u.env
	p.cmd.Dir = filepath.Dir(u.home)
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		u.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	go p.read(out)
	return p
}

// read turns --json lines into events and keeps everything else as text.
func (p *process) read(out io.Reader) {
	defer close(p.lines)
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadBytes('\n')
		p.stdout.Write(line)
		var e cluster.Event
		if json.Unmarshal(line, &e) == nil && e.Type != "" {
			p.lines <- e
		}
		if err != nil {
			return
		}
	}
}

// until waits for an event that match accepts; fails when the process ends
// before.
func (p *process) until(what string, match func(cluster.Event) bool) cluster.Event {
	p.u.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case e, ok := <-p.lines:
			if !ok {
				p.u.t.Fatalf("the process ended before %s\n%s%s", what, p.stdout.String(), p.stderr.String())
			}
			p.events = append(p.events, e)
			if match(e) {
				return e
			}
		case <-deadline:
			p.cmd.Process.Kill()
			p.u.t.Fatalf("%s did not come\n%s", what, p.stderr.String())
		}
	}
}

func (p *process) untilType(t cluster.EventType) cluster.Event {
	p.u.t.Helper()
	return p.until(string(t), func(e cluster.Event) bool { return e.Type == t })
}

func (p *process) signal(s syscall.Signal) {
	p.u.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.u.t.Fatal(err)
	}
}

// wait waits for the end and gives what came of it.
func (p *process) wait() outcome {
	p.u.t.Helper()
	timer := time.AfterFunc(patience, func() {
		p.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines go to stderr
	})
	defer timer.Stop()
	for e := range p.lines {
		p.events = append(p.events, e)
	}
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.u.t.Fatal(err)
	}
	return outcome{code: p.cmd.ProcessState.ExitCode(), stdout: p.stdout.String(), stderr: p.stderr.String(), events: p.events}
}

// find gives the events of one type.
func (o outcome) find(t cluster.EventType) []cluster.Event {
	var found []cluster.Event
	for _, e := range o.events {
		if e.Type == t {
			found = append(found, e)
		}
	}
	return found
}

// logs joins the log lines of one component.
func (o outcome) logs(component string) string {
	var lines []string
	for _, e := range o.find(cluster.EventCallLog) {
		if e.Component == component {
			lines = append(lines, e.Line)
		}
	}
	return strings.Join(lines, "\n")
}
