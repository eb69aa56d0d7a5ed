package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What supervise and serve tell each other: one byte each.
const (
	eventLog     = 'l' // the log has grown
	eventPhase   = 'p' // another phase has begun
	eventExit    = 'x' // exit.json is there
	orderStop    = 's' // on the control fifo: stop the work
	orderPreempt = 'p' // on the control fifo: the machine is taken back, see preempted.json
)

const (
	// What the work left behind in the background may still finish what it was
	// doing (a tee writing its last line) for this long, and is killed then.
	leftoverGrace = 100 * time.Millisecond
	// A process that cannot even be killed is given up after this long.
	killLimit = 5 * time.Second
	// Whoever holds the work's output open after all that cannot delay the exit
	// by more than this.
	drainLimit = 250 * time.Millisecond
	maxResult  = 1 << 20
)

// order is what serve hands to supervise on its stdin: with it come the
// secrets, which are in no file and no argument list.
type order struct {
	Start   StartRequest `json:"start"`
	Machine string       `json:"machine"`
	Dir     string       `json:"dir"` // the agent's folder
}

// started is started.json.
type started struct {
	At    time.Time `json:"at"`
	Phase Phase     `json:"phase"`
}

// supervisor owns the process tree of one attempt, its log and its exit. It is
// a process of its own, so that neither a broken connection nor the end of serve
// touches the work.
type supervisor struct {
	req     StartRequest
	layout  layout
	dir     callDir
	family  *family
	events  int // file descriptor of the fifo; raw, since a write must not wait
	begin   time.Time
	growing *growing       // outputs that are digested while the work writes them; nil when none are
	stop    chan struct{}  // capacity 1: the work has to stop
	preempt chan struct{}  // capacity 1: the work has to save what it has
	signals chan os.Signal // the same, asked for by a signal
}

// supervise is the verb: it reads its order from stdin, runs the attempt and
// leaves its exit in the attempt's folder.
func supervise(stdin io.Reader) error {
	// The work dies with the thread that started it, so that must be the main one.
	runtime.LockOSThread()
	unix.CloseOnExec(lockFD) // the lock is ours, not the work's

	var o order
	if err := json.NewDecoder(stdin).Decode(&o); err != nil {
		return fmt.Errorf("reading the order: %w", err) // serve died while sending it: nothing has happened yet
	}
	s := &supervisor{req: o.Start, layout: layout{machine: o.Machine, dir: o.Dir},
		stop: make(chan struct{}, 1), preempt: make(chan struct{}, 1), signals: make(chan os.Signal, 1)}
	s.dir = s.layout.call(o.Start.ID)
	return s.supervise()
}

func (s *supervisor) supervise() error {
	s.begin = time.Now()
	signal.Notify(s.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(s.signals)
	control, err := s.open()
	if err != nil {
		os.Remove(s.dir.reserve())
		return writeJSON(s.dir.exit(), s.failed(PhaseRun, 1, err))
	}
	defer unix.Close(s.events)
	var listener sync.WaitGroup
	listener.Go(func() { s.obey(control) })
	defer listener.Wait()
	defer control.Close()

	exit := s.attempt()
	os.Remove(s.dir.reserve())
	err = writeJSON(s.dir.exit(), exit)
	if err != nil { // how it ended is worth more than what it made
		exit.Result, exit.Artifacts, exit.Error = nil, nil, "leaving the exit: "+asError(err).Message
		err = writeJSON(s.dir.exit(), exit)
	}
	s.tell(eventExit)
	return err
}

// open makes the connections to serve. Opened for both directions, a fifo
// neither blocks nor breaks when the other side is not there.
func (s *supervisor) open() (control *os.File, err error) {
	if err := becomeSubreaper(); err != nil {
		return nil, err
	}
	if s.events, err = unix.Open(s.dir.events(), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("opening the events of attempt %s: %w", s.req.ID, err)
	}
	control, err = os.OpenFile(s.dir.control(), os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		unix.Close(s.events)
	}
	return control, err
}

// obey passes on the orders that come on the control fifo.
func (s *supervisor) obey(control *os.File) {
	var buf [16]byte
	for {
		n, err := control.Read(buf[:])
		if err != nil {
			return
		}
		for order, to := range map[byte]chan struct{}{orderStop: s.stop, orderPreempt: s.preempt} {
			if bytes.IndexByte(buf[:n], order) < 0 {
				continue
			}
			select {
			case to <- struct{}{}:
			default:
			}
		}
	}
}

// tell wakes serve. When nobody has listened for a long time the fifo is full,
// which loses nothing: whoever listens next looks at the files first.
func (s *supervisor) tell(event byte) { _, _ = unix.Write(s.events, []byte{event}) }

// attempt runs setup and work and gives how it ended.
func (s *supervisor) attempt() Exit {
	phase := PhaseRun
	if s.needsSetup() {
		phase = PhaseSetup
	}
	if err := s.enter(phase); err != nil {
		return s.failed(phase, 1, err)
	}
	pump, err := openPump(s.dir.log(), s.req.Secrets, func() { s.tell(eventLog) })
	if err != nil {
		return s.failed(phase, 1, err)
	}
	s.family = newFamily()
	exit := s.runPhases(phase, pump)
	s.endFamily(&exit)
	if err := pump.finish(); err != nil && exit.Error == "" {
		exit.Error = "writing the log: " + asError(err).Message
	}
	s.collect(&exit)
	return exit
}

func (s *supervisor) failed(phase Phase, code int, err error) Exit {
	return Exit{Code: code, At: time.Now(), Phase: phase, Error: asError(err).Message}
}

func (s *supervisor) enter(phase Phase) error {
	if err := writeJSON(s.dir.started(), started{At: s.begin, Phase: phase}); err != nil {
		return err
	}
	s.tell(eventPhase)
	return nil
}

// runPhases runs setup, when it is needed, and then the work.
func (s *supervisor) runPhases(phase Phase, pump *pump) Exit {
	var deadline <-chan time.Time
	if s.req.Timeout > 0 {
		timer := time.NewTimer(s.req.Timeout)
		defer timer.Stop()
		deadline = timer.C
	}
	if phase == PhaseSetup {
		if err := s.forgetSetup(); err != nil {
			return s.failed(phase, 1, err)
		}
		exit := s.runOne(PhaseSetup, []string{"/bin/sh", "-c", s.req.Setup}, pump, deadline)
		if exit.Code != 0 || exit.Error != "" || exit.Stopped || exit.TimedOut || exit.Preempted {
			return exit
		}
		if err := s.rememberSetup(); err != nil {
			return s.failed(phase, 1, err)
		}
		if err := s.enter(PhaseRun); err != nil {
			return s.failed(PhaseRun, 1, err)
		}
	}
	args := s.req.Args
	if s.req.Shell != "" {
		args = []string{"/bin/sh", "-c", s.req.Shell}
	}
	s.digestAhead()
	return s.runOne(PhaseRun, args, pump, deadline)
}

// digestAhead begins to digest outputs while the work writes them. Without it
// they are digested at the end.
func (s *supervisor) digestAhead() {
	if len(s.req.Outputs) == 0 {
		return
	}
	if root, err := os.OpenRoot(s.layout.work(s.req.Folder)); err == nil {
		s.growing = startGrowing(root, s.req.Outputs)
	}
}

// runOne runs one main process to its end: its own, or the one that a stop or
// the timeout puts to it.
func (s *supervisor) runOne(phase Phase, args []string, pump *pump, deadline <-chan time.Time) Exit {
	dir := s.layout.work(s.req.Folder)
	env := workEnv(os.Environ(), s.req, s.dir)
	program, err := lookProgram(args[0], dir, env)
	var ended <-chan mainExit
	if err == nil {
		ended, err = s.family.start(&exec.Cmd{Path: program, Args: args, Dir: dir, Env: env,
			Stdout: pump.in, Stderr: pump.in, SysProcAttr: workAttr()})
	}
	if err != nil {
		code := 126 // as a shell says it: there, but cannot be run
		if errors.Is(err, fs.ErrNotExist) {
			code = 127
		}
		return s.failed(phase, code, fmt.Errorf("the work could not be started: %w", err))
	}

	exit := Exit{Phase: phase}
	grace := s.grace()
	var end mainExit
	select {
	case end = <-ended:
		exit.Code, exit.At = end.code, end.at
		return exit
	case <-s.stop:
		exit.Stopped = true
	case <-s.signals:
		exit.Stopped = true
	case <-deadline:
		exit.TimedOut = true
	case <-s.preempt:
		exit.Preempted = true
		grace = s.windowLeft()
	}
	end = s.terminate(ended, grace)
	exit.Code, exit.At = end.code, end.at
	return exit
}

// terminate gives the whole tree the chance to end itself, and kills what is
// left after the grace.
func (s *supervisor) terminate(ended <-chan mainExit, grace time.Duration) mainExit {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	s.family.signal(syscall.SIGTERM)
	s.family.signal(syscall.SIGCONT) // stopped processes could not hear it
	select {
	case <-s.family.gone():
	case <-timer.C:
		s.family.kill(killLimit)
	}
	select {
	case end := <-ended:
		return end
	default:
		return mainExit{code: 128 + int(syscall.SIGKILL), at: time.Now()} // it could not even be killed
	}
}

func (s *supervisor) grace() time.Duration {
	if s.req.Grace == 0 {
		return DefaultGrace
	}
	return s.req.Grace
}

// endFamily leaves no process of the work behind.
func (s *supervisor) endFamily(exit *Exit) {
	timer := time.NewTimer(leftoverGrace)
	defer timer.Stop()
	select {
	case <-s.family.gone():
		if treeIsComplete {
			s.family.close()
			return
		}
	case <-timer.C:
	}
	if s.family.kill(killLimit) {
		s.family.close()
	} else if exit.Error == "" {
		exit.Error = "processes of the work could not be killed"
	}
}

// collect reads the result and describes the outputs.
func (s *supervisor) collect(exit *Exit) {
	note := func(err error) {
		if err != nil && exit.Error == "" {
			exit.Error = asError(err).Message
		}
	}
	if s.growing != nil {
		s.growing.finish()
		defer s.growing.root.Close()
	}
	result, err := readResult(s.dir.result())
	note(err)
	exit.Result = result
	if !exit.Preempted && (len(s.req.Outputs) == 0 || exit.Phase == PhaseSetup) {
		return
	}
	root, err := os.OpenRoot(s.layout.work(s.req.Folder))
	if err != nil {
		note(err)
		return
	}
	defer root.Close()
	outputs, missing, err := findOutputs(root, s.req.Outputs)
	note(err)
	exit.Missing = missing
	if exit.Preempted = exit.Preempted && s.unfinished(exit); exit.Preempted {
		note(s.saved(exit, root))
		return
	}
	digest := func(name string, buf []byte) (string, int64, error) { return hashFile(root, name, buf) }
	if s.growing != nil {
		digest = s.growing.digest
	}
	exit.Artifacts, err = describe(outputs, digest)
	note(err)
}

// readResult gives the work's result, nil when it left none.
func readResult(path string) (json.RawMessage, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the result: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("the result is not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxResult+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the result: %w", err)
	case len(data) > maxResult:
		return nil, errors.New("the result is larger than 1 MiB")
	case len(data) == 0:
		return nil, nil
	case !json.Valid(data):
		return nil, errors.New("the result is not JSON")
	}
	return data, nil
}

// setupMark is the file that holds the key of the setup that was done in the
// folder: one, since a setup changes what the one before it made.
func (s *supervisor) setupMark() string { return s.layout.sync(s.req.Folder) + "/setup" }

func (s *supervisor) setupKey() string {
	sum := sha256.Sum256([]byte(s.req.SetupKey))
	return hex.EncodeToString(sum[:])
}

func (s *supervisor) needsSetup() bool {
	if s.req.Setup == "" {
		return false
	}
	done, err := os.ReadFile(s.setupMark())
	return err != nil || s.req.SetupKey == "" || string(done) != s.setupKey()
}

func (s *supervisor) forgetSetup() error { return ignoreGone(os.Remove(s.setupMark())) }

func (s *supervisor) rememberSetup() error {
	if s.req.SetupKey == "" {
		return nil
	}
	return writeWhole(s.setupMark(), []byte(s.setupKey()))
}
