package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// startLimit bounds every wait of start: for another start, for an agent that is
// ending, for an agent to answer.
const startLimit = 20 * time.Second

// The descriptors that serve inherits from start.
const (
	serveLockFD   = 3
	serveListenFD = 4
	serveReadyFD  = 5
)

var errNoAgent = errors.New("no agent serves the machine")

// start makes sure that an agent serves the machine, and gives its Info.
func start(o options) (Info, error) {
	l, err := newLayout(o.home, o.machine)
	if err != nil {
		return Info{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		info, err := startOnce(ctx, l, o)
		// An agent that was ending has removed the folder under our feet.
		if errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
			continue
		}
		return info, err
	}
}

func startOnce(ctx context.Context, l layout, o options) (Info, error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return Info{}, err
	}
	if err := os.Chdir(l.dir); err != nil { // for the socket's name
		return Info{}, err
	}
	lock, err := flockUntil(ctx, l.path(startLockName))
	if err != nil {
		return Info{}, fmt.Errorf("waiting for another start: %w", err)
	}
	defer lock.Close()
	info, asked := askInfo(ctx, o.lease)
	if asked == nil {
		return info, nil
	}
	// Nobody answers: either nobody lives, and then the lock is free, or somebody
	// is ending.
	agentLock, err := flockUntil(ctx, l.path(agentLockName))
	if err != nil {
		return Info{}, fmt.Errorf("%w; and it does not end: %w", asked, err)
	}
	defer agentLock.Close()
	return spawnServe(ctx, l, o, agentLock)
}

// flockUntil waits for a lock until ctx ends. Then the wait is left behind: it
// ends with the process.
func flockUntil(ctx context.Context, path string) (*os.File, error) {
	type got struct {
		f   *os.File
		err error
	}
	c := make(chan got, 1)
	go func() {
		f, err := flock(path, true)
		c <- got{f, err}
	}()
	select {
	case g := <-c:
		return g.f, g.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", path, ctx.Err())
	}
}

// askInfo asks the agent behind the socket in the current folder, and renews
// its lease. It speaks HTTP by hand: a client would make the agent half a MB
// larger.
func askInfo(ctx context.Context, ttl time.Duration) (Info, error) {
	conn, err := dialAgent(ctx)
	if err != nil {
		return Info{}, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	lease, err := json.Marshal(LeaseRequest{TTL: ttl})
	if err != nil {
		return Info{}, err
	}
	// Two requests in one go; the answers come in their order.
	if _, err := fmt.Fprintf(conn, "POST /v1/lease HTTP/1.1\r\nHost: agent\r\nContent-Length: %d\r\n\r\n%s"+
		"GET /v1/info HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n", len(lease), lease); err != nil {
		return Info{}, fmt.Errorf("asking the agent: %w", err)
	}
	answers := bufio.NewReader(conn)
	var info Info
	for _, v := range []any{nil, &info} {
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			return Info{}, fmt.Errorf("asking the agent: %w", err)
		}
		if v != nil {
			err = json.NewDecoder(resp.Body).Decode(v)
		}
		resp.Body.Close()
		if err != nil || resp.StatusCode/100 != 2 {
			return Info{}, fmt.Errorf("the agent answers %s, but not like one: %w", resp.Status, err)
		}
	}
	return info, nil
}

// dialAgent connects to the socket in the current folder.
func dialAgent(ctx context.Context) (*net.UnixConn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socketName)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, errNoAgent
	}
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// spawnServe starts serve, detached, and waits until it says that it answers.
// The socket is made here: from now on connections wait instead of failing.
func spawnServe(ctx context.Context, l layout, o options, lock *os.File) (Info, error) {
	listener, err := listenAgent()
	if err != nil {
		return Info{}, err
	}
	defer listener.Close()
	socket, err := listener.File()
	if err != nil {
		return Info{}, err
	}
	defer socket.Close()
	ready, readyIn, err := os.Pipe()
	if err != nil {
		return Info{}, err
	}
	defer ready.Close()
	log, err := os.OpenFile(l.path(agentLogName), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		readyIn.Close()
		return Info{}, err
	}
	defer log.Close()
	cmd, err := serveCommand(l, o)
	if err == nil {
		cmd.Stdout, cmd.Stderr = log, log
		cmd.ExtraFiles = []*os.File{lock, socket, readyIn}
		err = cmd.Start()
	}
	readyIn.Close()
	if err != nil {
		return Info{}, fmt.Errorf("starting the agent: %w", err)
	}
	deadline, _ := ctx.Deadline()
	_ = ready.SetReadDeadline(deadline)
	var info Info
	line, err := bufio.NewReader(ready).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &info)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return Info{}, fmt.Errorf("the agent did not come up: %w%s", err, lastWords(l.path(agentLogName)))
	}
	return info, cmd.Process.Release()
}

func serveCommand(l layout, o options) (*exec.Cmd, error) {
	home := strings.TrimSuffix(l.dir, "/machines/"+l.machine)
	args := []string{"serve", "--detached", "--machine", l.machine, "--home", home, "--lease", o.lease.String()}
	if o.powerOff {
		args = append(args, "--power-off")
	}
	if o.notice != "" {
		args = append(args, "--notice", o.notice)
	}
	cmd, err := selfCommand(args...)
	if err != nil {
		return nil, err
	}
	cmd.Dir = l.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, nil
}

// listenAgent makes the socket in the current folder. The caller holds the
// agent's lock, so one that is there is stale.
func listenAgent() (*net.UnixListener, error) {
	if err := ignoreGone(os.Remove(socketName)); err != nil {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketName, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	return listener, nil
}

// lastWords is the end of the agent's log, for an error.
func lastWords(path string) string {
	data, err := os.ReadFile(path)
	if err != nil || len(bytes.TrimSpace(data)) == 0 {
		return ""
	}
	return "\n" + string(bytes.TrimSpace(data[max(0, len(data)-2000):]))
}
