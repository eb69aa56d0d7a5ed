package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/flow"
	"github.com/levinrun/levin/internal/ui"
)

type logsOptions struct {
	Run       string
	Component string
	Follow    bool
}

func newLogs(d *deps) *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:   "logs [RUN [COMPONENT]]",
		Short: "Print what the work printed (default: of the newest run)",
		Args:  checked(cobra.MaximumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.Run = args[0]
			}
			if len(args) > 1 {
				o.Component = args[1]
			}
			return d.logs(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVarP(&o.Follow, "follow", "f", false, "go on until the run has finished")
	return cmd
}

func (d *deps) logs(ctx context.Context, o logsOptions) error {
	settings, store, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	run, err := findRun(ctx, store, o.Run)
	if err != nil {
		return err
	}
	p := &logPrinter{d: d, run: run, dir: runDir(settings, run.ID), component: o.Component, printed: map[string]int64{}}
	if o.Component != "" {
		if err := p.checkComponent(ctx, store); err != nil {
			return err
		}
	}
	if !o.Follow || run.State.Final() || !controllerAlive(p.dir) {
		return p.printFiles(ctx, store)
	}
	return p.follow(ctx, store)
}

// logPrinter prints log lines of one run.
type logPrinter struct {
	d         *deps
	run       cluster.Run
	dir       string
	component string           // only this one; "" is all
	printed   map[string]int64 // attempt id → bytes of its log already printed
}

func (p *logPrinter) checkComponent(ctx context.Context, store cluster.Store) error {
	calls, err := store.Calls(ctx, p.run.ID)
	if err != nil {
		return err
	}
	var names []string
	for _, c := range calls {
		if c.Component == p.component {
			return nil
		}
		names = append(names, c.Component)
	}
	return usagef("run %s has no component %q; it has: %s", p.run.ID, p.component, strings.Join(unique(names), ", "))
}

// printFiles prints the log files there are, attempt after attempt.
func (p *logPrinter) printFiles(ctx context.Context, store cluster.Store) error {
	calls, err := store.Calls(ctx, p.run.ID)
	if err != nil {
		return err
	}
	byID := map[string]cluster.Call{}
	for _, c := range calls {
		byID[c.ID] = c
	}
	attempts, err := store.Attempts(ctx, p.run.ID)
	if err != nil {
		return err
	}
	for _, a := range attempts {
		call := byID[a.Call]
		if p.component != "" && call.Component != p.component {
			continue
		}
		if err := p.printFile(call, a.Number); err != nil {
			return err
		}
	}
	return nil
}

func (p *logPrinter) printFile(call cluster.Call, attempt int) error {
	f, err := os.Open(flow.LogPath(p.dir, call.ID, attempt))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was printed yet
	}
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	var offset int64
	for {
		text, err := r.ReadString('\n')
		if text != "" && (err == nil || p.run.State.Final()) { // an unfinished line comes with the events
			p.print(cluster.Event{
				Run: p.run.ID, Type: cluster.EventCallLog, Component: call.Component, Call: call.ID, Each: call.Each,
				Attempt: attempt, Offset: offset, Line: strings.TrimRight(text, "\r\n"),
			})
			offset += int64(len(text))
		}
		if err == io.EOF {
			p.printed[attemptKey(call.ID, attempt)] = offset
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// follow listens before it reads the files, so that no line falls between.
func (p *logPrinter) follow(ctx context.Context, store cluster.Store) error {
	client, err := flow.Dial(socketPath(p.dir))
	if err != nil {
		return p.printFiles(ctx, store) // it finished just now
	}
	defer client.Close()
	stream, err := client.Events(ctx, 0)
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := p.printFiles(ctx, store); err != nil {
		return err
	}
	for {
		e, err := stream.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			if ctx.Err() != nil {
				return nil // Ctrl-C ends the following, not the run
			}
			return err
		case e.Type == cluster.EventRunFinished:
			return nil
		case e.Type != cluster.EventCallLog || p.component != "" && e.Component != p.component:
			continue
		case e.Offset < p.printed[attemptKey(e.Call, e.Attempt)]:
			continue // the file had it
		}
		p.print(e)
	}
}

func (p *logPrinter) print(e cluster.Event) {
	switch {
	case p.d.json:
		json.NewEncoder(p.d.Stdout).Encode(e)
	case p.component != "" && e.Each == "":
		fmt.Fprintln(p.d.Stdout, p.text(e.Line))
	default:
		fmt.Fprintf(p.d.Stdout, "%s | %s\n", ui.Who(e.Component, e.Each), p.text(e.Line))
	}
}

// text keeps bytes as they came for a file or a pipe, and makes them safe for a
// terminal.
func (p *logPrinter) text(line string) string {
	if _, ok := terminal(p.d.Stdout); ok {
		return ui.Clean(line)
	}
	return line
}

func attemptKey(call string, attempt int) string { return fmt.Sprintf("%s-a%d", call, attempt) }

// unique drops repetitions, keeping the order.
func unique(words []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, w := range words {
		if !seen[w] {
			seen[w] = true
			out = append(out, w)
		}
	}
	return out
}
