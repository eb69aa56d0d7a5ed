package machine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// removeDir removes a machine's folder, the lock last: as long as anything of the
// folder is left, its lock file is there to be held. A folder into which a new
// machine has moved in the meantime is left to it.
func removeDir(dir string) error {
	err := clearDir(dir)
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, lockName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = os.Remove(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return nil
	}
	return err
}

// clearDir removes everything in a machine's folder but the lock.
func clearDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == lockName {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if err := os.RemoveAll(path); err != nil {
			makeWritable(path)
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeWritable gives back the right to remove what is in the folders below path.
// Programs leave folders that even their owner cannot write (Go's module cache).
// Links are not followed. Errors show up in the removal that follows.
func makeWritable(path string) {
	filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(p, 0o700) // before WalkDir reads it
		}
		return nil
	})
}
