package machine

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
)

const (
	bulkBuffer = 128 << 10 // for stdin and stdout; only what is used of it costs memory
	ptyDrain   = 250 * time.Millisecond
	hangupWait = 2 * time.Second // between TERM and KILL when a client is lost
)

// session serves one session channel: at most one command or shell.
//
// It behaves as OpenSSH's server does: the process leads its own session and
// process group; when the client is lost while it runs, its group is ended, and a
// process that has made a session of its own lives on; when it has exited, the
// channel stays open until its output is closed.
type session struct {
	server *server
	ch     ssh.Channel
	env    []string

	// turn is held until a request is answered, so that a program which exits at once
	// does not have the channel closed before the client hears that it was started.
	turn sync.Mutex

	term *terminal // set by pty-req
	proc *child    // set once started
	mine []*os.File
	wg   sync.WaitGroup
}

// terminal is a pseudo terminal; both ends are closed with the session.
type terminal struct {
	master, slave *os.File
}

func (s *server) session(request ssh.NewChannel) {
	ch, requests, err := request.Accept()
	if err != nil {
		return
	}
	ses := &session{server: s, ch: ch, env: s.env[:len(s.env):len(s.env)]}
	for req := range requests {
		ses.turn.Lock()
		ok := ses.request(req)
		if req.WantReply {
			req.Reply(ok, nil)
		}
		ses.turn.Unlock()
	}
	// The client has closed the channel, or is gone.
	ses.hangup()
	ses.wg.Wait()
	ch.Close()
}

// request handles one request of the channel and reports whether it was granted.
func (s *session) request(req *ssh.Request) bool {
	switch req.Type {
	case "env":
		var v struct{ Name, Value string }
		if ssh.Unmarshal(req.Payload, &v) != nil || !acceptable(v.Name) || s.proc != nil {
			return false
		}
		s.env = append(s.env, v.Name+"="+v.Value)
		return true
	case "pty-req":
		return s.openTerminal(req.Payload)
	case "window-change":
		var v struct{ Columns, Rows, Width, Height uint32 }
		if ssh.Unmarshal(req.Payload, &v) != nil || s.term == nil {
			return false
		}
		return s.resize(v.Columns, v.Rows, v.Width, v.Height)
	case "exec":
		var v struct{ Command string }
		if ssh.Unmarshal(req.Payload, &v) != nil {
			return false
		}
		return s.start("/bin/sh", []string{"sh", "-c", v.Command})
	case "shell":
		shell := loginShell(s.env)
		return s.start(shell, []string{filepath.Base(shell)})
	case "signal":
		var v struct{ Name string }
		if ssh.Unmarshal(req.Payload, &v) != nil || s.proc == nil {
			return false
		}
		sig, known := signalNamed(v.Name)
		if known {
			s.server.procs.signal(s.proc, sig)
		}
		return known
	}
	return false
}

func (s *session) openTerminal(payload []byte) bool {
	var v struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	if ssh.Unmarshal(payload, &v) != nil || s.term != nil || s.proc != nil {
		return false
	}
	master, slave, err := pty.Open()
	if err != nil {
		return false
	}
	s.term = &terminal{master, slave}
	s.env = append(s.env, "TERM="+v.Term, "SSH_TTY="+slave.Name())
	s.resize(v.Columns, v.Rows, v.Width, v.Height)
	return true
}

func (s *session) resize(columns, rows, width, height uint32) bool {
	return pty.Setsize(s.term.master, &pty.Winsize{
		Cols: uint16(columns), Rows: uint16(rows), X: uint16(width), Y: uint16(height),
	}) == nil
}

// start runs the program that the session is for.
func (s *session) start(path string, argv []string) bool {
	if s.proc != nil {
		return false
	}
	if s.term != nil {
		return s.startOnTerminal(path, argv)
	}
	return s.startOnPipes(path, argv)
}

func (s *session) startOnTerminal(path string, argv []string) bool {
	master, slave := s.term.master, s.term.slave
	fd := slave.Fd()
	err := s.spawn(path, argv, []uintptr{fd, fd, fd}, &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0})
	slave.Close()
	if err != nil {
		master.Close()
		return false
	}
	s.mine = []*os.File{master}
	output := make(chan struct{})
	s.wg.Go(func() { copyBulk(master, s.ch) })
	s.wg.Go(func() {
		defer close(output)
		copyBulk(s.ch, master) // ends with an error once no process has the terminal open
	})
	s.wg.Go(func() {
		<-s.proc.exited
		// What the program has written last is still on its way through the terminal.
		// A process left in the background may hold the terminal for ever.
		select {
		case <-output:
		case <-time.After(ptyDrain):
		}
		s.finish()
	})
	return true
}

func (s *session) startOnPipes(path string, argv []string) bool {
	var mine, theirs [3]*os.File
	closeAll := func(files [3]*os.File) {
		for _, f := range files {
			if f != nil {
				f.Close()
			}
		}
	}
	for i := range mine {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(mine)
			closeAll(theirs)
			return false
		}
		if mine[i], theirs[i] = r, w; i == 0 {
			mine[i], theirs[i] = w, r
		}
		if i < 2 {
			widen(w)
		}
	}
	fds := []uintptr{theirs[0].Fd(), theirs[1].Fd(), theirs[2].Fd()}
	err := s.spawn(path, argv, fds, &syscall.SysProcAttr{Setsid: true})
	closeAll(theirs)
	if err != nil {
		closeAll(mine)
		return false
	}
	s.mine = mine[:]
	s.wg.Go(func() {
		copyBulk(mine[0], s.ch)
		mine[0].Close()
		io.Copy(io.Discard, s.ch) // the program reads no more; do not hold the client up
	})
	var output sync.WaitGroup
	output.Go(func() { copyBulk(s.ch, mine[1]); mine[1].Close() })
	output.Go(func() { io.Copy(s.ch.Stderr(), mine[2]); mine[2].Close() })
	s.wg.Go(func() {
		output.Wait()
		s.ch.CloseWrite()
		<-s.proc.exited
		s.finish()
	})
	return true
}

// spawn starts the program in the machine's home.
func (s *session) spawn(path string, argv []string, fds []uintptr, sys *syscall.SysProcAttr) (err error) {
	s.proc, err = s.server.procs.start(path, argv, &syscall.ProcAttr{
		Dir: s.server.home, Env: lastOfEach(s.env), Files: fds, Sys: sys,
	})
	return err
}

// finish tells the client how the program ended and closes the channel, which
// ends the session's loop of requests.
func (s *session) finish() {
	s.turn.Lock()
	defer s.turn.Unlock()
	status := s.proc.status
	name := ""
	if status.Signaled() {
		name = signalName(status.Signal())
	}
	if name != "" {
		s.ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Name     string
			Core     bool
			Message  string
			Language string
		}{name, status.CoreDump(), "", ""}))
	} else {
		code := status.ExitStatus()
		if status.Signaled() {
			code = 128 + int(status.Signal())
		}
		s.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(code)}))
	}
	s.ch.Close()
}

// hangup ends what the session still has when its channel is closed. After an
// orderly end nothing is left and this does nothing.
func (s *session) hangup() {
	if s.proc == nil {
		if s.term != nil {
			s.term.master.Close()
			s.term.slave.Close()
		}
		return
	}
	for _, f := range s.mine {
		f.Close()
	}
	procs := s.server.procs
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM, syscall.SIGCONT} {
		procs.signal(s.proc, sig)
	}
	select {
	case <-s.proc.exited:
	case <-time.After(hangupWait):
		procs.signal(s.proc, syscall.SIGKILL)
		<-s.proc.exited
	}
}

// copyBulk copies with a buffer that suits bulk data, past the shortcuts that
// would use a smaller one.
func copyBulk(dst io.Writer, src io.Reader) {
	io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, bulkBuffer))
}

// loginShell is the shell of the account, else /bin/sh.
func loginShell(env []string) string {
	for _, v := range env {
		if shell, ok := strings.CutPrefix(v, "SHELL="); ok && filepath.IsAbs(shell) {
			if _, err := exec.LookPath(shell); err == nil {
				return shell
			}
		}
	}
	return "/bin/sh"
}
