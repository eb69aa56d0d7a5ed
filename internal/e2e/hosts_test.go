package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/cluster"
)

// sshd is a real OpenSSH server on loopback, with the user's own key.
type sshd struct {
	port     int
	hostKey  string // authorized_keys form
	identity string // private key file
	user     string
}

// newSSHD starts a server that logs the test's own user in; without OpenSSH the
// test is skipped.
func newSSHD(t *testing.T, u *person) *sshd {
	t.Helper()
	path := "/usr/sbin/sshd"
	if _, err := os.Stat(path); err != nil {
		t.Skip("there is no OpenSSH server here (Debian: openssh-server)")
	}
	if os.Getuid() == 0 { // sshd run by root wants its separation folder
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Skipf("sshd needs /run/sshd: %v", err)
		}
	}
	dir := t.TempDir()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := &sshd{identity: filepath.Join(dir, "id"), user: me.Username, port: freePort(t)}
	s.hostKey = writeKey(t, filepath.Join(dir, "host"))
	authorized := writeKey(t, s.identity)
	if err := os.WriteFile(filepath.Join(dir, "authorized"), []byte(authorized+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Commands run with a home of the test's own, so that what a host keeps can be
	// looked at and goes with the test.
	home := filepath.Join(dir, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`Port %d
ListenAddress 127.0.0.1
HostKey %s
AuthorizedKeysFile %s
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
SetEnv HOME=%s
`, s.port, filepath.Join(dir, "host"), filepath.Join(dir, "authorized"), home)
	u.hostHomes = append(u.hostHomes, home)
	file := filepath.Join(dir, "sshd_config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-D", "-e", "-f", file)
	log, err := os.Create(filepath.Join(dir, "sshd.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("sshd says:\n%s", b)
		}
	})
	waitUntil(t, "sshd listens", func() bool {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", s.port), time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return s
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// writeKey makes a key pair and gives its public half.
func writeKey(t *testing.T, file string) string {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// rack writes settings with one host of two slots.
func (s *sshd) rack(hostKey string) string {
	return fmt.Sprintf(`
cloud: rack
clouds:
  rack:
    module: ssh
    hosts:
      - {name: box, address: 127.0.0.1, port: %d, user: %s, identity: %s, host_key: "%s", slots: 2, cpus: 4, memory: 8GB, gpu: T4, price: 36}
`, s.port, s.user, s.identity, hostKey)
}

const rackApp = `
name: rack
components:
  train:
    resources: {gpu: T4, cpus: 2..}
    for_each: [a, b, c]
    run: "echo training ${each} on $(uname -s); echo ${each} > model"
    outputs: [model]
  report:
    needs: [train]
    run: cat inputs/train/a/model inputs/train/b/model inputs/train/c/model
`

// TestOwnHosts runs an app on a real sshd: two slots for three calls, real
// prices, and a host that is clean and free afterwards.
func TestOwnHosts(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	s := newSSHD(t, u)
	u.settings(s.rack(s.hostKey))
	o := u.run(0, u.app(rackApp, nil))
	if got := o.logs("report"); got != "a\nb\nc" {
		t.Errorf("report: %q", got)
	}
	up, most := 0, 0
	for _, e := range o.events {
		switch e.Type {
		case cluster.EventMachineReady:
			up++
			most = max(most, up)
		case cluster.EventMachineGone:
			up--
		}
	}
	if most > 2 {
		t.Errorf("%d machines at the same time on two slots", most)
	}
	finished := o.find(cluster.EventRunFinished)
	if len(finished) != 1 || *finished[0].Cost <= 0 || *finished[0].Saved <= 0 {
		t.Errorf("finished: %+v", finished)
	}
	u.checkClean()
	u.checkHosts()
	if doctor := u.levin("doctor", "--cloud", "rack"); doctor.code != 0 || !strings.Contains(doctor.stdout, "rack/box") {
		t.Errorf("doctor: %d\n%s%s", doctor.code, doctor.stdout, doctor.stderr)
	}
	u.checkHosts()
}

// TestOwnHostInterrupted: Ctrl-C while work runs on a host; nothing of it stays.
func TestOwnHostInterrupted(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	s := newSSHD(t, u)
	u.settings(s.rack(s.hostKey))
	p := u.start("run", u.app(slow, nil), "--json")
	p.until("work under way", func(e cluster.Event) bool { return e.Type == cluster.EventCallLog && e.Line == "started" })
	p.signal(syscall.SIGINT)
	if o := p.wait(); o.code != 130 {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	u.checkClean()
	u.checkHosts()
}

// TestOwnHostKilledController: `levin down` ends the agent on the host and frees
// its slot.
func TestOwnHostKilledController(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	s := newSSHD(t, u)
	u.settings(s.rack(s.hostKey))
	p := u.start("run", u.app(slow, nil), "--json")
	e := p.until("work under way", func(e cluster.Event) bool { return e.Type == cluster.EventCallLog && e.Line == "started" })
	p.signal(syscall.SIGKILL)
	p.wait()
	if down := u.levin("down", e.Run); down.code != 0 {
		t.Fatalf("down: %d\n%s%s", down.code, down.stdout, down.stderr)
	}
	u.checkClean()
	u.checkHosts()
}

// TestHostKeyMismatch: the host is not who the settings say; both fingerprints
// are shown, nothing is shipped, and it takes no second try.
func TestHostKeyMismatch(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	s := newSSHD(t, u)
	other := writeKey(t, filepath.Join(t.TempDir(), "other"))
	u.settings(s.rack(other))
	o := u.run(3, u.app(rackApp, nil))
	for _, key := range []string{s.hostKey, other} {
		parsed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		if print := ssh.FingerprintSHA256(parsed); !strings.Contains(o.stdout, print) {
			t.Errorf("the fingerprint %s is not shown:\n%s", print, o.stdout)
		}
	}
	u.checkClean()
	for _, home := range u.hostHomes {
		if left, _ := os.ReadDir(home); len(left) > 0 {
			t.Errorf("something was written to the host: %s", names(left))
		}
	}
}

// checkHosts looks at what own hosts keep: the agent's binary, and nothing else.
func (u *person) checkHosts() {
	u.t.Helper()
	for _, home := range u.hostHomes {
		if left, _ := os.ReadDir(filepath.Join(home, ".levin-agent", "machines")); len(left) > 0 {
			u.t.Errorf("a host still has folders of machines: %s", names(left))
		}
		// The answer to "shut down" is the agent's last word; its process ends right
		// after it, and nobody on this side hears of that.
		waitUntil(u.t, "the agent on a host ends", func() bool { return len(processesWith(home)) == 0 })
	}
}
