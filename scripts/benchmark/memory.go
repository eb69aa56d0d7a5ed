package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/levinrun/levin/cluster"
)

const memoryWhat = "resident memory of an idle local machine, its process and agent together"

// idleMemory keeps machines after a run and looks at their processes, and then
// at machines that have work.
func idleMemory(ctx context.Context, r *rig) ([]row, error) {
	if !hasProc() {
		return []row{skipped(memoryWhat, "needs /proc")}, nil
	}
	if err := r.build(ctx); err != nil {
		return nil, err
	}
	p, err := r.newPlace("memory")
	if err != nil {
		return nil, err
	}
	const machines = 4
	app, err := p.app(wideApp("idle", machines, `"true"`))
	if err != nil {
		return nil, err
	}
	done, err := p.run(ctx, r.levin, "--keep=10m", app)
	if err != nil {
		return nil, err
	}
	idle, err := settledMemory(ctx, p, machines)
	if _, derr := p.timed(context.WithoutCancel(ctx), r.levin, "down", done.events[0].Run); derr != nil {
		return nil, derr
	}
	if err != nil {
		return nil, err
	}
	busy, err := busyMemory(ctx, r, p, machines)
	if err != nil {
		return nil, err
	}
	return []row{measured(memoryWhat, median(column(idle, func(m machineMemory) float64 { return m.rss })), 25, "MB", false,
		"RSS, median of %d machines of which nobody wants anything: machine %.1f MB, agent %.1f MB; what they share counted by its share (PSS) %.1f MB. "+
			"While work runs and the controller is connected: %.1f MB RSS and %.1f MB PSS in %d processes, the work itself left out",
		machines, median(column(idle, func(m machineMemory) float64 { return m.byVerb["machine"] })),
		median(column(idle, func(m machineMemory) float64 { return m.byVerb["serve"] })),
		median(column(idle, func(m machineMemory) float64 { return m.pss })),
		median(column(busy, func(m machineMemory) float64 { return m.rss })),
		median(column(busy, func(m machineMemory) float64 { return m.pss })), busy[0].processes)}, nil
}

// busyMemory looks at machines whose work goes on.
func busyMemory(ctx context.Context, r *rig, p *place, machines int) ([]machineMemory, error) {
	app, err := p.app(wideApp("busy", machines, "sleep 1000"))
	if err != nil {
		return nil, err
	}
	run, err := p.start(ctx, r.levin, app)
	if err != nil {
		return nil, err
	}
	if err := run.until(cluster.EventCallRunning, machines); err != nil {
		return nil, err
	}
	busy, err := settledMemory(ctx, p, machines)
	if _, ierr := run.interrupt(); ierr != nil {
		return nil, ierr
	}
	return busy, err
}

// machineMemory is what the processes of one machine hold, in MB.
type machineMemory struct {
	rss, pss  float64
	byVerb    map[string]float64 // RSS
	processes int
}

// settledMemory waits a little, so that what was only needed for the start is
// given back, and measures every machine of a place.
func settledMemory(ctx context.Context, p *place, want int) ([]machineMemory, error) {
	select {
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	dirs, err := filepath.Glob(p.path("home", "machines", "*"))
	if err != nil || len(dirs) != want {
		return nil, fmt.Errorf("%d machines live, expected %d (%v)", len(dirs), want, err)
	}
	var all []machineMemory
	for _, dir := range dirs {
		m := machineMemory{byVerb: map[string]float64{}}
		for _, pid := range processesWith("LEVIN_MACHINE_DIR=" + dir + "\x00") {
			args := strings.Fields(commandLine(pid))
			if len(args) < 2 || !isAgent(args[0]) {
				continue // the work, and shells on its way
			}
			rss, pss, err := residentMemory(pid)
			if err != nil {
				return nil, err
			}
			m.rss, m.pss, m.processes = m.rss+rss, m.pss+pss, m.processes+1
			m.byVerb[args[1]] += rss
		}
		all = append(all, m)
	}
	return all, nil
}

func isAgent(program string) bool {
	return filepath.Base(program) == "levin-agent" || strings.Contains(program, ".levin-agent/bin/")
}

// residentMemory gives what a process holds in memory, in MB: all of it, and with
// pages that others hold too counted by this one's share.
func residentMemory(pid int) (rss, pss float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "Rss: %f kB", &kib); n == 1 {
			rss = kib * 1024 / 1e6
		}
		if n, _ := fmt.Sscanf(line, "Pss: %f kB", &kib); n == 1 {
			pss = kib * 1024 / 1e6
		}
	}
	return rss, pss, nil
}
