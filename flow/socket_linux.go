package flow

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxSocketPath is how long a socket's name may be to fit into a sockaddr_un
// with its closing zero.
const maxSocketPath = 107

// listenUnix binds a socket at path, however long path is.
func listenUnix(path string) (listener *net.UnixListener, err error) {
	err = withShortName(path, func(name string) error {
		listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		return err
	})
	return listener, err
}

// dialUnix connects to the socket at path, however long path is.
func dialUnix(ctx context.Context, path string) (conn net.Conn, err error) {
	err = withShortName(path, func(name string) error {
		conn, err = (&net.Dialer{}).DialContext(ctx, "unix", name)
		return err
	})
	return conn, err
}

// withShortName calls use with a name of path that fits: when path itself does
// not, one that goes through a descriptor of its folder, good during the call.
func withShortName(path string, use func(name string) error) error {
	if len(path) <= maxSocketPath {
		return use(path)
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", filepath.Dir(path), err)
	}
	defer unix.Close(dir)
	return use(fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path)))
}
