package sshtest

import (
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
)

// session is one channel that runs one command or shell.
type session struct {
	server  *Server
	channel ssh.Channel
	env     []string
	size    *pty.Winsize // not nil: a terminal was asked for
	tty     *os.File
	wg      sync.WaitGroup
}

func (s *session) serve(requests <-chan *ssh.Request) {
	for r := range requests {
		ok := false
		switch r.Type {
		case "exec":
			var m struct{ Command string }
			if ok = ssh.Unmarshal(r.Payload, &m) == nil; ok {
				s.server.mu.Lock()
				s.server.execs = append(s.server.execs, m.Command)
				s.server.mu.Unlock()
				ok = s.run("-c", s.server.Before+m.Command)
			}
		case "shell":
			ok = s.run()
		case "pty-req":
			var m struct {
				Term                      string
				Cols, Rows, Width, Height uint32
				Modes                     string
			}
			if ok = ssh.Unmarshal(r.Payload, &m) == nil; ok {
				s.size = &pty.Winsize{Cols: uint16(m.Cols), Rows: uint16(m.Rows)}
				s.env = append(s.env, "TERM="+m.Term)
			}
		case "window-change":
			var m struct{ Cols, Rows, Width, Height uint32 }
			if ssh.Unmarshal(r.Payload, &m) == nil && s.tty != nil {
				ok = pty.Setsize(s.tty, &pty.Winsize{Cols: uint16(m.Cols), Rows: uint16(m.Rows)}) == nil
			}
		}
		if r.WantReply {
			r.Reply(ok, nil)
		}
	}
	s.wg.Wait()
}

// run starts /bin/sh. As with OpenSSH, what the command leaves behind lives on,
// and a command whose channel is closed only finds its stdio closed.
func (s *session) run(args ...string) bool {
	cmd := exec.Command("/bin/sh", args...)
	cmd.Env, cmd.Dir = s.env, s.server.Home
	if s.size != nil {
		return s.runTerminal(cmd)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return false
	}
	// Pipes of our own, so that the exit does not wait for whoever inherited them.
	outR, outW, err := os.Pipe()
	if err != nil {
		return false
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return false
	}
	cmd.Stdout, cmd.Stderr = outW, errW
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	outW.Close()
	errW.Close()
	if err != nil {
		outR.Close()
		errR.Close()
		return false
	}
	s.wg.Go(func() {
		io.Copy(in, s.channel)
		in.Close()
	})
	s.wg.Go(func() {
		var out sync.WaitGroup
		out.Go(func() { copyOut(s.channel, outR) })
		out.Go(func() { copyOut(s.channel.Stderr(), errR) })
		out.Wait()
		s.exit(cmd.Wait())
	})
	return true
}

func copyOut(to io.Writer, from *os.File) {
	io.Copy(to, from)
	from.Close()
}

func (s *session) runTerminal(cmd *exec.Cmd) bool {
	tty, err := pty.StartWithSize(cmd, s.size)
	if err != nil {
		return false
	}
	s.tty = tty
	s.wg.Go(func() { io.Copy(tty, s.channel) })
	s.wg.Go(func() {
		io.Copy(s.channel, tty)
		s.exit(cmd.Wait())
		tty.Close()
	})
	return true
}

func (s *session) exit(err error) {
	var status struct{ Status uint32 }
	if err != nil {
		status.Status = 255
		if e, ok := err.(*exec.ExitError); ok {
			if e.ExitCode() >= 0 {
				status.Status = uint32(e.ExitCode())
			} else {
				signal := struct {
					Signal  string
					Core    bool
					Message string
					Lang    string
				}{Signal: map[syscall.Signal]string{syscall.SIGKILL: "KILL", syscall.SIGTERM: "TERM"}[e.Sys().(syscall.WaitStatus).Signal()]}
				s.channel.SendRequest("exit-signal", false, ssh.Marshal(signal))
				s.channel.Close()
				return
			}
		}
	}
	s.channel.SendRequest("exit-status", false, ssh.Marshal(status))
	s.channel.Close()
}

// pipe joins two streams until both have ended.
func pipe(channel ssh.Channel, c interface {
	io.ReadWriteCloser
	CloseWrite() error
}) {
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(c, channel)
		c.CloseWrite()
	})
	wg.Go(func() {
		io.Copy(channel, c)
		channel.CloseWrite()
	})
	wg.Wait()
	channel.Close()
	c.Close()
}
