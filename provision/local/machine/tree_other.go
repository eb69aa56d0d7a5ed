//go:build !linux

package machine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// adoptOrphans does nothing: only Linux lets a process adopt orphans. Here a
// process that leaves its session's group outlives the machine.
func adoptOrphans() error { return nil }

// signalAll sends sig to every process group that the machine started.
func (p *processes) signalAll(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pid := range p.own {
		syscall.Kill(-pid, sig)
	}
}

// descendants is only known on Linux.
func descendants(int) []int { return nil }

// marked is only known on Linux.
func marked(func(dir string) bool) map[string][]int { return nil }

// killMarked has nothing to go by here.
func killMarked(context.Context, string) error { return nil }

// awaitStarter does not wait: nobody is told here when a process that is not its
// child ends.
func awaitStarter(context.Context, int) {}

// awaitEnd waits until the machine that holds lock has exited or ctx ends.
func awaitEnd(ctx context.Context, lock *os.File, _ int) error {
	f, err := os.Open(lock.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := waitLock(ctx, f, syscall.LOCK_SH); err != nil {
		return err
	}
	return f.Close()
}

// reapOne waits for a child's exit. ctx is not looked at: without pidfds there is
// no wait for one child that can be given up.
func reapOne(_ context.Context, child *os.Process) { child.Wait() }

func widen(*os.File) {}
