package sqlite_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/sqlite"
	"github.com/levinrun/levin/cluster/storetest"
)

// disk mounts a file system of one megabyte, or skips where that needs rights
// that the test has not got.
func disk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	path := filepath.Join(disk(t), "state.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Commit(t.Context(), cluster.Change{Run: storetest.NewRun("r")}); err != nil {
		t.Fatal(err)
	}
	written := 0
	for n := range 1000 {
		call := storetest.NewCall("r", fmt.Sprint("c", n))
		call.Error = strings.Repeat("x", 10_000)
		if err = s.Commit(t.Context(), cluster.Change{Calls: []cluster.Call{call}}); err != nil {
			break
		}
		written++
	}
	wantFailure(t, err, path, "the disk is full")

	// What was committed is there, and nothing of what was not.
	calls, err := s.Calls(t.Context(), "r")
	if err != nil || len(calls) != written {
		t.Errorf("%d calls, %v, want %d", len(calls), err, written)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	s, err = sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	calls, err = s.Calls(t.Context(), "r")
	if err != nil || len(calls) != written {
		t.Errorf("reopened: %d calls, %v, want %d", len(calls), err, written)
	}
	s.Close()
}

func TestFullDiskAtOpen(t *testing.T) {
	dir := disk(t)
	err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 2<<20), 0o600)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	path := filepath.Join(dir, "state.db")
	_, err = sqlite.Open(t.Context(), path)
	wantFailure(t, err, path, "the disk is full")
}

func TestReadOnlyDisk(t *testing.T) {
	for _, exists := range []bool{false, true} {
		t.Run(fmt.Sprint("file exists ", exists), func(t *testing.T) {
			dir := disk(t)
			path := filepath.Join(dir, "state.db")
			if exists {
				openAt(t, path).Close()
			}
			if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			_, err := sqlite.Open(t.Context(), path)
			wantFailure(t, err, path, "cannot write the state")
		})
	}
}
