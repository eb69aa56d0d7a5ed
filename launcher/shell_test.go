package launcher_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher"
	"github.com/levinrun/levin/launcher/sshtest"
)

func TestShellRunsOneCommand(t *testing.T) {
	srv := sshtest.New(t)
	for _, c := range []struct {
		command []string
		in      string
		out     string
		exit    int
	}{
		{[]string{"true"}, "", "", 0},
		{[]string{"exit 7"}, "", "", 7},
		{[]string{"cat"}, "some input", "some input", 0},
		{[]string{"echo $((1+2)) | tr 3 4"}, "", "4\n", 0},
		{[]string{"printf", `%s|`, "a b", "it's", `$HOME "x" \`, "", "*", "a;b"}, "", `a b|it's|$HOME "x" \||*|a;b|`, 0},
		{[]string{"kill -KILL $$"}, "", "", 128 + 9},
	} {
		t.Run(strings.Join(c.command, " "), func(t *testing.T) {
			var out, errs bytes.Buffer
			exit, err := launcher.Shell(t.Context(), launcher.Config{}, srv.Target(), c.command,
				launcher.Stdio{In: strings.NewReader(c.in), Out: &out, Err: &errs})
			if err != nil || exit != c.exit || out.String() != c.out {
				t.Errorf("exit %d, out %q, err %q, error %v", exit, out.String(), errs.String(), err)
			}
		})
	}
}

func TestShellOnATerminal(t *testing.T) {
	srv := sshtest.New(t)
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	defer ours.Close()
	defer theirs.Close()
	if err := pty.Setsize(ours, &pty.Winsize{Rows: 33, Cols: 101}); err != nil {
		t.Fatal(err)
	}
	var screen bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(&screen, ours) })
	if _, err := io.WriteString(ours, "stty size; exit 5\n"); err != nil {
		t.Fatal(err)
	}
	exit, err := launcher.Shell(t.Context(), launcher.Config{}, srv.Target(), nil, launcher.Stdio{In: theirs, Out: theirs, Err: theirs})
	// The reader of In is still in its read; only this end can wake it.
	io.WriteString(ours, "\n")
	theirs.Close()
	ours.Close()
	wg.Wait()
	if err != nil || exit != 5 || !strings.Contains(screen.String(), "33 101") {
		t.Errorf("exit %d, error %v, screen %q", exit, err, screen.String())
	}
}

func TestShellEndsWithContext(t *testing.T) {
	t.Parallel()
	srv := sshtest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		r.Read(make([]byte, 1)) // the command runs
		cancel()
		r.Close()
	}()
	_, err := launcher.Shell(ctx, launcher.Config{}, srv.Target(), []string{"echo x; exec sleep 1"}, launcher.Stdio{Out: w})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestShellChecksTheHostKey(t *testing.T) {
	target := sshtest.New(t).Target()
	target.HostKeys = sshtest.New(t).Target().HostKeys
	if _, err := launcher.Shell(t.Context(), launcher.Config{}, target, []string{"true"}, launcher.Stdio{Out: os.Stdout}); cluster.KindOf(err) != cluster.Untrusted {
		t.Errorf("got %v", err)
	}
}
