package machine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Alive reports whether a machine lives in dir. It looks at the lock, not at a
// process id, which could be anybody's by now.
func Alive(dir string) bool {
	f, err := os.Open(filepath.Join(dir, lockName))
	if err != nil {
		return false
	}
	defer f.Close()
	return !tryLock(f, syscall.LOCK_SH)
}

// tryLock takes f's lock if nobody holds it.
func tryLock(f *os.File, how int) bool {
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err != syscall.EINTR {
			return err == nil
		}
	}
}

// waitLock takes f's lock, waiting for it until ctx ends, and closes f when it
// fails. flock cannot be interrupted: when ctx ends first, f is closed as soon as
// the lock comes, which is when its holder, a process that is starting or ending
// a machine, is done.
func waitLock(ctx context.Context, f *os.File, how int) error {
	if tryLock(f, how) {
		return nil
	}
	got := make(chan error)
	abandoned := make(chan struct{})
	go func() {
		err := syscall.EINTR
		for err == syscall.EINTR {
			e := syscall.Flock(int(f.Fd()), how)
			err, _ = e.(syscall.Errno)
		}
		var answer error
		if err != 0 {
			answer = os.NewSyscallError("flock", err)
		}
		select {
		case got <- answer:
		case <-abandoned:
			f.Close()
		}
	}()
	select {
	case err := <-got:
		if err != nil {
			f.Close()
		}
		return err
	case <-ctx.Done():
		close(abandoned)
		return ctx.Err()
	}
}

// errMoved says that a folder was replaced while its lock was awaited.
var errMoved = errors.New("the machine's folder was replaced")

// lockDir locks the folder dir against other starters and stoppers until the file
// it gives, which is the open folder, is closed. The error wraps fs.ErrNotExist
// when there is no such folder. The machine in it may still remove the folder, and
// its name may then be taken by another one.
func lockDir(ctx context.Context, dir string) (*os.File, error) {
	for {
		f, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		if err := waitLock(ctx, f, syscall.LOCK_EX); err != nil {
			return nil, err
		}
		err = sameFile(f, dir)
		if err == nil {
			return f, nil
		}
		f.Close()
		if !errors.Is(err, errMoved) {
			return nil, err
		}
	}
}

// sameFile checks that path still names the open file f.
func sameFile(f *os.File, path string) error {
	a, err := f.Stat()
	if err != nil {
		return err
	}
	b, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(a, b) {
		return errMoved
	}
	return nil
}

// holder gives the process id written in dir's lock file, if a machine holds it.
func holder(dir string) (pid int, ok bool) {
	if !Alive(dir) {
		return 0, false
	}
	b, err := os.ReadFile(filepath.Join(dir, lockName))
	if err != nil {
		return 0, false
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
	return pid, err == nil && pid > 1
}
