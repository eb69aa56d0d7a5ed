package machine

import (
	"context"
	"testing"
	"time"
)

// gone waits until the process, which is nobody's child here, has exited.
func gone(t *testing.T, pid int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := waitExit(ctx, pid); err != nil {
		t.Errorf("process %d is still there: %v", pid, err)
	}
}

func waitForExit(ctx context.Context, pid int) error { return waitExit(ctx, pid) }
