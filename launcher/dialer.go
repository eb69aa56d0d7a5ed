package launcher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/cluster"
)

// dialTimeout bounds one TCP connect, so that a machine which is still booting
// and drops packets is tried again rather than waited for.
const dialTimeout = 15 * time.Second

// Dialer opens the byte stream under an SSH connection.
//
// Contract, held by dialertest: Dial honours ctx, never blocks after ctx ended,
// leaves nothing behind on error, and its conn's Close ends everything it opened
// (a jump's connection, a proxy command's process). It says nothing about trust:
// host keys are checked above it.
type Dialer interface {
	Dial(ctx context.Context, t cluster.Target) (net.Conn, error)
}

// NetDialer dials as the target says: through its proxy jumps, else through its
// proxy command, else by TCP. Each jump is an SSH connection whose own host key
// is checked. The zero value is ready to use.
type NetDialer struct {
	// AuthSock is the socket of ssh-agent, for jumps that authenticate with it;
	// empty means $SSH_AUTH_SOCK.
	AuthSock string
}

// Dial opens a connection to t.
func (d NetDialer) Dial(ctx context.Context, t cluster.Target) (net.Conn, error) {
	switch {
	case len(t.Jumps) > 0:
		return d.dialJumps(ctx, t)
	case t.ProxyCommand != "":
		return dialCommand(ctx, t.ProxyCommand)
	default:
		conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address(t))
		if err != nil {
			return nil, err
		}
		return quickAck(conn), nil
	}
}

// dialJumps goes through one SSH connection after the other. Only the first jump
// is dialed from here, so only its own proxy command counts.
func (d NetDialer) dialJumps(ctx context.Context, t cluster.Target) (net.Conn, error) {
	first := t.Jumps[0]
	conn, err := d.Dial(ctx, first)
	if err != nil {
		return nil, fmt.Errorf("dialing proxy jump %s: %w", address(first), err)
	}
	hops := append(append([]cluster.Target{}, t.Jumps[1:]...), t)
	from := first
	for _, next := range hops {
		client, err := handshake(ctx, &wireConn{Conn: conn}, from, d.AuthSock, handshakeTimeout)
		if err != nil {
			return nil, fmt.Errorf("proxy jump %s: %w", address(from), err)
		}
		inner, err := dialThrough(ctx, client, address(next))
		if err != nil {
			client.Close()
			return nil, fmt.Errorf("dialing %s through proxy jump %s: %w", address(next), address(from), err)
		}
		conn = &jumpConn{Conn: inner, via: client}
		from = next
	}
	return conn, nil
}

// dialThrough asks the far end of client for a connection to addr. When ctx ends
// first the client is closed: nothing else ends the request.
func dialThrough(ctx context.Context, client *ssh.Client, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { client.Close() })
	conn, err := client.Dial("tcp", addr)
	if !stop() {
		if err == nil {
			conn.Close()
		}
		return nil, context.Cause(ctx)
	}
	return conn, err
}

// jumpConn is a connection through another SSH connection, which ends with it.
type jumpConn struct {
	net.Conn
	via *ssh.Client
}

func (c *jumpConn) Close() error {
	// The outer connection first: closing a channel waits for the far end to read.
	err := c.via.Close()
	c.via.Wait()
	return errors.Join(ignoreClosed(c.Conn.Close()), ignoreClosed(err))
}

// SetDeadline, SetReadDeadline and SetWriteDeadline are not supported by an SSH
// channel; whoever needs an end closes the connection.
func (c *jumpConn) SetDeadline(time.Time) error      { return errNoDeadline }
func (c *jumpConn) SetReadDeadline(time.Time) error  { return errNoDeadline }
func (c *jumpConn) SetWriteDeadline(time.Time) error { return errNoDeadline }

var errNoDeadline = fmt.Errorf("proxy jump: deadlines: %w", errors.ErrUnsupported)

// address is where a target's SSH server listens.
func address(t cluster.Target) string {
	port := t.Port
	if port == 0 {
		port = 22
	}
	return net.JoinHostPort(t.Address, strconv.Itoa(port))
}
