package launcher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher/agent"
)

// maxChannels is how many requests travel side by side. OpenSSH allows 10
// sessions a connection (MaxSessions), and a few are needed for other commands.
const maxChannels = 6

// idleChannel is how long a channel without a request is kept: each is a process
// on the machine.
const idleChannel = 20 * time.Second

// keepAlive is how often a connection that says nothing is asked whether it
// lives; after three times that long without a byte it is given up.
const keepAlive = 15 * time.Second

// link is one SSH connection and the agent behind it. It is used by many
// goroutines and thrown away when it breaks.
type link struct {
	client  *ssh.Client
	conn    *wireConn
	script  scripts
	connect atomic.Pointer[string] // the command that joins a channel to the agent; nil before it was started
	http    *http.Client
	info    agent.Info // what the agent said when it was last started

	dead chan struct{} // closed when the SSH connection has ended

	mu     sync.Mutex
	closed bool // nothing may be spawned any more
	wg     sync.WaitGroup
}

// errDead says that a connection has ended under its user.
var errDead = errors.New("the SSH connection has ended")

// openLink dials, shakes hands and watches over the connection. The agent is not
// started yet.
func openLink(ctx context.Context, cfg Config, machine string, t cluster.Target) (*link, error) {
	script, err := newScripts(machine, t, cfg.Lease)
	if err != nil {
		return nil, err
	}
	raw, err := cfg.Dialer.Dial(ctx, t)
	if err != nil {
		return nil, err
	}
	conn := &wireConn{Conn: raw}
	client, err := handshake(ctx, conn, t, cfg.AuthSock, min(handshakeTimeout, 3*cfg.KeepAlive))
	if err != nil {
		return nil, err
	}
	l := &link{client: client, conn: conn, script: script, dead: make(chan struct{})}
	l.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := l.exec(ctx, *l.connect.Load())
			if err != nil {
				return nil, err
			}
			return &agentConn{execConn: c}, nil
		},
		MaxConnsPerHost:     maxChannels,
		MaxIdleConnsPerHost: maxChannels,
		DisableCompression:  true,
		IdleConnTimeout:     idleChannel,
	}}
	l.spawn(func() {
		client.Wait()
		close(l.dead)
	})
	l.spawn(func() { l.watch(cfg.KeepAlive) })
	return l, nil
}

// spawn runs f in a goroutine that close waits for. It reports false, without
// running f, once the link is being closed.
func (l *link) spawn(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.wg.Go(f)
	return true
}

// close ends the connection and waits for all that belonged to it.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	// The bytes first: closing a channel politely waits for a peer that may be silent.
	l.conn.Close()
	l.client.Close()
	l.http.CloseIdleConnections()
	l.wg.Wait()
}

// alive reports whether the SSH connection has not ended, as far as is known.
func (l *link) alive() bool {
	select {
	case <-l.dead:
		return false
	default:
		return true
	}
}

// watch closes a connection from which nothing is heard any more. Any byte
// counts: an answer may have to queue behind much data on a slow line.
func (l *link) watch(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	asked := make(chan struct{}, 1) // holds a token while a question is on its way
	for {
		select {
		case <-l.dead:
			return
		case <-tick.C:
		}
		switch silent := time.Since(l.conn.heard()); {
		case silent > 3*every:
			l.conn.Close()
		case silent >= every:
			select {
			case asked <- struct{}{}:
				l.spawn(func() {
					_, _, _ = l.client.SendRequest("keepalive@openssh.com", true, nil)
					<-asked
				})
			default:
			}
		}
	}
}

// agentConn is a channel to the agent. It skips what the login shell's start-up
// files may print before the agent speaks, and says why there is no answer.
type agentConn struct {
	*execConn
	started bool
}

func (c *agentConn) Read(p []byte) (int, error) {
	if !c.started {
		if err := skipTo(c.execConn, connectMark); err != nil {
			return 0, c.why(err)
		}
		c.started = true
	}
	n, err := c.execConn.Read(p)
	if n == 0 && err != nil {
		err = c.why(err)
	}
	return n, err
}

// why replaces the bare end of a channel by the exit of its command, if there
// was a bad one.
func (c *agentConn) why(err error) error {
	select {
	case <-c.exited:
	default:
		return err
	}
	var exit *exitError
	if errors.As(c.wait(context.Background()), &exit) && exit.status > 0 {
		return fmt.Errorf("connecting to the agent: %w", exit)
	}
	return err
}

// skipTo reads byte by byte until mark has gone by, within maxNoise bytes.
func skipTo(r interface{ Read([]byte) (int, error) }, mark string) error {
	var one [1]byte
	matched := 0
	for range maxNoise {
		if _, err := r.Read(one[:]); err != nil {
			return err
		}
		switch {
		case one[0] == mark[matched]:
			matched++
		case one[0] == mark[0]:
			matched = 1
		default:
			matched = 0
		}
		if matched == len(mark) {
			return nil
		}
	}
	return fmt.Errorf("the machine's login shell prints more than %d bytes before a command runs", maxNoise)
}
