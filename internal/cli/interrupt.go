package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/levinrun/levin/cluster"
)

// Interrupts turns the first Ctrl-C (or TERM, or a closed terminal) into a
// cancelled context, and the second into an immediate exit that says what is
// left and how to remove it.
type Interrupts struct {
	out  io.Writer
	mu   sync.Mutex
	left func() string // what to say at the second one
}

// NewInterrupts makes one that writes its words to out.
func NewInterrupts(out io.Writer) *Interrupts { return &Interrupts{out: out} }

// interruptedBy is the cause of the context that a signal cancelled.
type interruptedBy struct{ signal os.Signal }

func (e interruptedBy) Error() string { return "interrupted by " + e.signal.String() }

// Watch gives a context that the first signal cancels. stop ends the watching.
func (i *Interrupts) Watch(ctx context.Context) (_ context.Context, stop func()) {
	if i == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case s := <-signals:
			cancel(interruptedBy{s})
		case <-done:
			return
		}
		select {
		case <-signals:
			i.exitNow()
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		<-ended
		cancel(nil)
	}
}

// SetLeft tells what the second interrupt should say; nil takes it back.
func (i *Interrupts) SetLeft(left func() string) {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.left = left
}

func (i *Interrupts) exitNow() {
	i.mu.Lock()
	left := i.left
	i.mu.Unlock()
	fmt.Fprintln(i.out, "\ninterrupted again: leaving at once, without cleaning up")
	if left != nil {
		fmt.Fprintln(i.out, left())
	}
	os.Exit(ExitInterrupted)
}

// wasInterrupted reports whether ctx ended by a signal.
func wasInterrupted(ctx context.Context) bool {
	_, ok := context.Cause(ctx).(interruptedBy)
	return ok || cluster.KindOf(context.Cause(ctx)) == cluster.Interrupted
}
