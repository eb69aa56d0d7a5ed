package launcher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// closePatience is how long a machine may take to answer that a channel is closed.
const closePatience = 3 * time.Second

// execConn is a command that runs on a machine, as a connection: Read reads its
// stdout, Write writes its stdin, Close ends the channel.
type execConn struct {
	link    *link
	channel ssh.Channel
	words   *tail // end of stderr
	exited  chan struct{}
	status  int    // exit status, -1 when there was none; read after exited
	signal  string // that ended it; read after exited

	closeOnce sync.Once
	closeErr  error
	mu        sync.Mutex
	deadline  *time.Timer
	expired   bool
}

// exec starts a command. The channel's goroutines end with the channel; l waits
// for them in close.
func (l *link) exec(ctx context.Context, command string) (*execConn, error) {
	type opened struct {
		conn *execConn
		err  error
	}
	done := make(chan opened)
	// Opening a channel cannot be told to stop, so it goes on by itself when the
	// caller has left, and what it then opened is closed.
	l.spawn(func() {
		conn, err := l.startExec(command)
		select {
		case done <- opened{conn, err}:
			return
		case <-ctx.Done():
		case <-l.dead:
		}
		if err == nil {
			conn.Close()
		}
	})
	select {
	case o := <-done:
		return o.conn, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-l.dead:
		return nil, errDead
	}
}

func (l *link) startExec(command string) (*execConn, error) {
	channel, requests, err := l.client.OpenChannel("session", nil)
	if err != nil {
		return nil, fmt.Errorf("opening an SSH channel: %w", err)
	}
	c := &execConn{link: l, channel: channel, words: &tail{}, exited: make(chan struct{}), status: -1}
	if !l.spawn(func() { c.serve(requests) }) {
		return nil, errDead
	}
	ok, err := channel.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{command}))
	if err == nil && !ok {
		err = errors.New("the SSH server does not let commands run")
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("running a command over SSH: %w", err)
	}
	return c, nil
}

// serve collects what the command says on stderr and how it ends.
func (c *execConn) serve(requests <-chan *ssh.Request) {
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 512) // small: a controller has thousands of channels
		for {
			n, err := c.channel.Stderr().Read(buf)
			_, _ = c.words.Write(buf[:n])
			if err != nil {
				return
			}
		}
	})
	for r := range requests {
		switch r.Type {
		case "exit-status":
			var m struct{ Status uint32 }
			if ssh.Unmarshal(r.Payload, &m) == nil {
				c.status = int(m.Status)
			}
		case "exit-signal":
			var m struct {
				Signal  string
				Core    bool
				Message string
				Lang    string
			}
			if ssh.Unmarshal(r.Payload, &m) == nil {
				c.signal = m.Signal
			}
		}
		if r.WantReply {
			_ = r.Reply(false, nil)
		}
	}
	wg.Wait()
	close(c.exited)
}

// wait returns when the command has exited and the channel is closed: nil for
// exit status 0, an *exitError otherwise.
func (c *execConn) wait(ctx context.Context) error {
	select {
	case <-c.exited:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if c.status == 0 {
		return nil
	}
	return &exitError{status: c.status, signal: c.signal, words: strings.TrimSpace(c.words.String())}
}

// exitError says how a command on the machine ended.
type exitError struct {
	status int
	signal string
	words  string
}

func (e *exitError) Error() string {
	how := fmt.Sprintf("exit status %d", e.status)
	switch {
	case e.signal != "":
		how = "ended by signal " + e.signal
	case e.status < 0:
		how = "the connection ended before the command did"
	}
	if e.words == "" {
		return how
	}
	return how + ": " + e.words
}

func (c *execConn) Read(p []byte) (int, error) {
	n, err := c.channel.Read(p)
	return n, c.explain(err)
}

func (c *execConn) Write(p []byte) (int, error) {
	n, err := c.channel.Write(p)
	return n, c.explain(err)
}

func (c *execConn) CloseWrite() error { return c.channel.CloseWrite() }

// Close ends the channel. What reads from it is woken by the machine's answer;
// a machine that does not answer soon is given up with its whole connection.
func (c *execConn) Close() error {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		if c.deadline != nil {
			c.deadline.Stop()
		}
		c.mu.Unlock()
		c.link.spawn(func() {
			t := time.NewTimer(closePatience)
			defer t.Stop()
			select {
			case <-c.exited:
			case <-t.C:
				c.link.conn.Close()
			}
		})
		c.closeErr = ignoreClosed(c.channel.Close())
	})
	return c.closeErr
}

func (c *execConn) explain(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.expired {
		return os.ErrDeadlineExceeded
	}
	return err
}

// SetDeadline emulates deadlines for the one use that HTTP makes of them, giving
// up: when it passes the channel is closed, and no later deadline brings it back.
func (c *execConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline != nil {
		c.deadline.Stop()
		c.deadline = nil
	}
	if t.IsZero() || c.expired {
		return nil
	}
	c.deadline = time.AfterFunc(time.Until(t), func() {
		c.mu.Lock()
		c.expired = true
		c.mu.Unlock()
		c.Close()
	})
	return nil
}

// SetReadDeadline is SetDeadline: a channel has one end for both directions.
func (c *execConn) SetReadDeadline(t time.Time) error { return c.SetDeadline(t) }

// SetWriteDeadline is SetDeadline: a channel has one end for both directions.
func (c *execConn) SetWriteDeadline(t time.Time) error { return c.SetDeadline(t) }

func (c *execConn) LocalAddr() net.Addr  { return execAddr{} }
func (c *execConn) RemoteAddr() net.Addr { return execAddr{} }

// execAddr is the address of either end of a command's stdio.
type execAddr struct{}

func (execAddr) Network() string { return "ssh" }
func (execAddr) String() string  { return "exec" }
