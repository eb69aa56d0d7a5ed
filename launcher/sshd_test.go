package launcher_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	sshagent "golang.org/x/crypto/ssh/agent"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher"
	"github.com/levinrun/levin/launcher/agent"
	"github.com/levinrun/levin/launcher/sshtest"
)

// sshd is OpenSSH's server, on loopback, with a home folder of the test's.
type sshd struct {
	target  cluster.Target
	home    string
	dir     string // of the machine, as a local one has it: its ed25519 key is in hostkey
	hostKey ssh.PublicKey
}

// startSSHD runs a real server with host keys of these types. The test is skipped
// where there is none.
func startSSHD(t testing.TB, hostKeyTypes ...string) *sshd {
	t.Helper()
	bin, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("OpenSSH's server is not installed (/usr/sbin/sshd)")
	}
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd wants it when it runs as root
			t.Skipf("sshd cannot run here: %v", err)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir, home := t.TempDir(), t.TempDir()
	keyFile, key := sshtest.NewKey(t)
	authorized := filepath.Join(dir, "authorized_keys")
	if err := os.WriteFile(authorized, []byte(sshtest.AuthorizedKey(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	l.Close()
	lines := []string{
		"ListenAddress " + addr.String(), "AuthorizedKeysFile " + authorized, "PidFile none", "UsePAM no",
		"StrictModes no", "PermitRootLogin yes", "PasswordAuthentication no", "SetEnv HOME=" + home + " LEVIN_MACHINE_DIR=" + dir + " LEVIN_MACHINE_PID=@PID@",
	}
	s := &sshd{home: home, dir: dir, target: cluster.Target{Address: "127.0.0.1", Port: addr.Port, User: me.Username, KeyFiles: []string{keyFile}}}
	if len(hostKeyTypes) == 0 {
		hostKeyTypes = []string{"ed25519"}
	}
	for _, kind := range hostKeyTypes {
		file := filepath.Join(dir, "host_"+kind)
		if kind == "ed25519" {
			file = filepath.Join(dir, "hostkey")
		}
		if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", file).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
		public, err := os.ReadFile(file + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		s.target.HostKeys = append(s.target.HostKeys, strings.TrimSpace(string(public)))
		lines = append(lines, "HostKey "+file)
	}
	if s.hostKey, _, _, _, err = ssh.ParseAuthorizedKey([]byte(s.target.HostKeys[0])); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "sshd_config")
	if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `sed "s/@PID@/$$/" "$2" > "$2.pid" && exec "$1" -D -e -f "$2.pid"`, "sh", bin, config)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listening := make(chan bool, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if strings.Contains(lines.Text(), "Server listening") {
				select {
				case listening <- true:
				default: // again, after a reload
				}
			}
		}
		close(listening)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-read
		cmd.Wait()
	})
	if !<-listening {
		t.Skip("sshd does not start here")
	}
	return s
}

// smallAttempt ships, runs and fetches something, and fails the test when any of
// it does not work.
func smallAttempt(t testing.TB, s *launcher.Session) {
	t.Helper()
	dir := tree(t, map[string]string{"in.txt": strings.Repeat("some text\n", 1000)})
	if _, err := s.Ship(t.Context(), "f", []launcher.Tree{{Root: dir}}); err != nil {
		t.Fatalf("Ship: %v", err)
	}
	if err := s.Start(t.Context(), agent.StartRequest{ID: "c-a1", Folder: "f", Shell: "wc -l < in.txt | tr -d ' '; cp in.txt out.txt", Outputs: []string{"out.txt"}}); err != nil {
		t.Fatalf("Start: %v", err)
	}
	exit, c := wait(t, s, "c-a1")
	if exit.Code != 0 || c.log.String() != "1000\n" {
		t.Errorf("exit %+v, log %q", exit, c.log.String())
	}
	dst := t.TempDir()
	if err := s.Fetch(t.Context(), "c-a1", exit.Artifacts, dst); err != nil {
		t.Fatalf("Fetch: %v", err)
	}
	in, _ := os.ReadFile(filepath.Join(dir, "in.txt"))
	if out, err := os.ReadFile(filepath.Join(dst, "out.txt")); err != nil || !bytes.Equal(in, out) {
		t.Errorf("what came back differs (%v)", err)
	}
}

func TestOpenSSH(t *testing.T) {
	srv := startSSHD(t, "ed25519", "ecdsa", "rsa")
	place(t, srv.home)
	knownHosts := filepath.Join(t.TempDir(), "known_hosts")
	line := fmt.Sprintf("[127.0.0.1]:%d %s\n", srv.target.Port, srv.target.HostKeys[2]) // the RSA key only
	if err := os.WriteFile(knownHosts, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*testing.T, *cluster.Target)
	}{
		{"pinned host key", func(*testing.T, *cluster.Target) {}},
		{"one pinned host key of three", func(_ *testing.T, g *cluster.Target) { g.HostKeys = g.HostKeys[2:] }},
		{"known_hosts", func(_ *testing.T, g *cluster.Target) {
			g.HostKeys, g.KnownHosts = nil, []string{filepath.Join(t.TempDir(), "missing"), knownHosts}
		}},
		{"proxy command", func(t *testing.T, g *cluster.Target) {
			g.ProxyCommand = proxyCommand(t, fmt.Sprintf("127.0.0.1:%d", g.Port))
		}},
		{"proxy jump", func(t *testing.T, g *cluster.Target) { g.Jumps = []cluster.Target{startSSHD(t).target} }},
		{"two proxy jumps", func(t *testing.T, g *cluster.Target) {
			g.Jumps = []cluster.Target{startSSHD(t).target, startSSHD(t).target}
		}},
		{"ssh-agent", func(t *testing.T, g *cluster.Target) {
			t.Setenv("SSH_AUTH_SOCK", authAgent(t, g.KeyFiles[0]))
			g.KeyFiles, g.Agent = nil, true
		}},
		{"encrypted key that ssh-agent holds", func(t *testing.T, g *cluster.Target) {
			t.Setenv("SSH_AUTH_SOCK", authAgent(t, g.KeyFiles[0]))
			locked, _ := sshtest.NewEncryptedKey(t, "secret")
			g.KeyFiles, g.Agent = []string{locked}, true
		}},
		{"another folder", func(_ *testing.T, g *cluster.Target) { g.Home = ".cache/levin-agent" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := srv.target
			c.change(t, &target)
			start := time.Now()
			s := connect(t, config(t), target)
			t.Logf("from dial to an agent that answers: %s", time.Since(start))
			smallAttempt(t, s)
		})
	}
}

// authAgent serves the key on a socket the way ssh-agent does.
func authAgent(t *testing.T, keyFile string) string {
	t.Helper()
	pem, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParseRawPrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	ring := sshagent.NewKeyring()
	if err := ring.Add(sshagent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "a") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = sshagent.ServeAgent(ring, c)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		os.RemoveAll(dir)
	})
	return filepath.Join(dir, "s")
}

func TestOpenSSHHostKeys(t *testing.T) {
	srv := startSSHD(t)
	_, other := sshtest.NewKey(t)
	host := fmt.Sprintf("[127.0.0.1]:%d ", srv.target.Port)
	write := func(text string) string {
		name := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, c := range []struct {
		name       string
		pinned     []string
		knownHosts []string
		kind       cluster.FailureKind
		words      []string
	}{
		{"another key is pinned", []string{sshtest.AuthorizedKey(other)}, nil, cluster.Untrusted,
			[]string{ssh.FingerprintSHA256(srv.hostKey), ssh.FingerprintSHA256(other)}},
		{"another key is in known_hosts", nil, []string{write(host + sshtest.AuthorizedKey(other))}, cluster.Untrusted,
			[]string{ssh.FingerprintSHA256(srv.hostKey), ssh.FingerprintSHA256(other)}},
		{"another host is in known_hosts", nil, []string{write("elsewhere " + sshtest.AuthorizedKey(other))}, cluster.Untrusted,
			[]string{"not known", fmt.Sprintf("ssh-keyscan -p %d 127.0.0.1", srv.target.Port), "host_key"}},
		{"nothing is known", nil, nil, cluster.Untrusted, []string{"not known", "ssh-keyscan"}},
		{"the pinned key is no key", []string{"ssh-ed25519 nonsense"}, nil, cluster.BadInput, []string{"nonsense"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := srv.target
			target.HostKeys, target.KnownHosts = c.pinned, c.knownHosts
			target.PowerOff = true // would be tried for ever if it were not final
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			s, err := launcher.Connect(ctx, config(t), "m", target)
			if err == nil {
				s.Close()
			}
			if cluster.KindOf(err) != c.kind || ctx.Err() != nil {
				t.Fatalf("got %v", err)
			}
			for _, w := range c.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

func TestOpenSSHKeysThatAreNotTaken(t *testing.T) {
	srv := startSSHD(t)
	strange, _ := sshtest.NewKey(t)
	locked, _ := sshtest.NewEncryptedKey(t, "secret")
	for _, c := range []struct {
		name  string
		files []string
		words string
	}{
		{"unknown key", []string{strange}, "does not accept user"},
		{"encrypted key", []string{locked}, "passphrase"},
		{"missing file", []string{filepath.Join(t.TempDir(), "none")}, "no such file"},
		{"no key at all", nil, "no key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := srv.target
			target.KeyFiles = c.files
			s, err := launcher.Connect(t.Context(), config(t), "m", target)
			if err == nil {
				s.Close()
			}
			if cluster.KindOf(err) != cluster.Auth || !strings.Contains(err.Error(), c.words) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOpenSSHCancel(t *testing.T) {
	srv := startSSHD(t)
	s := connect(t, config(t), srv.target)
	if _, err := s.Ship(t.Context(), "f", []launcher.Tree{{Root: t.TempDir()}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context(), agent.StartRequest{ID: "c", Folder: "f", Shell: "echo up; sleep 1000"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Wait(ctx, "c", launcher.Listener{Log: func(int64, []byte) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Wait gave %v", err)
	}
	// The connection is as good as before.
	if err := s.StopWork(t.Context(), "c"); err != nil {
		t.Error(err)
	}
	if exit, _ := wait(t, s, "c"); !exit.Stopped {
		t.Errorf("exit %+v", exit)
	}
}
