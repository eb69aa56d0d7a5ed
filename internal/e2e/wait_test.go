package e2e

import (
	"testing"
	"time"
)

// waitUntil looks again and again for something outside this process that sends
// no event (a process that ends by itself), until patience ends.
func waitUntil(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it did not", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
