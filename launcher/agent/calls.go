package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockFD is the descriptor on which supervise inherits the lock of its attempt.
const lockFD = 3

// reserveSize is the room that is kept for the exit, should the work fill the
// disk.
const reserveSize = 64 << 10

// call is one attempt as serve sees it. Its truth is in its folder; supervise
// writes there and tells over the events fifo when to look.
type call struct {
	id     string
	dir    callDir
	folder string
	// The fifos, held open as long as the attempt runs, so that what is written
	// waits until the other side reads; nil for an attempt that was over when
	// serve began.
	events, control *os.File

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when something happened
	exit    *Exit
}

// calls is every attempt that this agent's folder knows.
type calls struct {
	layout layout
	idle   func() // called when an attempt is over

	begin     sync.Mutex // held while an attempt is being started
	mu        sync.Mutex
	byID      map[string]*call
	reserved  map[string]bool // folders in which nothing may start
	closed    bool            // no new ones
	preempted bool            // no new ones: the cloud takes the machine back
	watchers  sync.WaitGroup  // one for each attempt that is not over, until it is
}

func newCalls(l layout, idle func()) *calls {
	return &calls{layout: l, idle: idle, byID: make(map[string]*call), reserved: make(map[string]bool)}
}

// callRecord is call.json: what serve itself has to know about an attempt.
type callRecord struct {
	Folder string `json:"folder"`
}

// start begins an attempt, or gives the one with this ID. Before it begins,
// abandon is called to end a sync of its folder.
func (cs *calls) start(r StartRequest, abandon func()) (*call, error) {
	cs.begin.Lock()
	defer cs.begin.Unlock()
	if c := cs.settled(r.ID); c != nil {
		return c, nil
	}
	release, err := cs.reserve(r.Folder)
	if err != nil {
		return nil, err
	}
	defer release()
	abandon()
	if info, err := os.Lstat(cs.layout.work(r.Folder)); err != nil || !info.IsDir() {
		return nil, notFound("folder %s has not been synced", r.Folder)
	}
	if err := clearBefore(cs.layout, r); err != nil {
		return nil, err
	}
	c, lock, err := cs.prepare(r)
	if err == nil {
		err = cs.spawn(c, lock, r)
	}
	if err != nil {
		_ = os.RemoveAll(string(cs.layout.call(r.ID)))
		return nil, fmt.Errorf("starting attempt %s: %w", r.ID, err)
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.byID[r.ID] = c
	return c, nil
}

// settled gives the attempt with this ID, nil when there is none. Of one that is
// about to begin it first waits to see whether it does: its order may have been
// cut off when the agent before this one was killed.
func (cs *calls) settled(id string) *call {
	for {
		c, err := cs.get(id)
		if err != nil {
			return nil
		}
		exit, changed := c.state()
		if exit == nil && !c.begun() {
			<-changed
			continue
		}
		if again, err := cs.get(id); err == nil && again == c {
			return c
		}
	}
}

// busy says why nothing can start in a folder now.
func (cs *calls) busy(folder string) error {
	if cs.closed {
		return conflict("the agent is shutting down")
	}
	if cs.preempted {
		return preempted("the cloud takes the machine back: it begins no new work")
	}
	if cs.reserved[folder] {
		return conflict("folder %s is being synced", folder)
	}
	for _, c := range cs.byID {
		if exit, _ := c.state(); c.folder == folder && exit == nil {
			return conflict("attempt %s is running in folder %s", c.id, folder)
		}
	}
	return nil
}

// reserve keeps a folder in which nothing runs free of work until release.
func (cs *calls) reserve(folder string) (release func(), err error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if err := cs.busy(folder); err != nil {
		return nil, err
	}
	cs.reserved[folder] = true
	return func() {
		cs.mu.Lock()
		defer cs.mu.Unlock()
		delete(cs.reserved, folder)
	}, nil
}

// prepare makes an attempt's folder and takes its lock.
func (cs *calls) prepare(r StartRequest) (*call, *os.File, error) {
	dir := cs.layout.call(r.ID)
	if err := os.MkdirAll(string(dir), 0o700); err != nil {
		return nil, nil, err
	}
	lock, err := flock(dir.lock(), false)
	if err != nil {
		return nil, nil, err
	}
	err = errors.Join(
		writeJSON(dir.file("call.json"), callRecord{Folder: r.Folder}),
		os.WriteFile(dir.log(), nil, 0o600),
		os.WriteFile(dir.reserve(), make([]byte, reserveSize), 0o600),
	)
	c := &call{id: r.ID, dir: dir, folder: r.Folder, changed: make(chan struct{})}
	if err == nil {
		err = c.openFifos()
	}
	if err != nil {
		lock.Close()
		return nil, nil, err
	}
	return c, lock, nil
}

// spawn starts supervise, hands it the lock and the order, and watches it.
func (cs *calls) spawn(c *call, lock *os.File, r StartRequest) error {
	defer lock.Close() // then supervise alone has it
	data, err := json.Marshal(order{Start: r, Machine: cs.layout.machine, Dir: cs.layout.dir})
	if err != nil {
		return err
	}
	cmd, err := selfCommand("supervise", r.ID)
	if err != nil {
		return err
	}
	stderr, err := os.OpenFile(cs.layout.path(agentLogName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer stderr.Close()
	cmd.Dir = cs.layout.dir
	cmd.ExtraFiles = []*os.File{lock} // lockFD
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// A pipe, not cmd.Stdin: the order has to be through before we answer.
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		c.closeFifos()
		return err
	}
	_, err = in.Write(data)
	if err = errors.Join(err, in.Close()); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		c.closeFifos()
		return err
	}
	cs.watch(c, cmd)
	return nil
}

// watch follows an attempt until it is over. cmd is its supervisor when this
// process started it.
func (cs *calls) watch(c *call, cmd *exec.Cmd) {
	cs.watchers.Go(func() {
		var listener sync.WaitGroup
		listener.Go(c.listen)
		if cmd != nil {
			_ = cmd.Wait() // reap it; what counts is in the folder
		}
		err := c.awaitEnd()
		c.closeFifos()
		listener.Wait()
		if errors.Is(err, errNeverBegan) && cmd == nil {
			// The agent before this one was killed while it started the attempt, and
			// could not answer: it may be started again.
			cs.mu.Lock()
			delete(cs.byID, c.id)
			cs.mu.Unlock()
			_ = os.RemoveAll(string(c.dir))
		}
		if err != nil {
			c.finish(&Exit{Code: 128 + int(syscall.SIGKILL), At: time.Now(), Phase: PhaseRun, Error: err.Error()})
		}
		cs.idle()
	})
}

// adopt takes over the attempts that an agent before this one has started.
func (cs *calls) adopt() error {
	entries, err := os.ReadDir(cs.layout.path(callsDirName))
	if err != nil {
		return ignoreGone(err)
	}
	for _, entry := range entries {
		if !entry.IsDir() || checkLabel("attempt", entry.Name()) != nil {
			continue
		}
		c := &call{id: entry.Name(), dir: cs.layout.call(entry.Name()), changed: make(chan struct{})}
		var record callRecord
		if readJSON(c.dir.file("call.json"), &record) == nil {
			c.folder = record.Folder
		}
		if !c.loadExit() {
			known, err := cs.readopt(c)
			if err != nil {
				return fmt.Errorf("taking over attempt %s: %w", c.id, err)
			}
			if !known {
				continue
			}
		}
		cs.byID[c.id] = c
	}
	return nil
}

// readopt watches an attempt that is not over, or settles how it ended without
// its supervisor, or that it never began: then it can be started again.
func (cs *calls) readopt(c *call) (known bool, err error) {
	lock, err := flock(c.dir.lock(), false)
	if errors.Is(err, errLocked) {
		if err := c.openFifos(); err != nil {
			return false, err
		}
		cs.watch(c, nil)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer lock.Close()
	if c.loadExit() { // just now
		return true, nil
	}
	if !c.begun() {
		return false, os.RemoveAll(string(c.dir))
	}
	c.lost()
	return true, nil
}

func (cs *calls) get(id string) (*call, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c := cs.byID[id]; c != nil {
		return c, nil
	}
	return nil, notFound("there is no attempt %.80q", id)
}

// list gives all IDs, and how many attempts are not over.
func (cs *calls) list() (ids []string, running int) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for id, c := range cs.byID {
		ids = append(ids, id)
		if exit, _ := c.state(); exit == nil {
			running++
		}
	}
	slices.Sort(ids)
	return ids, running
}

// end stops all work, waits until it is over, and lets none begin.
func (cs *calls) end() {
	cs.begin.Lock()
	defer cs.begin.Unlock()
	cs.mu.Lock()
	cs.closed = true
	for _, c := range cs.byID {
		if exit, _ := c.state(); exit == nil {
			_ = c.stop()
		}
	}
	cs.mu.Unlock()
	cs.watchers.Wait()
}

func (c *call) openFifos() error {
	open := func(path string) (*os.File, error) {
		if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, err
		}
		return os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	}
	var err error
	if c.events, err = open(c.dir.events()); err != nil {
		return err
	}
	if c.control, err = open(c.dir.control()); err != nil {
		c.events.Close()
	}
	return err
}

func (c *call) closeFifos() {
	c.events.Close()
	c.control.Close()
}

// listen passes on what supervise tells, until events is closed.
func (c *call) listen() {
	buf := make([]byte, 4<<10)
	for {
		n, err := c.events.Read(buf)
		if err != nil {
			return
		}
		if !bytes.Contains(buf[:n], []byte{eventExit}) || !c.loadExit() {
			c.announce()
		}
	}
}

// awaitEnd waits until the supervisor is no more, whoever started it, and sees
// to it that there is an exit.
func (c *call) awaitEnd() error {
	lock, err := flock(c.dir.lock(), true)
	if err != nil {
		return fmt.Errorf("waiting for the supervisor: %w", err)
	}
	defer lock.Close()
	switch {
	case c.loadExit():
	case !c.begun():
		return errNeverBegan
	default:
		c.lost()
	}
	return nil
}

// begun reports whether the supervisor came as far as to say so.
func (c *call) begun() bool {
	_, err := os.Lstat(c.dir.started())
	return err == nil
}

// lost settles an attempt whose supervisor was killed. Its work is not to run on
// with nobody to answer for it.
func (c *call) lost() {
	sweepMarked(markVariable + "=" + string(c.dir))
	exit := Exit{Code: 128 + int(syscall.SIGKILL), At: time.Now(), Phase: c.phase(),
		Error: "the supervisor of the work was killed, and the work with it"}
	_ = writeJSON(c.dir.exit(), exit) // if the disk is full, the next agent comes to the same end
	c.finish(&exit)
}

var errNeverBegan = errors.New("the supervisor of the work ended before it had begun")

func (c *call) phase() Phase {
	var s started
	if readJSON(c.dir.started(), &s) != nil {
		return PhaseRun
	}
	return s.Phase
}

// loadExit takes the exit from the folder, if it is there.
func (c *call) loadExit() bool {
	if exit, _ := c.state(); exit != nil {
		return true
	}
	var exit Exit
	if readJSON(c.dir.exit(), &exit) != nil {
		return false
	}
	c.finish(&exit)
	return true
}

func (c *call) finish(exit *Exit) {
	c.mu.Lock()
	if c.exit == nil {
		c.exit = exit
	}
	c.mu.Unlock()
	c.announce()
}

func (c *call) announce() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// state gives the exit, nil as long as there is none, and what is closed when
// anything happens after this moment.
func (c *call) state() (*Exit, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exit, c.changed
}

// stop asks for the end of the work. Asking an attempt that is over is no error.
func (c *call) stop() error {
	if exit, _ := c.state(); exit != nil {
		return nil
	}
	return c.tell(orderStop, time.Second)
}

// tell gives the supervisor an order. A fifo that stays full of orders has them
// all already.
func (c *call) tell(order byte, patience time.Duration) error {
	_ = c.control.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.control.Write([]byte{order})
	if errors.Is(err, os.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

func (c *call) status() Status {
	var s started
	_ = readJSON(c.dir.started(), &s) // not there yet: it is about to begin
	status := Status{ID: c.id, Phase: s.Phase, StartedAt: s.At}
	status.Exit, _ = c.state()
	if status.Exit != nil {
		status.Phase = PhaseExited
	}
	if status.Phase == "" {
		status.Phase = PhaseSetup
	}
	if info, err := os.Stat(c.dir.log()); err == nil {
		status.LogSize = info.Size()
	}
	return status
}
