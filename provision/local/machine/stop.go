package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// stopGrace is what a machine needs at the most to end in order: its own grace
	// between TERM and KILL, and then some.
	stopGrace = endGrace + 3*time.Second
	// sweepLimit bounds the clean-up after a machine that did not end in order. It
	// does not depend on the caller's context: leaving things half killed helps
	// nobody.
	sweepLimit = 10 * time.Second
)

// Stop ends the machine in dir with everything that runs on it and removes its
// folder. It returns once all is gone; a machine that is gone already, or never
// was, is no error. The machine gets time to end its processes; when it takes too
// long, when ctx ends, or when it was killed before, its processes are killed from
// here.
func Stop(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	folder, err := lockDir(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("machine in %s is being started or stopped by somebody else: %w", dir, err)
	}
	defer folder.Close()
	process, lock, alive := find(dir)
	if alive {
		defer process.Release()
		defer lock.Close()
	}
	// A machine that has removed its folder itself has left nothing, and the name may
	// be another's by now.
	if sameFile(folder, dir) != nil {
		return nil
	}
	clean := context.WithoutCancel(ctx)
	if alive && !orderly(ctx, process, lock) {
		if err := kill(clean, process, lock); err != nil {
			return fmt.Errorf("machine in %s cannot be killed: %w", dir, err)
		}
	}
	if sameFile(folder, dir) != nil {
		return nil
	}
	clean, cancel := context.WithTimeout(clean, sweepLimit)
	defer cancel()
	if err := killMarked(clean, dir); err != nil {
		return fmt.Errorf("processes of the machine in %s cannot be killed: %w", dir, err)
	}
	return removeDir(dir)
}

// orderly asks a machine to end and reports whether it did so in time.
func orderly(ctx context.Context, process *os.Process, lock *os.File) bool {
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	err := process.Signal(syscall.SIGTERM)
	if err == nil {
		err = awaitEnd(ctx, lock, process.Pid)
	}
	return err == nil || errors.Is(err, os.ErrProcessDone)
}

// kill ends a machine that did not end when it was asked to, and what is below it.
func kill(ctx context.Context, process *os.Process, lock *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, sweepLimit)
	defer cancel()
	below := descendants(process.Pid)
	err := process.Kill()
	for _, pid := range below {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	return awaitEnd(ctx, lock, process.Pid)
}

// find gives a handle on the process of the machine that lives in dir. Its number
// is trusted only if the lock was held both before and after the handle was made.
func find(dir string) (process *os.Process, lock *os.File, ok bool) {
	pid, ok := holder(dir)
	if !ok {
		return nil, nil, false
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil, nil, false
	}
	lock, err = os.Open(filepath.Join(dir, lockName))
	if err != nil {
		process.Release()
		return nil, nil, false
	}
	if again, ok := holder(dir); !ok || again != pid {
		process.Release()
		lock.Close()
		return nil, nil, false
	}
	return process, lock, true
}

// Strays lists, in order, the folders below the folder machines in which a machine
// lives, or lived and left something behind: files, or processes that carry its
// mark. Stop takes care of each that exists, Sweep of all.
func Strays(machines string) ([]string, error) {
	machines, err := filepath.Abs(machines)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(machines)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join(machines, e.Name()))
		}
	}
	below := machines + string(filepath.Separator)
	for dir := range marked(func(dir string) bool { return strings.HasPrefix(dir, below) }) {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	return slices.Compact(dirs), nil
}

// Sweep is Stop for a folder that Strays has named: it also ends processes of
// which nothing but their mark is left.
func Sweep(ctx context.Context, dir string) error {
	if err := Stop(ctx, dir); err != nil {
		return err
	}
	return killMarked(ctx, dir)
}

// Wait returns once no machine lives in dir, or ctx ends.
func Wait(ctx context.Context, dir string) error {
	process, lock, alive := find(dir)
	if !alive {
		return nil
	}
	defer process.Release()
	defer lock.Close()
	return awaitEnd(ctx, lock, process.Pid)
}
