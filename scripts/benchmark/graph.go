package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// graphShape is one of the graphs of the coordinator's own benchmark.
type graphShape struct {
	bench   string
	rate    float64 // calls a second
	perCPU  float64 // calls for each second of a core, what is around the runs included
	heap    float64 // MB right after a run
	maximum float64 // MB the process ever held
}

const graphCalls = 10_000

// graphRate runs the coordinator's benchmark: 10,000 components in layers of
// which each needs three of the layer above. With the state in memory it measures
// the coordinator, with the state in SQLite what a real run does for each call
// besides the work.
func graphRate(ctx context.Context, r *rig) ([]row, error) {
	p, err := r.newPlace("graph")
	if err != nil {
		return nil, err
	}
	test := p.path("flow.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", test, "./flow")
	build.Dir = r.module
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go test -c ./flow: %w\n%s", err, out)
	}
	var rows []row
	most, heap := map[string]float64{}, map[string]float64{}
	for _, store := range []string{"memory", "sqlite"} {
		layered, err := runGraph(ctx, p, test, store+"/layered", r.rounds)
		if err != nil {
			return nil, err
		}
		alone, err := runGraph(ctx, p, test, store+"/alone", r.rounds)
		if err != nil {
			return nil, err
		}
		rows = append(rows, measured("graph of 10,000 no-op components through the coordinator, state in "+store, layered.rate, 20_000, "/s", true,
			"layers of 100, each component needs three of the layer above; mean of %d runs. For each second of a core %s, whatever else the host did. Without any needs %s",
			r.rounds, quantity(layered.perCPU, ""), quantity(alone.rate, "/s")))
		most[store] = max(layered.maximum, alone.maximum)
		heap[store] = max(layered.heap, alone.heap)
	}
	return append(rows, measured("the same, state in sqlite, memory", most["sqlite"], 200, "MB", false,
		"the most that the process of the benchmark ever held (RSS), over %d runs; the heap right after a run is %.0f MB. With the state in memory all events are held too: %.0f MB RSS, %.0f MB heap",
		r.rounds, heap["sqlite"], most["memory"], heap["memory"])), nil
}

func runGraph(ctx context.Context, p *place, test, bench string, times int) (graphShape, error) {
	store, shape, _ := strings.Cut(bench, "/")
	cmd := p.command(ctx, test, "-test.run=^$", "-test.bench=^BenchmarkGraph$/^"+store+"$/^"+shape+"$", "-test.benchtime="+strconv.Itoa(times)+"x")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return graphShape{}, fmt.Errorf("BenchmarkGraph/%s: %w\n%s", bench, err, out)
	}
	s := graphShape{bench: bench}
	var ok1, ok2 bool
	s.rate, ok1 = metric(string(out), "calls/s")
	s.heap, ok2 = metric(string(out), "heapMB")
	if !ok1 || !ok2 {
		return s, fmt.Errorf("BenchmarkGraph/%s does not say calls/s and heapMB:\n%s", bench, out)
	}
	s.perCPU = float64(graphCalls*times) / (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.maximum = float64(usage.Maxrss) * 1024 / 1e6
		if runtime.GOOS == "darwin" { // which counts bytes
			s.maximum /= 1024
		}
	}
	return s, nil
}

var metricPattern = regexp.MustCompile(`([0-9.e+]+) ([A-Za-z]+(?:/[a-z]+)?)`)

// metric finds a number in the line of a benchmark.
func metric(out, unit string) (float64, bool) {
	for _, m := range metricPattern.FindAllStringSubmatch(out, -1) {
		if m[2] == unit {
			v, err := strconv.ParseFloat(m[1], 64)
			return v, err == nil
		}
	}
	return 0, false
}
