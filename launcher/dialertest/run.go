// Package dialertest holds what every launcher.Dialer must do, and wraps dialers
// so that their connections go wrong on purpose.
package dialertest

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher"
)

// patience bounds what should happen at once.
const patience = 10 * time.Second

// Run tests a dialer. through gives the dialer, and the target with which it
// reaches the TCP server at addr.
func Run(t *testing.T, through func(t *testing.T, addr *net.TCPAddr) (launcher.Dialer, cluster.Target)) {
	setup := func(t *testing.T) (*echo, launcher.Dialer, cluster.Target) {
		e := newEcho(t)
		d, target := through(t, e.addr)
		ignore := goleak.IgnoreCurrent()
		t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
		return e, d, target
	}

	t.Run("carries bytes both ways", func(t *testing.T) {
		_, d, target := setup(t)
		roundTrip(t, d, target, bytes.Repeat([]byte("levin "), 100_000))
	})

	t.Run("close ends everything", func(t *testing.T) {
		e, d, target := setup(t)
		conn := dial(t, d, target)
		say(t, conn, "x")
		if err := conn.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		e.waitIdle(t)
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a read after Close succeeded")
		}
		_ = conn.Close() // once more must do no harm
	})

	t.Run("close wakes a reader", func(t *testing.T) {
		_, d, target := setup(t)
		conn := dial(t, d, target)
		say(t, conn, "x")
		woken := make(chan struct{})
		go func() {
			conn.Read(make([]byte, 1))
			close(woken)
		}()
		conn.Close()
		within(t, woken, "the reader to wake")
	})

	t.Run("ctx that has ended", func(t *testing.T) {
		e, d, target := setup(t)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if conn, err := d.Dial(ctx, target); err == nil {
			conn.Close()
			t.Fatal("Dial succeeded with a ctx that had ended")
		}
		e.waitIdle(t)
	})

	t.Run("ctx bounds the dialing only", func(t *testing.T) {
		_, d, target := setup(t)
		ctx, cancel := context.WithCancel(context.Background())
		conn, err := d.Dial(ctx, target)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		cancel()
		say(t, conn, "still here")
	})

	t.Run("nobody listens", func(t *testing.T) {
		e, d, target := setup(t)
		e.listener.Close()
		// A proxy command only learns of it after it has been started.
		conn, err := d.Dial(context.Background(), target)
		if err != nil {
			return
		}
		defer conn.Close()
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("read %d bytes from nobody", n)
		}
	})

	t.Run("many at once", func(t *testing.T) {
		e, d, target := setup(t)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { roundTrip(t, d, target, []byte("one of many")) })
		}
		wg.Wait()
		e.waitIdle(t)
	})
}

func dial(t *testing.T, d launcher.Dialer, target cluster.Target) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := d.Dial(ctx, target)
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatalf("write: %v", err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		t.Fatalf("read %q, %v; want %q", got, err, text)
	}
}

func roundTrip(t *testing.T, d launcher.Dialer, target cluster.Target, data []byte) {
	conn, err := d.Dial(context.Background(), target)
	if err != nil {
		t.Errorf("Dial: %v", err)
		return
	}
	defer conn.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := conn.Write(data); err != nil {
			t.Errorf("write: %v", err)
		}
	})
	got := make([]byte, len(data))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("what came back differs (%v)", err)
	}
	wg.Wait()
}

func within(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		t.Fatalf("waited %s for %s", patience, what)
	}
}

// echo is a TCP server that sends back what it gets.
type echo struct {
	addr     *net.TCPAddr
	listener net.Listener
	mu       sync.Mutex
	open     int
	idle     chan struct{} // closed while nothing is open
}

func newEcho(t *testing.T) *echo {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{addr: l.Addr().(*net.TCPAddr), listener: l, idle: make(chan struct{})}
	close(e.idle)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.count(1)
			wg.Go(func() {
				io.Copy(c, c)
				c.Close()
				e.count(-1)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return e
}

func (e *echo) count(by int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open == 0 {
		e.idle = make(chan struct{})
	}
	if e.open += by; e.open == 0 {
		close(e.idle)
	}
}

// waitIdle waits until no connection is open.
func (e *echo) waitIdle(t *testing.T) {
	t.Helper()
	e.mu.Lock()
	idle := e.idle
	e.mu.Unlock()
	within(t, idle, "the connection to end at the far end")
}
