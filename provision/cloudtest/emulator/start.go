package emulator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// Start gives a test an emulated cloud that ends with it, and fails the test when
// that leaves something behind. edit, unless nil, changes the configuration: Dir is
// a temporary folder, and Agent, when it stays empty, is built.
//
// The test is skipped where instances cannot have port 22 of addresses of their
// own.
func Start(t testing.TB, edit func(*Config)) *Emulator {
	t.Helper()
	cfg := Config{Dir: t.TempDir()}
	if edit != nil {
		edit(&cfg)
	}
	if err := canListen(cfg.SSHPort); err != nil {
		t.Skipf("instances need port 22 of loopback addresses (run as root, or sysctl net.ipv4.ip_unprivileged_port_start=22): %v", err)
	}
	if cfg.Agent == "" {
		agent, err := builtAgent()
		if err != nil {
			t.Fatal(err)
		}
		cfg.Agent = agent
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// canListen tries a port on an address that is like those of instances.
func canListen(port int) error {
	if port == 0 {
		port = 22
	}
	l, err := net.Listen("tcp", net.JoinHostPort(newLife(birth{}).address, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return l.Close()
}

// builtAgent builds the agent, once for a process. It stays where it is for the
// next one, which then has little to build.
var builtAgent = sync.OnceValues(func() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..", "..")
	if !ok || !filepath.IsAbs(file) {
		return "", errors.New("the agent's source is not known: set Config.Agent")
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("levin-emulator-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	lock := flock.New(filepath.Join(dir, "lock"))
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return "", fmt.Errorf("waiting for another build of the agent: %w", err)
	}
	defer lock.Unlock()
	agent := filepath.Join(dir, "levin-agent")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", agent, "./cmd/levin-agent")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the agent: %w\n%s", err, out)
	}
	return agent, nil
})
