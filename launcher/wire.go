package launcher

import (
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// wireConn is the byte stream under an SSH connection. It remembers when something
// was last read, and makes the end of reading the end of writing too.
//
// The latter keeps x/crypto/ssh from hanging. When its reader fails it forgets all
// channels; one that is opened just after that waits for ever, unless a write has
// failed before: the first write that fails is not reported to its caller, only
// later ones are. So one is made to fail before the reader hears of its error.
type wireConn struct {
	net.Conn
	last   atomic.Int64 // Unix nanoseconds
	broken atomic.Bool
	client atomic.Pointer[ssh.Client] // set once there are channels
	shown  atomic.Pointer[string]     // the host key that was shown and accepted, in authorized_keys form
}

func (c *wireConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.last.Store(time.Now().UnixNano())
	}
	if err != nil {
		c.fail()
	}
	return n, err
}

func (c *wireConn) Write(p []byte) (int, error) {
	if c.broken.Load() {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// serve says that client's channels go over this connection from now on.
func (c *wireConn) serve(client *ssh.Client) {
	c.client.Store(client)
	if c.broken.Load() {
		c.fail()
	}
}

func (c *wireConn) fail() {
	c.broken.Store(true)
	c.Conn.Close() // wakes a write that is under way and would keep ours from its turn
	if client := c.client.Load(); client != nil {
		_, _, _ = client.SendRequest("keepalive@openssh.com", false, nil)
	}
}

func (c *wireConn) heard() time.Time { return time.Unix(0, c.last.Load()) }
