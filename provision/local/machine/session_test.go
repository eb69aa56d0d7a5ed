package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestEnvironment(t *testing.T) {
	t.Setenv("LEVIN_TEST_SECRET", "hush")
	t.Setenv("LC_TEST", "passed")
	r := newRig(t)
	o := r.options("m1")
	info := r.start(o)
	client := r.dial(info)
	home, tmp := filepath.Join(o.Dir, "home"), filepath.Join(o.Dir, "tmp")
	for command, want := range map[string]string{
		"pwd":                                 home,
		"echo $HOME":                          home,
		"echo $TMPDIR":                        tmp,
		"echo $LEVIN_MACHINE_PID":             strconv.Itoa(info.PID),
		"echo $LEVIN_MACHINE_DIR":             o.Dir,
		"echo $LC_TEST":                       "passed",
		"echo [$LEVIN_TEST_SECRET]":           "[]",
		"test -n \"$PATH\" && echo ok":        "ok",
		"ls -l /proc/self/fd | grep -c lock$": "0",
	} {
		if strings.Contains(command, "/proc/") {
			command += " || true"
		}
		if got := r.output(client, command); got != want {
			t.Errorf("%s: got %q, want %q", command, got, want)
		}
	}
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Setenv("LANG", "tlh"); err != nil {
		t.Error(err)
	}
	if err := s.Setenv("LD_PRELOAD", "x"); err == nil {
		t.Error("any variable is accepted")
	}
	if out, err := s.Output("echo $LANG"); err != nil || string(out) != "tlh\n" {
		t.Errorf("got %q, %v", out, err)
	}
	// The machine's own process shows nothing of its starter either.
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", info.PID)); err == nil && bytes.Contains(b, []byte("hush")) {
		t.Error("the starter's environment leaks to the machine")
	}
}

func TestWrongKeyIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	info := r.start(r.options("m1"))
	other := newRig(t)
	if _, err := dial(info, other.signer); err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
		t.Errorf("another key: %v", err)
	}
	hostKey, _, _, _, _ := ssh.ParseAuthorizedKey([]byte(info.HostKey))
	_, err := ssh.Dial("tcp", net.JoinHostPort(info.Address, strconv.Itoa(info.Port)), &ssh.ClientConfig{
		User: info.User, HostKeyCallback: ssh.FixedHostKey(hostKey), Auth: []ssh.AuthMethod{ssh.Password("x")},
	})
	if err == nil {
		t.Error("no key at all is let in")
	}
}

func TestExit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	client := r.dial(r.start(r.options("m1")))
	for _, tt := range []struct {
		command, signal string
		status          int
	}{
		{"true", "", 0},
		{"exit 7", "", 7},
		{"kill -KILL $$", "KILL", 0},
		{"kill -TERM $$", "TERM", 0},
		{"no-such-program-here", "", 127},
	} {
		s, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		err = s.Run(tt.command)
		var exit *ssh.ExitError
		switch {
		case err == nil && tt.status == 0 && tt.signal == "":
		case !errors.As(err, &exit):
			t.Errorf("%s: %v", tt.command, err)
		case tt.signal != "" && exit.Signal() != tt.signal:
			t.Errorf("%s: ended by %q", tt.command, exit.Signal())
		case tt.signal == "" && exit.ExitStatus() != tt.status:
			t.Errorf("%s: exit %d", tt.command, exit.ExitStatus())
		}
		s.Close()
	}
}

func TestStdinAndBulk(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	client := r.dial(r.start(r.options("m1")))
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // 8 MiB
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	s.Stdin = bytes.NewReader(data)
	out, err := s.Output("cat; echo done >&2") // ends only if the end of stdin arrives
	if err != nil || !bytes.Equal(out, data) {
		t.Errorf("cat gave %d bytes back of %d, %v", len(out), len(data), err)
	}
	// A program that does not read does not hold the client up.
	s2, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := s2.StdinPipe()
	if err := s2.Start("mkfifo wait; exec 0<&-; read x < wait"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(data); err != nil {
		t.Error(err)
	}
	r.output(client, "until test -p wait; do :; done; echo > wait")
	if err := s2.Wait(); err != nil {
		t.Error(err)
	}
}

func TestManySessionsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	client := r.dial(r.start(r.options("m1")))
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			s, err := client.NewSession()
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			want := strconv.Itoa(i)
			out, err := s.Output("read x <&- 2>/dev/null; echo " + want + "; exit 0")
			if err != nil || strings.TrimSpace(string(out)) != want {
				t.Errorf("session %d: %q, %v", i, out, err)
			}
		})
	}
	wg.Wait()
}

// A program may be over before the client has the answer to its request.
func TestProgramsThatExitAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	client := r.dial(r.start(r.options("m1")))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				s, err := client.NewSession()
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.Run(":"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestSignal(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	client := r.dial(r.start(r.options("m1")))
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := s.StdoutPipe()
	if err := s.Start("trap 'exit 9' USR1; echo up; while :; do sleep 0.01; done"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := s.Signal(ssh.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	// The signal goes to the whole group: sleep is ended by it, the shell's trap runs.
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 9 {
		t.Errorf("got %v", err)
	}
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	client := r.dial(r.start(r.options("m1")))
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.RequestPty("xterm", 24, 80, ssh.TerminalModes{}); err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	out, _ := s.StdoutPipe()
	if err := s.Start(`stty size; echo $TERM; read x
		until [ "$(stty size)" = "50 132" ]; do :; done; test -t 1 && echo "$x on a terminal"`); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len("24 80\r\nxterm\r\n"))
	if _, err := io.ReadFull(out, buf); err != nil || string(buf) != "24 80\r\nxterm\r\n" {
		t.Fatalf("%q, %v", buf, err)
	}
	if err := s.WindowChange(50, 132); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, "go\n")
	rest, err := io.ReadAll(out)
	if err != nil || !strings.Contains(string(rest), "go on a terminal\r\n") {
		t.Errorf("%q, %v", rest, err)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
}

func TestShellOnTerminal(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	client := r.dial(r.start(r.options("m1")))
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.RequestPty("dumb", 24, 80, ssh.TerminalModes{}); err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	out, _ := s.StdoutPipe()
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, "expr 6 '*' 7; exit 3\n")
	all, _ := io.ReadAll(out)
	if !strings.Contains(string(all), "42\r\n") {
		t.Errorf("the shell said %q", all)
	}
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 3 {
		t.Errorf("got %v", err)
	}
}

func TestForward(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	client := r.dial(r.start(r.options("m1")))
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		conn, err := echo.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.Copy(conn, conn)
	})
	conn, err := client.Dial("tcp", echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "hello")
	conn.(interface{ CloseWrite() error }).CloseWrite()
	if b, err := io.ReadAll(conn); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	conn.Close()
	for _, addr := range []string{"192.0.2.1:80", "example.com:80", "0.0.0.0:1"} {
		if _, err := client.Dial("tcp", addr); err == nil || !strings.Contains(err.Error(), "only loopback") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestKeepaliveIsAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	client := r.dial(r.start(r.options("m1")))
	if _, _, err := client.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		t.Error(err)
	}
}

// A process in the session's own group ends with its connection; one that made a
// session of its own survives it, and dies with the machine.
func TestLostConnection(t *testing.T) {
	linuxOnly(t)
	t.Parallel()
	r := newRig(t)
	info := r.start(r.options("m1"))
	first := r.dial(info)
	s, err := first.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := s.StdoutPipe()
	err = s.Start(`setsid sh -c 'echo $$ > daemon; exec sleep 1000' </dev/null >/dev/null 2>&1 &
		until test -s daemon; do :; done
		trap '' HUP TERM
		sleep 1000 >/dev/null 2>&1 &
		echo $$ $! $(cat daemon)
		while :; do wait; done`)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(buf[:n]))
	daemon := pidOf(t, fields[2])
	first.Close()
	gone(t, pidOf(t, fields[0])) // ignores TERM, so it takes KILL
	gone(t, pidOf(t, fields[1]))
	if !running(daemon) {
		t.Error("a process with a session of its own died with the connection")
	}
	r.stop("m1")
	gone(t, daemon)
}

func TestLostTerminal(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	info := r.start(r.options("m1"))
	client := r.dial(info)
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 24, 80, ssh.TerminalModes{}); err != nil {
		t.Fatal(err)
	}
	out, _ := s.StdoutPipe()
	if err := s.Start("echo $$; exec sleep 1000"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	gone(t, pidOf(t, string(buf[:n])))
}
