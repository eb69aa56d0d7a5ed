package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/levinrun/levin/cluster"
)

// attached runs an app on so many slots of an own host that answers for its
// agents itself. The controller is the real `levin run`: coordinator, store,
// Terraform, and an SSH connection for each machine.
func attached(ctx context.Context, r *rig) ([]row, error) {
	what := fmt.Sprintf("controller with %d machines attached (simulated agents), ", r.agents)
	if !hasProc() {
		return []row{skipped(what+"memory and idle CPU", "needs /proc")}, nil
	}
	if err := r.build(ctx); err != nil {
		return nil, err
	}
	p, err := r.newPlace("agents")
	if err != nil {
		return nil, err
	}
	stop, err := simulateHost(ctx, r, p)
	if err != nil {
		return nil, err
	}
	defer stop()
	app, err := p.app(wideApp("attached", r.agents, "sleep 1000"))
	if err != nil {
		return nil, err
	}
	run, err := p.start(ctx, r.levin, "--cloud=simulated", app)
	if err != nil {
		return nil, err
	}
	if err := run.until(cluster.EventCallRunning, r.agents); err != nil {
		return nil, err
	}
	up := time.Since(run.started)
	roots, err := filepath.Glob(p.path("home", "runs", "*", "groups", "*"))
	if err != nil {
		return nil, err
	}
	rss, cpu, window, err := idleController(ctx, run.cmd.Process.Pid)
	stopping := time.Now()
	if _, ierr := run.interrupt(); ierr != nil || err != nil {
		return nil, errors.Join(err, ierr)
	}
	return []row{
		measured(what+"memory", rss, 200, "MB", false,
			"RSS of the process of `levin run` while all %d works run: one connection a machine, two open requests on each. From the start until all ran %s (in %d Terraform roots), from Ctrl-C to the exit %s",
			r.agents, seconds(up), len(roots), seconds(time.Since(stopping))),
		measured(what+"idle CPU", cpu, 2, "%", false, "of one core, over %.0f s: at least one keep-alive for each machine", window.Seconds()),
	}, nil
}

// simulateHost starts this program as the host and names it in the settings.
func simulateHost(ctx context.Context, r *rig, p *place) (stop func(), err error) {
	client, err := newKey(p.path("client"))
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	cmd := p.command(ctx, self, simulateVerb, client.public)
	cmd.Stderr = r.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		stdin.Close()
		cmd.Wait()
	}
	var where simulated
	if err := json.NewDecoder(stdout).Decode(&where); err != nil {
		stop()
		return nil, fmt.Errorf("starting the simulated host: %w", err)
	}
	settings := fmt.Sprintf("clouds:\n  simulated:\n    module: ssh\n    hosts:\n"+
		"      - {name: host, address: 127.0.0.1, port: %d, user: %q, identity: %q, host_key: %q, slots: %d, arch: %s}\n",
		where.Port, me.Username, client.file, where.HostKey, r.agents, runtime.GOARCH)
	if err := os.WriteFile(p.path("config", "levin", "settings.yaml"), []byte(settings), 0o600); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// idleController waits until what the start needed is given back, and then looks
// at a process for a while.
func idleController(ctx context.Context, pid int) (rss, cpu float64, window time.Duration, err error) {
	wait := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := wait(5 * time.Second); err != nil {
		return 0, 0, 0, err
	}
	before, err := cpuTime(pid)
	if err != nil {
		return 0, 0, 0, err
	}
	started := time.Now()
	if err := wait(12 * time.Second); err != nil {
		return 0, 0, 0, err
	}
	after, err := cpuTime(pid)
	if err != nil {
		return 0, 0, 0, err
	}
	window = time.Since(started)
	rss, _, err = residentMemory(pid)
	return rss, 100 * (after - before).Seconds() / window.Seconds(), window, err
}

// cpuTime is what a process has used so far. The kernel counts in hundredths of a
// second for everybody outside of it.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses and may hold anything.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * (time.Second / 100), errors.Join(err1, err2)
}
