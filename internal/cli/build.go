package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
)

// build is one `build:` command for one target. Components that share both are
// built once.
type build struct {
	line, os, arch string
	components     []string
}

// buildsOf lists what has to be built before anything is shipped, in the app's
// order. The target is that of the component's first offer; the plan has made
// sure that its fallbacks have the same.
func buildsOf(app *configs.App, plan provision.Plan) []build {
	var builds []build
	for i, c := range app.Components {
		if c.Build == "" {
			continue
		}
		o := plan.Choices[i].Offers[0]
		same := func(b build) bool { return b.line == c.Build && b.os == o.OS && b.arch == o.Arch }
		if at := slices.IndexFunc(builds, same); at >= 0 {
			builds[at].components = append(builds[at].components, c.Name)
			continue
		}
		builds = append(builds, build{c.Build, o.OS, o.Arch, []string{c.Name}})
	}
	return builds
}

// runBuilds runs every build, those with different targets or commands side by
// side, and reports the first that fails with its own output. Nothing has been
// created when it is called.
func (w World) runBuilds(ctx context.Context, app *configs.App, builds []build, emit func(cluster.Event)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2) // compilers use every core by themselves
	for _, b := range builds {
		group.Go(func() error { return w.runBuild(ctx, app.Dir, b, emit) })
	}
	return group.Wait()
}

func (w World) runBuild(ctx context.Context, dir string, b build, emit func(cluster.Event)) error {
	who := strings.Join(b.components, ",")
	started := w.Now()
	emit(cluster.Event{Type: cluster.EventBuildStarted, Component: who, Message: b.line})

	// The user wrote this line, and it runs on the user's own machine.
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", b.line)
	cmd.Dir = dir
	cmd.Env = append(slices.Clone(w.Env), "LEVIN_TARGET_OS="+b.os, "LEVIN_TARGET_ARCH="+b.arch)
	// Its own group, so that everything it started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	out := &tail{max: 16 << 10}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()

	finished := cluster.Event{Type: cluster.EventBuildFinished, Component: who, Seconds: w.Now().Sub(started).Seconds()}
	if err != nil {
		finished.Error = out.String() + err.Error()
	}
	emit(finished)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("build of %s: %w", who, context.Cause(ctx))
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return &cluster.Failure{Kind: cluster.WorkFailed, What: "could not start the build of " + who, Err: err}
	}
	return &cluster.Failure{
		Kind: cluster.WorkFailed, What: fmt.Sprintf("the build of %s failed (%s)", who, exit),
		Words: "\n" + strings.TrimRight(out.String(), "\n"),
		Next:  fmt.Sprintf("nothing was created; the command was run in %s:\n    %s", dir, b.line),
		Err:   err,
	}
}

// tail keeps the last max bytes written to it.
type tail struct {
	max int
	buf bytes.Buffer
	cut bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf.Write(p)
	if over := t.buf.Len() - t.max; over > 0 {
		t.buf.Next(over)
		t.cut = true
	}
	return len(p), nil
}

func (t *tail) String() string {
	if t.cut {
		return "…" + t.buf.String()
	}
	return t.buf.String()
}
