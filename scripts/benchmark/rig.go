package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// rig is what all measures share: a folder in which everything happens, and the
// programs that are measured.
type rig struct {
	options
	stderr io.Writer
	module string // folder of the module
	base   string // temporary; every process that a measure starts has it in its environment
	goEnv  []string
	built  bool
	levin  string
	agent  string
}

func newRig(o options, stderr io.Writer) (*rig, error) {
	module, err := goOutput("list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return nil, err
	}
	r := &rig{options: o, stderr: stderr, module: module}
	// The measures have a home of their own; Go's caches stay where they are, or
	// every build would begin from nothing.
	for _, key := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOFLAGS", "GOPROXY", "GOTOOLCHAIN"} {
		value, err := goOutput("env", key)
		if err != nil {
			return nil, err
		}
		r.goEnv = append(r.goEnv, key+"="+value)
	}
	r.base, err = os.MkdirTemp("", "levin-bench-")
	return r, err
}

func goOutput(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (r *rig) close() error { return os.RemoveAll(r.base) }

// build builds levin and its agent as a release does.
func (r *rig) build(ctx context.Context) error {
	if r.built {
		return nil
	}
	bin := filepath.Join(r.base, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return err
	}
	r.levin, r.agent = filepath.Join(bin, "levin"), filepath.Join(bin, "levin-agent")
	for _, args := range [][]string{
		{"build", "-trimpath", "-o", r.levin, "./cmd/levin"},
		{"build", "-trimpath", "-ldflags", "-s -w", "-o", r.agent, "./cmd/levin-agent"},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Env = r.module, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	r.built = true
	return nil
}

// profiled runs do, and writes its CPU profile when profiles are wanted.
func (r *rig) profiled(name string, do func() error) error {
	if r.profile == "" {
		return do()
	}
	return withProfile(filepath.Join(r.profile, name+".pprof"), do)
}

// place is a home and a temporary folder of one measure.
type place struct {
	dir string
	env []string
}

// newPlace makes one below the rig's folder.
func (r *rig) newPlace(name string) (*place, error) {
	p := &place{dir: filepath.Join(r.base, name)}
	for _, sub := range []string{"tmp", "config/levin"} {
		if err := os.MkdirAll(filepath.Join(p.dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "LEVIN_") {
			p.env = append(p.env, kv)
		}
	}
	p.env = append(p.env, r.goEnv...)
	p.env = append(p.env,
		"HOME="+p.dir, "TMPDIR="+p.path("tmp"), "LEVIN_HOME="+p.path("home"),
		"XDG_CACHE_HOME="+p.path("cache"), "XDG_CONFIG_HOME="+p.path("config"), "XDG_DATA_HOME="+p.path("data"))
	return p, nil
}

func (p *place) path(name ...string) string {
	return filepath.Join(append([]string{p.dir}, name...)...)
}

// getenv gives the last value of a variable.
func (p *place) getenv(key string) string {
	value := ""
	for _, kv := range p.env {
		if k, v, ok := strings.Cut(kv, "="); ok && k == key {
			value = v
		}
	}
	return value
}

// app writes an app file into a folder of its own and gives the folder.
func (p *place) app(yaml string) (string, error) {
	dir := p.path("app")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "app.yaml"), []byte(yaml), 0o600)
}

// command prepares a program that runs in the place. It is interrupted when ctx
// ends, and has time to clean up.
func (p *place) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = p.env, p.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	// Ctrl-C is passed on by Cancel alone: twice would mean to leave at once.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// timed runs a program to its end.
func (p *place) timed(ctx context.Context, program string, args ...string) (time.Duration, error) {
	cmd := p.command(ctx, program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	started := time.Now()
	err := cmd.Run()
	took := time.Since(started)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, out.Bytes())
	}
	return took, nil
}

// checkNothingLeft fails when a process of a measure lives, or a file lies where
// a measure's temporary files are.
func (r *rig) checkNothingLeft() error {
	var left []error
	for _, pid := range processesWith(r.base) {
		left = append(left, fmt.Errorf("process %d was left behind: %s", pid, commandLine(pid)))
	}
	for _, pattern := range []string{"*/tmp/*", "*/home/machines/*", "*/home/tmp/*"} {
		found, _ := filepath.Glob(filepath.Join(r.base, pattern))
		for _, path := range found {
			left = append(left, fmt.Errorf("%s was left behind", path))
		}
	}
	return errors.Join(left...)
}

// processesWith lists processes that have text in their environment, other than
// this one. It finds none where there is no /proc.
func processesWith(text string) []int {
	var pids []int
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if pid == os.Getpid() {
			continue
		}
		if environ, err := os.ReadFile(file); err == nil && bytes.Contains(environ, []byte(text)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func commandLine(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.Join(strings.Split(strings.Trim(string(b), "\x00"), "\x00"), " ")
}

// hasProc reports whether what only Linux tells can be measured.
func hasProc() bool { return runtime.GOOS == "linux" }
