package agent

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeSystem puts programs on PATH that write down how they were called, each
// call a line, and do what the script says.
func fakeSystem(t *testing.T, scripts map[string]string) (calls func() []string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "calls")
	for name, script := range scripts {
		text := "#!/bin/sh\necho \"" + name + " $*\" >> " + log + "\ncd " + dir + "\n" + script + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() []string {
		data, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	}
}

func TestHostKeyIsOpenSSHs(t *testing.T) {
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("ssh-keygen is not installed")
	}
	for range 5 {
		public, private, err := newHostKey()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, private, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(keygen, "-y", "-f", file).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != public+" levin" {
			t.Errorf("ssh-keygen reads %q, want %q: %v", got, public, err)
		}
		blob, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(public, ed25519Type+" "))
		if err != nil || len(blob) != 4+len(ed25519Type)+4+ed25519.PublicKeySize {
			t.Errorf("%q: %v", public, err)
		}
	}
}

func TestHostKeyOfARealMachine(t *testing.T) {
	calls := fakeSystem(t, map[string]string{"systemctl": `test "$*" = "reload sshd" || { echo no such unit; exit 5; }`})
	h := host{key: filepath.Join(t.TempDir(), "ssh_host_ed25519_key")}
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(h.key, "old")
	write(h.key+".pub", "old public\n")
	if err := h.verb(t.Context(), []string{"stage-host-key"}, strings.NewReader("new")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tree{"ssh_host_ed25519_key": "old", "ssh_host_ed25519_key.pub": "old public\n", "ssh_host_ed25519_key.levin": "new"}, readTree(t, filepath.Dir(h.key))); diff != "" {
		t.Error("staged: " + diff)
	}
	for range 2 { // again is no error
		if err := h.verb(t.Context(), []string{"use-host-key", "ssh-ed25519 AAAA"}, nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tree{"ssh_host_ed25519_key": "new", "ssh_host_ed25519_key.pub": "ssh-ed25519 AAAA\n"}, readTree(t, filepath.Dir(h.key))); diff != "" {
			t.Error("used: " + diff)
		}
	}
	if info, err := os.Stat(h.key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if diff := cmp.Diff([]string{"systemctl reload ssh", "systemctl reload sshd", "systemctl reload ssh", "systemctl reload sshd"}, calls()); diff != "" {
		t.Error(diff)
	}
	fakeSystem(t, map[string]string{"systemctl": "echo broken; exit 1"})
	if err := h.verb(t.Context(), []string{"use-host-key", "ssh-ed25519 AAAA"}, nil); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("a server that does not reload: %v", err)
	}
}

// There is a timer at every moment, whatever fails and whatever was left by a
// move that was cut short.
func TestExpiryOfARealMachine(t *testing.T) {
	// Units are files called <name>.timer, with what they were armed with.
	const systemctl = `
case "$1" in
is-active) test -e "$3" ;;
stop) test ! -e stop-fails && rm "$2" ;;
reset-failed) ;;
esac
s=$?; test -n "$(ls *.timer 2>/dev/null)" || touch gap; exit $s`
	const systemdRun = `
n=${1#--unit=}; test ! -e run-fails && test ! -e $n.timer && echo "$3" > $n.timer`
	for _, tt := range []struct {
		name   string
		before map[string]string
		after  map[string]string
		fails  bool
	}{
		{"as it booted", map[string]string{"levin-expiry.timer": "boot"}, map[string]string{"levin-expiry-moved.timer": "--on-active=90s"}, false},
		{"moved once", map[string]string{"levin-expiry-moved.timer": "1"}, map[string]string{"levin-expiry.timer": "--on-active=90s"}, false},
		{"cut short", map[string]string{"levin-expiry.timer": "1", "levin-expiry-moved.timer": "2"}, map[string]string{"levin-expiry.timer": "--on-active=90s"}, false},
		{"the new one is not armed", map[string]string{"levin-expiry.timer": "boot", "run-fails": ""}, map[string]string{"levin-expiry.timer": "boot"}, true},
		{"the old one is not stopped", map[string]string{"levin-expiry.timer": "boot", "stop-fails": ""},
			map[string]string{"levin-expiry.timer": "boot", "levin-expiry-moved.timer": "--on-active=90s"}, true},
		{"none at all", map[string]string{}, map[string]string{"levin-expiry-moved.timer": "--on-active=90s"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls := fakeSystem(t, map[string]string{"systemctl": systemctl, "systemd-run": systemdRun})
			dir := filepath.SplitList(os.Getenv("PATH"))[0]
			for name, text := range tt.before {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := newHost().verb(t.Context(), []string{"expire", "90"}, nil)
			if (err != nil) != tt.fails {
				t.Error(err)
			}
			after := map[string]string{}
			for name, text := range readTree(t, dir) {
				if strings.HasSuffix(name, ".timer") {
					after[name] = strings.TrimSpace(text)
				}
			}
			if diff := cmp.Diff(tt.after, after); diff != "" {
				t.Error(diff)
			}
			if _, err := os.Stat(filepath.Join(dir, "gap")); err == nil && len(tt.before) > 0 {
				t.Errorf("there was no timer for a while: %q", calls())
			}
			if last := calls(); !tt.fails && !strings.Contains(strings.Join(last, "\n"), "--collect --on-active=90s systemctl poweroff") {
				t.Errorf("%q", last)
			}
		})
	}
	for _, args := range [][]string{{}, {"expire"}, {"expire", "0"}, {"expire", "-5"}, {"expire", "1h"}, {"stage-host-key", "x"}, {"rm"}} {
		if err := newHost().verb(t.Context(), args, strings.NewReader("")); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
}

// A local machine reads its key and its expiry from files in its folder.
func TestLocalMachine(t *testing.T) {
	hangups := make(chan os.Signal, 4)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	dir := t.TempDir()
	m := newStopped(t)
	m.env = []string{"LEVIN_MACHINE_DIR=" + dir, "LEVIN_MACHINE_PID=" + strconv.Itoa(os.Getpid())}
	m.start()

	var e *Error
	if err := m.call("POST", "/v1/hostkey/use", nil, nil); !errors.As(err, &e) || e.Kind != KindConflict {
		t.Errorf("use of no key: %v", err)
	}
	var first, again HostKey
	m.post("/v1/hostkey", nil, &first)
	m.killServe()
	m.start()
	m.post("/v1/hostkey", nil, &again)
	if again != first || first.Active || !strings.HasPrefix(first.Key, "ssh-ed25519 AAAA") {
		t.Errorf("%+v, then %+v", first, again)
	}
	private, err := os.ReadFile(filepath.Join(dir, "hostkey.new"))
	if err != nil {
		t.Fatal(err)
	}
	if len(hangups) > 0 {
		t.Error("the machine was told too early")
	}
	m.post("/v1/hostkey/use", nil, nil)
	<-hangups
	if got, err := os.ReadFile(filepath.Join(dir, "hostkey")); err != nil || string(got) != string(private) {
		t.Errorf("%q, %v", got, err)
	}
	m.post("/v1/hostkey", nil, &again)
	if !again.Active || again.Key != first.Key {
		t.Errorf("%+v", again)
	}
	for path := range readTree(t, m.home) {
		if data, _ := os.ReadFile(filepath.Join(m.home, path)); strings.Contains(string(data), "PRIVATE KEY") {
			t.Errorf("the private key lies in %s", path)
		}
	}

	at := time.Now().Add(time.Hour).Truncate(time.Second).In(time.FixedZone("", 3600))
	m.post("/v1/expiry", ExpiryRequest{At: at}, nil)
	if got, err := os.ReadFile(filepath.Join(dir, "expiry")); err != nil || strings.TrimSpace(string(got)) != at.UTC().Format(time.RFC3339) {
		t.Errorf("%q, %v", got, err)
	}
	if err := m.call("POST", "/v1/expiry", ExpiryRequest{At: time.Now().Add(-time.Hour)}, nil); !errors.As(err, &e) || e.Kind != KindBadRequest {
		t.Errorf("expiry in the past: %v", err)
	}
}

// Where the agent is not root it asks sudo, without a password, to run itself.
func TestSudo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	m := newStopped(t)
	m.bin = filepath.Join(m.home, "levin-agent")
	if out, err := exec.Command("cp", os.Args[0], m.bin).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const nobody = 65534
	if err := errors.Join(os.Chmod(m.home, 0o755), os.Chown(m.home, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	calls := fakeSystem(t, map[string]string{"sudo": "cat > stdin; exit 0"})
	dir := filepath.SplitList(os.Getenv("PATH"))[0]
	for p := dir; p != "/"; p = filepath.Dir(p) {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm()&0o005 == 0 {
			_ = os.Chmod(p, 0o755) // of the test's own
		}
	}
	_ = os.Chmod(dir, 0o777)
	cmd := m.command("start", "--lease", "5m")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var key HostKey
	m.post("/v1/hostkey", nil, &key)
	if stdin, err := os.ReadFile(filepath.Join(dir, "stdin")); err != nil || !strings.Contains(string(stdin), "OPENSSH PRIVATE KEY") {
		t.Errorf("%q, %v", stdin, err)
	}
	m.post("/v1/hostkey/use", nil, nil)
	m.post("/v1/expiry", ExpiryRequest{At: time.Now().Add(time.Hour)}, nil)
	got := calls()
	if len(got) != 3 || got[0] != "sudo -n "+m.bin+" root stage-host-key" || got[1] != "sudo -n "+m.bin+" root use-host-key "+key.Key ||
		!strings.HasPrefix(got[2], "sudo -n "+m.bin+" root expire 35") {
		t.Errorf("%q", got)
	}
}

// The power button is held while there is something to save, and no longer.
func TestButton(t *testing.T) {
	fakeSystem(t, map[string]string{"systemd-inhibit": `for last; do :; done; echo "$*" > held; "$last"; rm held`, "sudo": `shift; exec "$@"`})
	held := filepath.Join(filepath.SplitList(os.Getenv("PATH"))[0], "held")
	there := func() bool { _, err := os.Stat(held); return err == nil }
	f := newFakeMetadata(t)
	m := newStopped(t, "--lease", "5m", "--notice", "gcp")
	m.env = f.env()
	m.start()
	m.sync("w", tree{})
	if there() {
		t.Error("it is held without work")
	}
	m.startCall(StartRequest{ID: "a", Folder: "w", Shell: "echo up; while [ ! -e go ]; do sleep 0.02; done"})
	eventually(t, "it is held", there)
	m.killServe()
	eventually(t, "it is let go when the agent dies", func() bool { return !there() })
	m.start()
	eventually(t, "it is held again", there)
	if err := os.WriteFile(filepath.Join(m.work(), "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.wait("a")
	eventually(t, "it is let go when the work is over", func() bool { return !there() })

	m.startCall(StartRequest{ID: "b", Folder: "w", Shell: "echo up; exec sleep 600"})
	awaitLog(t, m, "b", "up")
	f.take(0)
	if exit := m.wait("b"); !exit.Preempted {
		t.Errorf("%+v", exit)
	}
	if !there() {
		t.Error("it is let go before the checkpoint is away")
	}
	m.post("/v1/shutdown", nil, nil)
	eventually(t, "it is let go at the end", func() bool { return !there() })
}

// A machine that cannot hold its button runs its work all the same.
func TestNoButton(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var b button
	b.keep(func() bool { return true })
	b.end()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := output(ctx, nil, "sh"); err == nil {
		t.Error("a command that is not there has run")
	}
}
