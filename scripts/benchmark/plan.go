package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// planTime runs the planner's own benchmark, and `levin plan` as a user does.
func planTime(ctx context.Context, r *rig) ([]row, error) {
	p, err := r.newPlace("plan")
	if err != nil {
		return nil, err
	}
	thousand, err := planThousand(ctx, r, p)
	if err != nil {
		return nil, err
	}
	example, err := planExample(ctx, r, p)
	if err != nil {
		return nil, err
	}
	return []row{thousand, example}, nil
}

func planThousand(ctx context.Context, r *rig, p *place) (row, error) {
	test := p.path("provision.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", test, "./provision")
	build.Dir = r.module
	if out, err := build.CombinedOutput(); err != nil {
		return row{}, fmt.Errorf("go test -c ./provision: %w\n%s", err, out)
	}
	const times = 20 // plans in one round
	took := map[string][]float64{}
	for range r.rounds {
		for _, name := range []string{"no data", "with data"} {
			cmd := p.command(ctx, test, "-test.run=^$", "-test.bench=^BenchmarkPlan1000$/^"+strings.ReplaceAll(name, " ", "_")+"$", "-test.benchtime="+strconv.Itoa(times)+"x")
			out, err := cmd.CombinedOutput()
			if err != nil {
				return row{}, fmt.Errorf("BenchmarkPlan1000/%s: %w\n%s", name, err, out)
			}
			ns, ok := metric(string(out), "ns/op")
			if !ok {
				return row{}, fmt.Errorf("BenchmarkPlan1000/%s does not say ns/op:\n%s", name, out)
			}
			took[name] = append(took[name], ns/1e6)
		}
	}
	data := took["with data"]
	return measured("plan of 1,000 components, no two of which ask for the same, against both full catalogs", median(data), 200, "ms", false,
		"`provision.NewPlan` in-process, each component needs the one before and hands 10 GiB on; median of %d rounds of %d plans, %.0f to %.0f ms. Without data to move %.0f ms",
		len(data), times, percentile(data, 0), percentile(data, 100), median(took["no data"])), nil
}

func planExample(ctx context.Context, r *rig, p *place) (row, error) {
	if err := r.build(ctx); err != nil {
		return row{}, err
	}
	const times = 10
	var took []time.Duration
	for i := range times + 1 {
		d, err := p.timed(ctx, r.levin, "plan", filepath.Join(r.module, "examples", "train-analyze"), "--cloud", "aws")
		if err != nil {
			return row{}, err
		}
		if i > 0 {
			took = append(took, d)
		}
	}
	return measured("`levin plan examples/train-analyze --cloud aws`, wall", milliseconds(median(took)), 150, "ms", false,
		"median of %d processes, %.1f to %.1f ms; no credentials, no network", times, milliseconds(percentile(took, 0)), milliseconds(percentile(took, 100))), nil
}
