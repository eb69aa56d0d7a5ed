// Command benchmark measures the numbers that Levin wants to reach and prints
// each beside its goal. What it compares, it measures side by side in one run.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

// options are the sizes of what is measured. The defaults fit into a few minutes
// on two cores.
type options struct {
	json    bool
	runs    int    // of own-time
	samples int    // of stop
	rounds  int    // of everything that is compared, each after the other
	mib     int    // of the first ship
	agents  int    // attached to one controller
	profile string // folder for CPU profiles of Levin's side of a ship
}

// measure is what can be run alone by its name.
type measure struct {
	name string
	what string
	run  func(ctx context.Context, r *rig) ([]row, error)
}

func measures() []measure {
	return []measure{
		{"own-time", "own time of a whole run", ownTime},
		{"stop", "from the exit of the work to the request to stop its machine", stopTime},
		{"terminate", "from the exit of the work to the cloud's TerminateInstances (emulated AWS)", terminateTime},
		{"streamed", "from the last write of an output of 1 GiB to the request to stop its machine", streamedOutput},
		{"plan", "plan of 1,000 components, and `levin plan` of an example", planTime},
		{"cold-start", "`levin version`", coldStart},
		{"machines-100", "100 local machines against one hand-written terraform apply", hundredMachines},
		{"memory", "resident memory of an idle local machine", idleMemory},
		{"ship", "first ship against rsync", firstShip},
		{"reship", "ship of 10,000 unchanged files against rsync -a", reShip},
		{"graph", "10,000 components through the coordinator", graphRate},
		{"agents", "a controller with many machines attached", attached},
	}
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == simulateVerb {
		if err := simulate(os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "simulated agents:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == writeVerb {
		if err := writeOutput(os.Args[2:], os.Getenv("LEVIN_RESULT")); err != nil {
			fmt.Fprintln(os.Stderr, "writing the output:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A reader of the table that goes away makes writing fail, and ends nothing
	// before what was made is removed.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	flags := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.json, "json", false, "print JSON instead of a Markdown table")
	flags.IntVar(&o.runs, "runs", 7, "runs for own-time")
	flags.IntVarP(&o.samples, "samples", "n", 200, "samples for stop; the goal is for 1000")
	flags.IntVar(&o.rounds, "rounds", 3, "rounds of everything that is compared")
	flags.IntVar(&o.mib, "mib", 256, "MiB of the first ship; the goal is for 1024")
	flags.IntVar(&o.agents, "agents", 1000, "simulated agents for agents")
	flags.StringVar(&o.profile, "profile", "", "write CPU profiles of Levin's side of ship and reship into this `folder`")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "Usage: scripts/bench [flags] [name...]\n\nWithout a name, all of:\n")
		for _, m := range measures() {
			fmt.Fprintf(stderr, "  %-13s %s\n", m.name, m.what)
		}
		fmt.Fprintf(stderr, "\n%s", flags.FlagUsages())
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if min(o.runs, o.samples, o.rounds, o.mib, o.agents) < 1 {
		return fmt.Errorf("numbers must be 1 or more")
	}
	chosen, err := choose(flags.Args())
	if err != nil {
		return err
	}
	return carryOut(ctx, o, chosen, stdout, stderr)
}

func choose(names []string) ([]measure, error) {
	all := measures()
	for _, name := range names {
		if !slices.ContainsFunc(all, func(m measure) bool { return m.name == name }) {
			return nil, fmt.Errorf("there is no %q; see --help", name)
		}
	}
	if len(names) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(all, func(m measure) bool { return !slices.Contains(names, m.name) }), nil
}

// carryOut measures one thing after the other. One that fails is told at the end;
// the others are measured all the same.
func carryOut(ctx context.Context, o options, chosen []measure, stdout, stderr io.Writer) (err error) {
	r, err := newRig(o, stderr)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := r.close(); err == nil {
			err = cerr
		}
	}()
	report := report{Host: describeHost()}
	var failed []string
	for _, m := range chosen {
		started := time.Now()
		fmt.Fprintf(stderr, "%s: %s\n", m.name, m.what)
		rows, err := m.run(ctx, r)
		if err == nil {
			err = r.checkNothingLeft()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			fmt.Fprintf(stderr, "%s failed: %v\n", m.name, err)
			failed = append(failed, m.name)
			continue
		}
		for i := range rows {
			rows[i].Name = m.name
		}
		report.Rows = append(report.Rows, rows...)
		fmt.Fprintf(stderr, "%s took %s\n", m.name, time.Since(started).Round(time.Second))
	}
	report.Host.LoadAfter = loadAverage()
	if o.json {
		enc := json.NewEncoder(stdout)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		_, err = io.WriteString(stdout, report.markdown())
	}
	if len(failed) > 0 {
		return fmt.Errorf("could not measure %s", strings.Join(failed, ", "))
	}
	return err
}
