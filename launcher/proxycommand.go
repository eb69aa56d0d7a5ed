package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// dialCommand runs a shell line that the user wrote; its stdio is the connection.
// The command is not bound to ctx once it has been started: it lives as long as
// the connection, like any other.
func dialCommand(ctx context.Context, line string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	toChild, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting the proxy command: %w", err)
	}
	out, fromChild, err := os.Pipe()
	if err != nil {
		toChild.Close()
		in.Close()
		return nil, fmt.Errorf("starting the proxy command: %w", err)
	}
	words := &tail{}
	cmd := exec.Command("/bin/sh", "-c", line)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = toChild, fromChild, words
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that its children can be ended with it
	// A grandchild that left the group may hold stderr open: do not wait for it.
	cmd.WaitDelay = time.Second
	err = cmd.Start()
	toChild.Close()
	fromChild.Close()
	if err != nil {
		in.Close()
		out.Close()
		return nil, fmt.Errorf("starting the proxy command: %w", err)
	}
	c := &commandConn{cmd: cmd, in: in, out: out, words: words, ended: make(chan struct{})}
	go c.wait()
	return c, nil
}

// commandConn is a connection over a process's stdin and stdout.
type commandConn struct {
	cmd   *exec.Cmd
	in    *os.File
	out   *os.File
	words *tail // end of what the command said on stderr

	closeOnce sync.Once
	ended     chan struct{} // closed when the process has been waited for
	err       error         // of Wait; read after ended
}

func (c *commandConn) wait() {
	c.err = c.cmd.Wait()
	close(c.ended)
}

// Read gives the command's words when its output ends: they say why.
func (c *commandConn) Read(p []byte) (int, error) {
	n, err := c.out.Read(p)
	if n == 0 && errors.Is(err, io.EOF) {
		// Most commands end when their output does; one that does not has no more
		// to say than it has said.
		select {
		case <-c.ended:
		case <-time.After(time.Second):
		}
		if said := strings.TrimSpace(c.words.String()); said != "" {
			return 0, fmt.Errorf("the proxy command ended the connection: %s", said)
		}
	}
	return n, err
}

func (c *commandConn) Write(p []byte) (int, error) { return c.in.Write(p) }

// Close kills the command and everything it started in its process group.
func (c *commandConn) Close() error {
	c.closeOnce.Do(func() {
		c.in.Close()
		c.out.Close()
		// The group's number stays taken until the process has been waited for, and
		// afterwards as long as one of its children lives: the worst case is ESRCH.
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	})
	<-c.ended
	return nil
}

func (c *commandConn) LocalAddr() net.Addr  { return commandAddr{} }
func (c *commandConn) RemoteAddr() net.Addr { return commandAddr{} }

func (c *commandConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
func (c *commandConn) SetReadDeadline(t time.Time) error  { return c.out.SetReadDeadline(t) }
func (c *commandConn) SetWriteDeadline(t time.Time) error { return c.in.SetWriteDeadline(t) }

// commandAddr stands for the unknown place that a proxy command leads to. It
// looks like an address because the known_hosts check wants one.
type commandAddr struct{}

func (commandAddr) Network() string { return "tcp" }
func (commandAddr) String() string  { return "0.0.0.0:0" }

// maxWords bounds what is kept of a program's stderr.
const maxWords = 4 << 10

// tail keeps the last maxWords bytes that were written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - maxWords; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
