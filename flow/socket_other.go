//go:build !linux

package flow

import (
	"context"
	"fmt"
	"net"
)

// maxSocketPath is how long a socket's name may be to fit into a sockaddr_un
// with its closing zero on every system that is not Linux.
const maxSocketPath = 103

func listenUnix(path string) (*net.UnixListener, error) {
	if err := checkLength(path); err != nil {
		return nil, err
	}
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	if err := checkLength(path); err != nil {
		return nil, err
	}
	return (&net.Dialer{}).DialContext(ctx, "unix", path)
}

func checkLength(path string) error {
	if len(path) > maxSocketPath {
		return fmt.Errorf("the name of a socket can have %d bytes on this system, and this one has %d", maxSocketPath, len(path))
	}
	return nil
}
