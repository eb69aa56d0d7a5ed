package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"sync"

	"github.com/levinrun/levin/cluster"
)

// sshd is OpenSSH's server on loopback, with keys of its own. Both sides of a
// comparison talk to it.
type sshd struct {
	cmd     *exec.Cmd
	reading sync.WaitGroup
	target  cluster.Target
	rsh     string // for rsync -e: ssh with the same key and the same pinned host key
	home    string // $HOME of what runs there
}

// sshdAt is where distributions put it; it is seldom on PATH, and wants to be
// started by its whole name.
const sshdAt = "/usr/sbin/sshd"

// missingForShip says which program is missing to compare ships, "" when none is.
func missingForShip() string {
	if _, err := os.Stat(sshdAt); err != nil {
		return "OpenSSH's server is not installed (" + sshdAt + ")"
	}
	for _, name := range []string{"rsync", "ssh"} {
		if _, err := exec.LookPath(name); err != nil {
			return name + " is not installed"
		}
	}
	return ""
}

func startSSHD(p *place) (*sshd, error) {
	if os.Getuid() == 0 { // sshd run by root wants its separation folder
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return nil, err
		}
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	hostKey, err := newKey(p.path("sshd", "host"))
	if err != nil {
		return nil, err
	}
	clientKey, err := newKey(p.path("sshd", "client"))
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &sshd{
		home: p.path("sshd", "home"),
		target: cluster.Target{
			Address: "127.0.0.1", Port: port, User: me.Username,
			HostKeys: []string{hostKey.public}, KeyFiles: []string{clientKey.file},
		},
	}
	known := p.path("sshd", "known_hosts")
	s.rsh = fmt.Sprintf("ssh -F none -p %d -l %s -i %s -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=%s",
		port, me.Username, clientKey.file, known)
	config := p.path("sshd", "config")
	for file, text := range map[string]string{
		known:                        fmt.Sprintf("[127.0.0.1]:%d %s\n", port, hostKey.public),
		p.path("sshd", "authorized"): clientKey.public + "\n",
		config: strings.Join([]string{
			fmt.Sprintf("ListenAddress 127.0.0.1:%d", port), "HostKey " + hostKey.file, "AuthorizedKeysFile " + p.path("sshd", "authorized"),
			"PidFile none", "UsePAM no", "StrictModes no", "PasswordAuthentication no", "PermitRootLogin prohibit-password",
			"SetEnv HOME=" + s.home,
		}, "\n") + "\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(s.home, 0o700); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(sshdAt, "-D", "-e", "-f", config)
	s.cmd.Env = p.env
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	return s, s.awaitListening(stderr)
}

// awaitListening reads what the server says, to its end.
func (s *sshd) awaitListening(stderr io.Reader) error {
	listening := make(chan error, 1)
	s.reading.Go(func() {
		var words []string
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if strings.Contains(lines.Text(), "Server listening") {
				listening <- nil
			} else if len(words) < 20 {
				words = append(words, lines.Text())
			}
		}
		select {
		case listening <- errors.New("sshd does not start: " + strings.Join(words, "\n")):
		default: // it listened before it ended
		}
	})
	err := <-listening
	if err != nil {
		s.stop()
	}
	return err
}

func (s *sshd) stop() {
	s.cmd.Process.Kill()
	s.reading.Wait()
	s.cmd.Wait()
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
