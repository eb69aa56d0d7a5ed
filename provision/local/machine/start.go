package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Starter starts machines. A machine is a child of the process that started it
// for as long as that lives, so a Starter waits for each to take its exit status;
// machines outlive it all the same. It is safe for concurrent use.
type Starter struct {
	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// NewStarter makes a Starter. Close it when no more machines are to be started.
func NewStarter() *Starter {
	s := &Starter{}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close stops waiting for machines. It does not end them.
func (s *Starter) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
}

// Start starts a machine and returns when it answers. If a machine lives in the
// folder already, that one is it. What a dead machine has left in the folder is
// cleared first, its processes included. When Start fails, or ctx ends, nothing is
// left; the error then holds the process's own words.
func (s *Starter) Start(ctx context.Context, o Options) (Info, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return Info{}, err
	}
	o.Dir = dir
	for {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return Info{}, err
		}
		info, err := s.startLocked(ctx, o)
		if !errors.Is(err, errAgain) {
			return info, err
		}
	}
}

// errAgain says that a machine was just ending in the folder, which has to be made
// anew.
var errAgain = errors.New("the folder was being removed")

// again turns the absence of a file into errAgain.
func again(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errAgain
	}
	return err
}

// startLocked starts a machine while nobody else starts or stops one in its
// folder.
func (s *Starter) startLocked(ctx context.Context, o Options) (Info, error) {
	folder, err := lockDir(ctx, o.Dir)
	if err != nil {
		return Info{}, again(err)
	}
	defer folder.Close()
	lock, err := os.OpenFile(filepath.Join(o.Dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return Info{}, again(err)
	}
	defer lock.Close()
	if !tryLock(lock, syscall.LOCK_EX) {
		if info, err := Read(o.Dir); err == nil {
			return info, nil
		}
		// It is ending, or somebody just looks whether it lives: wait for that.
		waiting, err := os.Open(lock.Name())
		if err != nil {
			return Info{}, again(err)
		}
		if err := waitLock(ctx, waiting, syscall.LOCK_SH); err != nil {
			return Info{}, err
		}
		waiting.Close()
		return Info{}, errAgain
	}
	// Nobody removes the folder while this lock is held.
	if sameFile(folder, o.Dir) != nil || sameFile(lock, lock.Name()) != nil {
		return Info{}, errAgain
	}
	if err := sweepLeftovers(ctx, o.Dir); err != nil {
		return Info{}, err
	}
	info, err := s.spawn(ctx, o, lock)
	if err != nil {
		err = errors.Join(err, removeDir(o.Dir))
	}
	return info, err
}

// sweepLeftovers clears a folder whose machine is dead. A folder that was just
// made has none, and costs no look at all processes.
func sweepLeftovers(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) == 1 { // the lock
		return nil
	}
	if err := killMarked(ctx, dir); err != nil {
		return err
	}
	return clearDir(dir)
}

// spawn starts the process and waits for its announcement.
func (s *Starter) spawn(ctx context.Context, o Options, lock *os.File) (Info, error) {
	if err := placeAgent(o); err != nil {
		return Info{}, err
	}
	log, err := os.OpenFile(filepath.Join(o.Dir, logName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return Info{}, err
	}
	defer log.Close()
	if o.HostKey != "" {
		if err := os.WriteFile(filepath.Join(o.Dir, keyName), []byte(o.HostKey), 0o600); err != nil {
			return Info{}, err
		}
	}
	ready, w, err := os.Pipe()
	if err != nil {
		return Info{}, err
	}
	defer ready.Close()
	defer w.Close()
	cmd := exec.Command(o.Agent, "machine",
		"--dir", o.Dir, "--name", o.Name, "--run", o.Run, "--key", o.Key, "--lease", o.Lease.String(),
		"--listen", o.Listen, "--starter", strconv.Itoa(os.Getpid()), "--tied="+strconv.FormatBool(o.Tied))
	cmd.Dir = "/"
	cmd.Env = append(append(inherited(os.Environ()), o.Env...), envDir+"="+o.Dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w, lock} // readyFD, lockFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := s.begin(cmd); err != nil {
		return Info{}, fmt.Errorf("cannot start the process of machine %s: %w", o.Name, err)
	}
	w.Close()
	// From here on the lock is the machine's; this names it for whoever stops it.
	_, err = lock.WriteAt([]byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0)
	var info Info
	if err == nil {
		info, err = awaitReady(ctx, ready, o)
	}
	if err != nil {
		cmd.Process.Kill() // it has no children yet
		s.reap(cmd.Process)
		return Info{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		cmd.Process.Release()
		s.wg.Done()
		return info, nil
	}
	go func() {
		defer s.wg.Done()
		reapOne(s.ctx, cmd.Process)
	}()
	return info, nil
}

// begin starts cmd unless the Starter is closed.
func (s *Starter) begin(cmd *exec.Cmd) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("no more machines are started")
	}
	s.wg.Add(1)
	if err := cmd.Start(); err != nil {
		s.wg.Done()
		return err
	}
	return nil
}

// reap waits for the exit of a process that was just killed.
func (s *Starter) reap(p *os.Process) {
	p.Wait()
	s.wg.Done()
}

// awaitReady reads the announcement.
func awaitReady(ctx context.Context, ready *os.File, o Options) (Info, error) {
	stop := context.AfterFunc(ctx, func() { ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b, err := io.ReadAll(ready)
	if ctx.Err() != nil {
		return Info{}, ctx.Err()
	}
	var a announcement
	if err != nil || json.Unmarshal(b, &a) != nil {
		return Info{}, fmt.Errorf("machine %s ended before it was ready: %s", o.Name, lastWords(o.Dir))
	}
	if a.Error != "" {
		return Info{}, fmt.Errorf("machine %s could not start: %s", o.Name, a.Error)
	}
	return a.Info, nil
}

// lastWords gives the end of the machine's log.
func lastWords(dir string) string {
	const most = 2048
	b, err := os.ReadFile(filepath.Join(dir, logName))
	if err != nil {
		return err.Error()
	}
	if len(b) > most {
		b = b[len(b)-most:]
	}
	if words := strings.TrimSpace(string(b)); words != "" {
		return words
	}
	return "it said nothing"
}

// placeAgent puts the agent's binary where the launcher looks for it: a link when
// the file system allows, else a copy.
func placeAgent(o Options) error {
	if o.AgentDigest == "" {
		return nil
	}
	bin := filepath.Join(o.Dir, homeName, ".levin-agent", "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return err
	}
	place := filepath.Join(bin, o.AgentDigest)
	if os.Link(o.Agent, place) == nil {
		return nil
	}
	src, err := os.Open(o.Agent)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(place, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}
