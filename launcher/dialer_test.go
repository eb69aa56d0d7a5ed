package launcher_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher"
	"github.com/levinrun/levin/launcher/dialertest"
	"github.com/levinrun/levin/launcher/sshtest"
)

// asHelper makes the test binary a proxy command: it joins its stdio to a TCP
// address.
const asHelper = "LEVIN_TEST_CONNECT"

func TestMain(m *testing.M) {
	if addr := os.Getenv(asHelper); addr != "" {
		connectStdio(addr)
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(agentDir())
		os.Exit(code)
	}))
}

func proxyCommand(t *testing.T, addr string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s=%s exec '%s'", asHelper, addr, self)
}

func TestDialers(t *testing.T) {
	t.Run("tcp", func(t *testing.T) {
		dialertest.Run(t, func(_ *testing.T, addr *net.TCPAddr) (launcher.Dialer, cluster.Target) {
			return launcher.NetDialer{}, cluster.Target{Address: addr.IP.String(), Port: addr.Port}
		})
	})
	t.Run("proxy command", func(t *testing.T) {
		dialertest.Run(t, func(t *testing.T, addr *net.TCPAddr) (launcher.Dialer, cluster.Target) {
			return launcher.NetDialer{}, cluster.Target{ProxyCommand: proxyCommand(t, addr.String())}
		})
	})
	t.Run("proxy jump", func(t *testing.T) {
		dialertest.Run(t, func(t *testing.T, addr *net.TCPAddr) (launcher.Dialer, cluster.Target) {
			return launcher.NetDialer{}, cluster.Target{
				Address: addr.IP.String(), Port: addr.Port,
				Jumps: []cluster.Target{sshtest.New(t).Target(), sshtest.New(t).Target()},
			}
		})
	})
	t.Run("faulty", func(t *testing.T) {
		dialertest.Run(t, func(_ *testing.T, addr *net.TCPAddr) (launcher.Dialer, cluster.Target) {
			none := func(int) dialertest.Faults { return dialertest.Faults{Delay: time.Millisecond} }
			return &dialertest.Faulty{Dialer: launcher.NetDialer{}, Plan: none}, cluster.Target{Address: addr.IP.String(), Port: addr.Port}
		})
	})
}

func TestProxyJumpChecksItsHostKey(t *testing.T) {
	jump, other := sshtest.New(t), sshtest.New(t)
	target := other.Target()
	wrong := jump.Target()
	wrong.HostKeys = other.Target().HostKeys
	target.Jumps = []cluster.Target{wrong}
	_, err := launcher.NetDialer{}.Dial(t.Context(), target)
	if cluster.KindOf(err) != cluster.Untrusted {
		t.Errorf("a jump with the wrong host key gave %v", err)
	}
}

func TestProxyCommandSaysWhyItEnded(t *testing.T) {
	conn, err := launcher.NetDialer{}.Dial(t.Context(), cluster.Target{ProxyCommand: "echo no route to planet >&2; exit 7"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "no route to planet") {
		t.Errorf("got %v", err)
	}
}

func TestProxyCommandIsKilledWithItsChildren(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	conn, err := launcher.NetDialer{}.Dial(t.Context(), cluster.Target{
		ProxyCommand: fmt.Sprintf("trap '' TERM HUP; sleep 1000 & echo $! > '%s'; echo ready; wait", pidFile)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	data, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	fmt.Sscan(string(data), &pid)
	// The child is reaped by whoever inherited it, in its own time.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for running(pid) {
		if ctx.Err() != nil {
			t.Fatal("the command's child outlived the connection")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// running reports whether a process runs; one that nobody has waited for yet does
// not.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	out, err := exec.Command("ps", "-o", "stat=", "-p", fmt.Sprint(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
}

func TestDialEndsWithContext(t *testing.T) {
	// A server that accepts and says nothing: the jump's handshake never ends.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().(*net.TCPAddr)
	jump := sshtest.New(t).Target()
	jump.Address, jump.Port = addr.IP.String(), addr.Port
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = launcher.NetDialer{}.Dial(ctx, cluster.Target{Address: "127.0.0.1", Port: 1, Jumps: []cluster.Target{jump}})
	if err == nil || ctx.Err() == nil {
		t.Errorf("Dial ended with %v before its ctx", err)
	}
}
