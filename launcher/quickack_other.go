//go:build !linux

package launcher

import "net"

// quickAck is for Linux; elsewhere there is no such switch.
func quickAck(conn net.Conn) net.Conn { return conn }
