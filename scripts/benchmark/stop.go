package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/levinrun/levin/cluster"
)

// stopWidth is how many machines are up at a time.
const stopWidth = 10

// stopTime runs stages of ten machines, one stage after the other, so that each
// machine does one call and stops; Terraform works on the next stage's machines
// and on the last one's at that moment. The works of a stage end at different
// times, some within a few milliseconds of each other.
func stopTime(ctx context.Context, r *rig) ([]row, error) {
	if err := r.build(ctx); err != nil {
		return nil, err
	}
	p, err := r.newPlace("stop")
	if err != nil {
		return nil, err
	}
	app, err := p.app(stopApp(r.samples))
	if err != nil {
		return nil, err
	}
	done, err := p.run(ctx, r.levin, app)
	if err != nil {
		return nil, err
	}
	exits := map[string]time.Time{}
	var asked, seen []time.Duration
	for _, e := range done.events {
		switch e.Type {
		case cluster.EventCallExited:
			exits[e.Machine] = *e.ExitedAt
		case cluster.EventMachineStopRequested:
			if at, ok := exits[e.Machine]; ok {
				asked = append(asked, e.Time.Sub(at))
				seen = append(seen, e.seen.Sub(at))
			}
		}
	}
	if len(asked) != r.samples {
		return nil, fmt.Errorf("%d machines were stopped after their work, expected %d", len(asked), r.samples)
	}
	detail := fmt.Sprintf("%d samples, %d machines at a time, each stopped after one call; from `exited_at` to the time of the event. "+
		"p90 %.1f ms, slowest %.1f ms; until a reader of --json has seen the event: median %.1f ms, p99 %.1f ms",
		len(asked), stopWidth, milliseconds(percentile(asked, 90)), milliseconds(percentile(asked, 100)),
		milliseconds(median(seen)), milliseconds(percentile(seen, 99)))
	const what = "work exit → `machine.stop_requested`, "
	return []row{
		measured(what+"median", milliseconds(median(asked)), 20, "ms", false, "%s", detail),
		measured(what+"p99", milliseconds(percentile(asked, 99)), 200, "ms", false, ""),
	}, nil
}

// stopApp is n calls in stages that need each other. The stages take turns with
// the resources that are given, if any.
func stopApp(n int, resources ...string) string {
	var b strings.Builder
	b.WriteString("name: stop\ncomponents:\n")
	for stage := 0; n > 0; stage++ {
		width := min(n, stopWidth)
		n -= width
		var items []string
		for i := range width {
			items = append(items, fmt.Sprintf("%q", fmt.Sprintf("0.%02d", 5*i)))
		}
		fmt.Fprintf(&b, "  s%d:\n    for_each: [%s]\n    max_machines: %d\n    files: []\n    run: sleep ${each}\n",
			stage, strings.Join(items, ", "), stopWidth)
		if len(resources) > 0 {
			fmt.Fprintf(&b, "    resources: {%s}\n", resources[stage%len(resources)])
		}
		if stage > 0 {
			fmt.Fprintf(&b, "    needs: [s%d]\n", stage-1)
		}
	}
	return b.String()
}
