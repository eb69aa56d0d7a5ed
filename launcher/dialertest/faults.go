package dialertest

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher"
)

// Faults are what goes wrong with one connection. The zero value is none. Bytes
// are counted over both directions.
type Faults struct {
	Cut     int64         // the connection ends after this many bytes
	Stall   int64         // after this many bytes nothing more comes or goes, and nothing fails
	Corrupt int64         // this byte that is read, counted from 1, has a bit turned over
	Delay   time.Duration // each read takes this much longer
}

// ErrCut is the error of a connection that was cut.
var ErrCut = errors.New("dialertest: connection cut")

// Faulty is a Dialer whose connections go wrong: the n-th one, counted from 0,
// as plan says.
type Faulty struct {
	Dialer launcher.Dialer
	Plan   func(n int) Faults

	dials atomic.Int64
}

// Dials is how many connections were asked for.
func (f *Faulty) Dials() int { return int(f.dials.Load()) }

// Dial dials and wraps.
func (f *Faulty) Dial(ctx context.Context, t cluster.Target) (net.Conn, error) {
	n := int(f.dials.Add(1)) - 1
	conn, err := f.Dialer.Dial(ctx, t)
	if err != nil {
		return nil, err
	}
	return &faultyConn{Conn: conn, faults: f.Plan(n), closed: make(chan struct{})}, nil
}

type faultyConn struct {
	net.Conn
	faults Faults
	moved  atomic.Int64 // bytes, both ways
	read   atomic.Int64 // bytes read; used by one reader

	once   sync.Once
	closed chan struct{}
}

// allow gives how many of want bytes may still go, or the error that it is time
// for. A stalled connection blocks until it is closed.
func (c *faultyConn) allow(want int) (int, error) {
	moved := c.moved.Load()
	if limit := c.faults.Stall; limit > 0 {
		if moved >= limit {
			<-c.closed
			return 0, net.ErrClosed
		}
		want = min(want, int(limit-moved))
	}
	if limit := c.faults.Cut; limit > 0 {
		if moved >= limit {
			c.Conn.Close()
			return 0, ErrCut
		}
		want = min(want, int(limit-moved))
	}
	return want, nil
}

func (c *faultyConn) Read(p []byte) (int, error) {
	n, err := c.allow(len(p))
	if err != nil {
		return 0, err
	}
	if d := c.faults.Delay; d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	n, err = c.Conn.Read(p[:n])
	c.moved.Add(int64(n))
	before := c.read.Add(int64(n)) - int64(n)
	if at := c.faults.Corrupt - 1 - before; c.faults.Corrupt > 0 && at >= 0 && at < int64(n) {
		p[at] ^= 1
	}
	return n, err
}

func (c *faultyConn) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, err := c.allow(len(p) - written)
		if err != nil {
			return written, err
		}
		n, err = c.Conn.Write(p[written : written+n])
		c.moved.Add(int64(n))
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (c *faultyConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
