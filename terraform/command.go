package terraform

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/terraform-exec/tfexec"
)

// command is one Terraform command.
type command struct {
	name      string // as in ApplyError.Command
	dir       string // absolute
	providers Providers
	env       map[string]string // beyond that of all commands
	urgent    bool              // goes before those that are not
	out       *stream
	firstWord string // what Terraform's first words hold; "" is any
	run       func(context.Context, *tfexec.Terraform) error
}

// silence is how long an interrupt waits for a Terraform that says nothing at
// all. Its first words come within a tenth of a second.
const silence = 5 * time.Second

// run runs a command when a process is free, and puts its failure into words.
//
// Each gets an instance of terraform-exec of its own, because an instance keeps
// where its output goes. On Linux terraform-exec starts Terraform in a process
// group of its own, so that a Ctrl-C in the terminal does not reach it: the
// interrupt comes from here alone. (A second one would make Terraform give up
// without writing its state.)
func (x *Exec) run(ctx context.Context, c command) error {
	failed := func(err error, words string) error {
		return (&ApplyError{Command: c.name, Diagnostics: c.out.diagnostics, Output: words, Err: err}).Failure(ctx, c.dir)
	}
	if err := x.processes.take(ctx, c.urgent); err != nil {
		return failed(err, "")
	}
	defer x.processes.give()
	tf, err := tfexec.NewTerraform(c.dir, x.cfg.Binary.Path)
	if err != nil {
		return failed(err, "")
	}
	mark := rand.Text()
	if err := tf.SetEnv(childEnv(x.cfg.Env, x.cfg.TempDir, c.providers.Env, c.env, map[string]string{markVar: mark})); err != nil {
		return failed(err, "")
	}
	if err := tf.SetWaitDelay(x.cfg.StopGrace); err != nil {
		return failed(err, "")
	}
	var stderr tail
	out := &listener{Writer: c.out, word: []byte(c.firstWord), spoken: make(chan struct{})}
	tf.SetStdout(out)
	tf.SetStderr(&stderr)

	mark = markVar + "=" + mark
	inner, done := afterFirstWord(ctx, out.spoken, x.cfg.StopGrace, func() { killStrays(mark) })
	started := time.Now()
	err = c.run(inner, tf)
	done()
	x.cfg.Logger.Debug("terraform", "did", c.name, "in", c.dir, "took", time.Since(started), "failed", err != nil)
	if wasKilled(err) {
		killStrays(mark)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Unwrap(err) == nil:
		// terraform-exec wraps how the process ended, and prints that without looking
		// whether there is anything.
		err = ctx.Err()
	}
	return failed(err, withoutConfigWarning(stderr.String()))
}

// markVar marks what one Terraform and those it starts run with.
const markVar = "LEVIN_TERRAFORM"

// wasKilled reports whether Terraform ended by SIGKILL: the second stage of a
// stop.
func wasKilled(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// afterFirstWord gives a context that ends when ctx does, but not before
// Terraform has said something. terraform-exec does not wait for a process whose
// context ends while it is being started, and that process would go on alone,
// with the state locked; also, a Terraform that has not spoken yet does not
// handle the signal yet.
//
// When terraform-exec has not returned a moment after it should have killed
// Terraform, then because some child of Terraform holds on to its output: kill is
// called until it returns. The function that is given back ends the context and
// all that belongs to it.
func afterFirstWord(ctx context.Context, spoken <-chan struct{}, grace time.Duration, kill func()) (context.Context, func()) {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	over := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-ctx.Done():
		case <-over:
			return
		}
		select {
		case <-spoken:
		case <-over:
		case <-time.After(silence):
		}
		cancel()
		for wait := grace + time.Second; ; wait = time.Second {
			select {
			case <-over:
				return
			case <-time.After(wait):
				kill()
			}
		}
	})
	return inner, func() {
		close(over)
		watch.Wait()
		cancel()
	}
}

// listener passes on what Terraform says, and closes spoken at the first word.
// (Before `terraform init` terraform-exec asks for the version, which says
// something too.)
type listener struct {
	io.Writer
	word   []byte
	heard  bool
	spoken chan struct{}
}

func (l *listener) Write(p []byte) (int, error) {
	if !l.heard && bytes.Contains(p, l.word) {
		l.heard = true
		close(l.spoken)
	}
	return l.Writer.Write(p)
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

// maxTail is more than Terraform ever says of one failure.
const maxTail = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if cut := len(t.kept) - maxTail; cut > 0 {
		t.kept = append(t.kept[:0], t.kept[cut:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(bytes.TrimSpace(t.kept)) }

// withoutConfigWarning drops the warning about a CLI configuration file that
// TF_CLI_CONFIG_FILE names and that does not exist, which is no error, and the
// lines that Terraform draws around its text.
func withoutConfigWarning(stderr string) string {
	const begin, end = "There are some problems with the CLI configuration:", "╵"
	if before, rest, ok := strings.Cut(stderr, begin); ok {
		if warning, after, ok := strings.Cut(rest, end); ok && strings.Contains(warning, "does not exist") {
			stderr = before + after
		}
	}
	var lines []string
	for line := range strings.Lines(stderr) {
		if line = strings.TrimSpace(strings.TrimLeft(line, "╷│╵ ")); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
