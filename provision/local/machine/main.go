package machine

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Descriptors that the starter hands down.
const (
	readyFD = 3 // pipe that takes one line of JSON: the announcement
	lockFD  = 4 // the folder's lock file, open and locked
)

// announcement is the one line that a machine writes to its starter.
type announcement struct {
	Info
	Error string `json:"error,omitempty"` // why there is no machine
}

// Main is the process of a local machine: `levin-agent machine …`. args are the
// arguments after the verb. It returns the exit code: 0 after an orderly end, 1
// when the machine could not start or could not end cleanly, 2 for bad usage. It
// is meant to be called by a Starter, which hands down two descriptors.
func Main(args []string) int {
	flags := flag.NewFlagSet("machine", flag.ContinueOnError)
	dir := flags.String("dir", "", "folder of the machine, absolute")
	name := flags.String("name", "", "name of the machine")
	run := flags.String("run", "", "run that it belongs to")
	key := flags.String("key", "", "the only client key that is let in, in authorized_keys form")
	lease := flags.Duration("lease", 10*time.Minute, "how long it lives without a connection and without a process")
	listen := flags.String("listen", "", "loopback address and port of the SSH server; empty: any port of 127.0.0.1")
	starter := flags.Int("starter", 0, "process id of the starter")
	tied := flags.Bool("tied", false, "end when the starter is gone")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("machine", *name)
	if !filepath.IsAbs(*dir) || *key == "" || *lease <= 0 || flags.NArg() > 0 {
		log.Error("usage: machine --dir DIR --name NAME --key KEY [--lease 10m], started by levin")
		return 2
	}
	ready := os.NewFile(readyFD, "ready")
	lock := os.NewFile(lockFD, filepath.Join(*dir, lockName))
	syscall.CloseOnExec(readyFD)
	syscall.CloseOnExec(lockFD)
	if err := sameFile(lock, lock.Name()); err != nil {
		log.Error("the lock was not handed down", "error", err)
		return 2
	}
	defer lock.Close() // last of all: the lock is the machine's life

	m, err := open(*dir, *key, *listen, *lease)
	if err != nil {
		say(ready, announcement{Error: err.Error()})
		log.Error("cannot start", "error", err)
		return 1
	}
	m.info.Name, m.info.Run = *name, *run
	err = m.announce(ready)
	if err == nil {
		log.Info("ready", "address", m.listener.Addr())
		err = m.serve(log, *starter, *tied)
	} else {
		log.Error("nobody waits for this machine", "error", err)
	}
	if endErr := m.close(); endErr != nil {
		log.Error("could not end cleanly", "error", endErr)
		return 1
	}
	if err != nil {
		return 1
	}
	return 0
}

// host is a machine while it runs.
type host struct {
	dir      string
	info     Info
	listener net.Listener
	procs    *processes
	server   *server
	quiet    *quiet
	signals  chan os.Signal // end the machine
	hangup   chan os.Signal // the host key was replaced
}

// open prepares everything up to the point where connections can be accepted.
func open(dir, key, listen string, lease time.Duration) (*host, error) {
	if err := adoptOrphans(); err != nil {
		return nil, err
	}
	for _, sub := range []string{homeName, tmpName} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	account := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		account = u.Username
	}
	listener, err := listenLoopback(listen)
	if err != nil {
		return nil, err
	}
	m := &host{dir: dir, listener: listener, signals: make(chan os.Signal, 4), hangup: make(chan os.Signal, 1)}
	// Caught, not ignored: what is ignored here would be ignored by all that runs on
	// the machine.
	signal.Notify(m.signals, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(m.hangup, syscall.SIGHUP)
	m.quiet = newQuiet(lease)
	m.procs = newProcesses(m.quiet.processes)
	hostKey, err := readHostKey(dir)
	if err == nil {
		m.server, err = newServer(key, hostKey, m.procs, filepath.Join(dir, homeName), environment(dir, account))
	}
	if err != nil {
		listener.Close()
		return nil, err
	}
	m.server.onConn = m.quiet.connections
	addr := listener.Addr().(*net.TCPAddr)
	m.info = Info{
		Address: addr.IP.String(), Port: addr.Port,
		User: account, HostKey: authorizedForm(hostKey), PID: os.Getpid(),
	}
	return m, nil
}

// announce makes the machine known: in its folder and to its starter.
func (m *host) announce(ready *os.File) error {
	if err := m.writeInfo(); err != nil {
		return errors.Join(err, say(ready, announcement{Error: err.Error()}))
	}
	return say(ready, announcement{Info: m.info})
}

// writeInfo makes the machine known in its folder.
func (m *host) writeInfo() error {
	b, err := json.Marshal(m.info)
	if err != nil {
		return err
	}
	path := filepath.Join(m.dir, readyName)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// say writes one line to the starter and closes the pipe. An error means that the
// starter is gone.
func say(w io.WriteCloser, a announcement) error {
	err := json.NewEncoder(w).Encode(a)
	return errors.Join(err, w.Close())
}

// serve lets connections in until a signal comes or nothing has happened for as
// long as the lease.
func (m *host) serve(log *slog.Logger, starter int, tied bool) error {
	done := make(chan error, 1)
	go func() { done <- m.server.serve(m.listener) }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	orphaned := make(chan struct{})
	go func() {
		awaitStarter(ctx, starter)
		m.quiet.abandoned()
		if tied && ctx.Err() == nil && os.Getppid() != starter {
			close(orphaned)
		}
	}()
	for waiting := true; waiting; {
		select {
		case <-m.hangup:
			m.changeHostKey(log)
		case s := <-m.signals:
			log.Info("ending", "reason", s.String())
			waiting = false
		case <-m.quiet.expired:
			log.Info("ending", "reason", "no connection and no process for the whole lease")
			waiting = false
		case <-orphaned:
			log.Info("ending", "reason", "its starter is gone")
			waiting = false
		case err := <-done:
			log.Error("ending", "reason", err)
			return err
		}
	}
	m.listener.Close()
	<-done
	return nil
}

// close ends everything that runs on the machine and removes its folder.
func (m *host) close() error {
	m.quiet.stop()
	os.Remove(filepath.Join(m.dir, readyName)) // from here on nobody should come
	m.listener.Close()
	// Losing their terminals ends the shells that do not heed TERM.
	dropped := make(chan struct{})
	go func() {
		defer close(dropped)
		m.server.close()
	}()
	gone := m.procs.end(m.signals)
	if !gone {
		return fmt.Errorf("processes of the machine cannot be killed: %v", descendants(os.Getpid()))
	}
	<-dropped
	m.procs.close()
	return removeDir(m.dir)
}

// environment is what every process on the machine starts from: what this
// process was given, which is a short list already, and the machine's own.
func environment(dir, account string) []string {
	env := append(os.Environ(),
		"HOME="+filepath.Join(dir, homeName),
		"TMPDIR="+filepath.Join(dir, tmpName),
		"USER="+account,
		"LOGNAME="+account,
		envPID+"="+strconv.Itoa(os.Getpid()),
		envDir+"="+dir,
	)
	return lastOfEach(env)
}
