//go:build !linux

package machine

import (
	"context"
	"syscall"
	"testing"
	"time"
)

// gone waits until the process, which is nobody's child here, has exited. Only
// Linux tells of such exits, so it has to look.
func gone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for syscall.Kill(pid, 0) == nil {
		if time.Now().After(deadline) {
			t.Errorf("process %d is still there", pid)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func waitForExit(context.Context, int) error { return nil } // its tests are for Linux
