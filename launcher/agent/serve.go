package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"
)

// serve is the verb: the agent of one machine. Started by start it inherits the
// lock, the listener and a pipe for its Info; by hand it makes them itself and
// prints its Info.
func serve(o options, stdout io.Writer) error {
	// An idle agent is to be small, and nothing here is hot enough to mind.
	debug.SetGCPercent(50)
	l, err := newLayout(o.home, o.machine)
	if err != nil {
		return err
	}
	digest, err := ownDigest()
	if err != nil {
		return err
	}
	listener, lock, ready, err := serveFiles(l, o, stdout)
	if err != nil {
		return err
	}
	defer lock.Close()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	signal.Ignore(syscall.SIGHUP)
	s := newServer(l, digest)
	s.notice = o.notice
	gone, err := s.serve(ctx, listener, o.lease, ready)
	if gone {
		_ = os.Remove(l.path("..")) // the last one
		if o.powerOff {
			lock.Close()
			if perr := powerOff(); perr != nil {
				return perr
			}
		}
	}
	return err
}

// serveFiles gives what serve works with.
func serveFiles(l layout, o options, stdout io.Writer) (net.Listener, *os.File, func(Info) error, error) {
	if !o.detached {
		return ownFiles(l, stdout)
	}
	for _, fd := range []int{serveLockFD, serveListenFD, serveReadyFD} {
		unix.CloseOnExec(fd) // they are not for the work
	}
	socket := os.NewFile(serveListenFD, socketName)
	listener, err := net.FileListener(socket)
	socket.Close()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("taking over the socket: %w", err)
	}
	ready := func(info Info) error {
		pipe := os.NewFile(serveReadyFD, "ready")
		defer pipe.Close()
		// start may have been killed: that is no reason to end.
		_ = json.NewEncoder(pipe).Encode(info)
		return nil
	}
	return listener, os.NewFile(serveLockFD, agentLockName), ready, nil
}

func ownFiles(l layout, stdout io.Writer) (net.Listener, *os.File, func(Info) error, error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, nil, nil, err
	}
	if err := os.Chdir(l.dir); err != nil {
		return nil, nil, nil, err
	}
	lock, err := flock(l.path(agentLockName), false)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("an agent serves the machine already: %w", err)
	}
	listener, err := listenAgent()
	if err != nil {
		lock.Close()
		return nil, nil, nil, err
	}
	return listener, lock, func(info Info) error { return json.NewEncoder(stdout).Encode(info) }, nil
}
