package local

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A controller that was killed leaves its socket; whoever cleans up takes it away,
// even when there is nothing for the provider to do.
func TestCloseRemovesDeadSockets(t *testing.T) {
	home := t.TempDir()
	dir := filepath.Join(home, socketsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d-1.sock", dead.Process.Pid)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := New(Config{Name: "local", Home: home}).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder of sockets is left: %v", err)
	}
}
