package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/levinrun/levin/cluster"
)

const ownTimeWhat = "own time of `levin run examples/train-analyze` on local: wall minus the time inside Terraform processes"

// ownTime runs the example again and again, with a terraform on PATH that writes
// down when the real one runs. The caches are warm: one run before does not count.
func ownTime(ctx context.Context, r *rig) ([]row, error) {
	if err := r.build(ctx); err != nil {
		return nil, err
	}
	p, err := r.newPlace("own-time")
	if err != nil {
		return nil, err
	}
	watch, why, err := watchTerraform(p)
	if err != nil || why != "" {
		return []row{skipped(ownTimeWhat, why)}, err
	}
	example := filepath.Join(r.module, "examples", "train-analyze")
	var runs []ownRun
	for i := range r.runs + 1 {
		if err := watch.clear(); err != nil {
			return nil, err
		}
		done, err := p.run(ctx, r.levin, example)
		if err != nil {
			return nil, err
		}
		terraform, err := watch.spans()
		if err != nil {
			return nil, err
		}
		if i > 0 {
			runs = append(runs, dissect(done, terraform))
		}
	}
	mid := func(pick func(ownRun) time.Duration) time.Duration { return median(column(runs, pick)) }
	own := column(runs, func(o ownRun) time.Duration { return o.wall - o.terraform })
	detail := fmt.Sprintf("median of %d runs with warm caches, %s to %s. Of a wall of %s, %d Terraform processes take %s (%s when those that overlap are added up), "+
		"and of the rest the app's own `build:` commands take %s and its work %s; what remains is %s. "+
		"Up to each event, in medians, Terraform and builds taken out: %s",
		len(runs), seconds(percentile(own, 0)), seconds(percentile(own, 100)),
		seconds(mid(func(o ownRun) time.Duration { return o.wall })), int(mid(func(o ownRun) time.Duration { return time.Duration(o.processes) })),
		seconds(mid(func(o ownRun) time.Duration { return o.terraform })), seconds(mid(func(o ownRun) time.Duration { return o.terraformSum })),
		seconds(mid(func(o ownRun) time.Duration { return o.builds })), seconds(mid(func(o ownRun) time.Duration { return o.work })),
		seconds(mid(func(o ownRun) time.Duration { return o.rest })), phasesOf(runs))
	return []row{measured(ownTimeWhat, median(own).Seconds(), 0.5, "s", false, "%s", detail)}, nil
}

// ownRun is where the time of one run went. builds, work and rest do not overlap
// with Terraform, nor with each other.
type ownRun struct {
	wall, terraform, terraformSum, builds, work, rest time.Duration
	processes                                         int
	phases                                            []phase
}

// phase is a stretch of the run, and how much of it lay outside Terraform and
// builds.
type phase struct {
	name string
	took time.Duration
}

// dissect takes a run apart. A shell command of the app's author is neither ours
// nor Terraform's, so builds and work are told apart.
func dissect(done finished, terraform []span) ownRun {
	o := ownRun{wall: done.wall, processes: len(terraform)}
	o.terraform, o.terraformSum = covered(terraform)
	var builds, work []span
	building, running := map[string]time.Time{}, map[string]time.Time{}
	for _, e := range done.events {
		switch e.Type {
		case cluster.EventBuildStarted:
			building[e.Component] = e.Time
		case cluster.EventBuildFinished:
			builds = append(builds, span{building[e.Component], e.Time})
		case cluster.EventCallRunning:
			running[e.Call] = e.Time
		case cluster.EventCallExited:
			work = append(work, span{running[e.Call], *e.ExitedAt})
		}
	}
	taken := append([]span{}, terraform...)
	more := func(spans []span) time.Duration {
		before, _ := covered(taken)
		taken = append(taken, spans...)
		after, _ := covered(taken)
		return after - before
	}
	o.builds = more(builds)
	outside := append([]span{}, taken...) // phases are without these
	o.work = more(work)
	all, _ := covered(taken)
	o.rest = o.wall - all
	o.phases = phases(done, outside)
	return o
}

// phases cuts a run at its events, in the order in which they come.
func phases(done finished, outside []span) []phase {
	var out []phase
	from := done.started
	cut := func(name string, to time.Time) {
		if !to.After(from) {
			return
		}
		with, _ := covered(append([]span{{from, to}}, outside...))
		without, _ := covered(outside)
		out = append(out, phase{name, with - without})
		from = to
	}
	for _, e := range done.events {
		switch e.Type {
		case cluster.EventRunStarted:
			cut("start of levin", e.Time)
		case cluster.EventCallStarted:
			cut(e.Component+" started", e.Time)
		case cluster.EventMachineReady:
			cut(e.Component+" machine.ready", e.Time)
		case cluster.EventCallShipped:
			cut(e.Component+" connected and shipped", e.Time)
		case cluster.EventCallRunning:
			cut(e.Component+" running", e.Time)
		case cluster.EventCallExited:
			cut(e.Component+" exited", *e.ExitedAt)
		case cluster.EventRunStopping:
			cut("run.stopping", e.Time)
		case cluster.EventRunFinished:
			cut("run.finished", e.Time)
		}
	}
	cut("exit of levin", done.started.Add(done.wall))
	return out
}

// phasesOf writes the medians of the phases, in the order of the first run.
func phasesOf(runs []ownRun) string {
	took := map[string][]time.Duration{}
	for _, o := range runs {
		for _, ph := range o.phases {
			took[ph.name] = append(took[ph.name], ph.took)
		}
	}
	var text []string
	for _, ph := range runs[0].phases {
		text = append(text, fmt.Sprintf("%s %.0f ms", ph.name, milliseconds(median(took[ph.name]))))
	}
	return strings.Join(text, ", ")
}

// terraformWatch is a terraform on a place's PATH that writes down when the real
// one runs.
type terraformWatch struct{ log string }

// watchScript notes nanoseconds before and after. What the script itself takes
// beside that, some milliseconds, counts as Levin's time.
const watchScript = `#!/bin/sh
from=$(date +%%s%%N)
%q "$@"
code=$?
echo "$from $(date +%%s%%N)" >> %q
exit $code
`

// watchTerraform puts it there. Where it cannot be, it says why.
func watchTerraform(p *place) (w terraformWatch, why string, err error) {
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		return w, "there is no terraform on PATH", nil
	}
	if out, err := exec.Command("date", "+%s%N").Output(); err != nil || len(out) < 19 {
		return w, "`date` here knows no nanoseconds", nil
	}
	w.log = p.path("terraform.log")
	bin := p.path("bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return w, "", err
	}
	script := fmt.Sprintf(watchScript, terraform, w.log)
	if err := os.WriteFile(filepath.Join(bin, "terraform"), []byte(script), 0o700); err != nil {
		return w, "", err
	}
	p.env = append(p.env, "PATH="+bin+string(os.PathListSeparator)+p.getenv("PATH"))
	return w, "", nil
}

func (w terraformWatch) clear() error { return os.WriteFile(w.log, nil, 0o600) }

func (w terraformWatch) spans() ([]span, error) {
	text, err := os.ReadFile(w.log)
	if err != nil {
		return nil, err
	}
	var spans []span
	for line := range strings.Lines(string(text)) {
		from, to, _ := strings.Cut(strings.TrimSpace(line), " ")
		a, err1 := strconv.ParseInt(from, 10, 64)
		b, err2 := strconv.ParseInt(to, 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		spans = append(spans, span{time.Unix(0, a), time.Unix(0, b)})
	}
	if len(spans) == 0 {
		return nil, errors.New("levin did not run the terraform that is first on PATH")
	}
	return spans, nil
}
