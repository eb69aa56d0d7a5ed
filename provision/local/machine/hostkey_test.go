package machine

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// hostKey makes a host key: OpenSSH PEM, and its public half in authorized_keys
// form.
func hostKey(t *testing.T) (private, public string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block)), authorizedForm(signer)
}

// A machine has the host key that it is given, where it is told to listen, and its
// processes have what is in Env. The key is on no command line.
func TestGivenHostKeyAddressAndEnvironment(t *testing.T) {
	linuxOnly(t)
	t.Parallel()
	r := newRig(t)
	private, public := hostKey(t)
	o := r.options("m1")
	o.HostKey, o.Listen, o.Env = private, "127.9.8.7:0", []string{"LEVIN_TEST_GIVEN=yes"}
	info := r.start(o)
	if info.HostKey != public || info.Address != "127.9.8.7" {
		t.Errorf("%+v", info)
	}
	client := r.dial(info) // which checks the host key
	if got := r.output(client, "echo $LEVIN_TEST_GIVEN"); got != "yes" {
		t.Errorf("the variable is %q", got)
	}
	for _, file := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(filepath.Join("/proc", r.output(client, "echo $LEVIN_MACHINE_PID"), file))
		if err != nil || strings.Contains(string(b), "PRIVATE KEY") {
			t.Errorf("%s: %v, %q", file, err, b)
		}
	}
	if at, err := os.Stat(filepath.Join(o.Dir, keyName)); err != nil || at.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", at, err)
	}
	r.stop("m1")
}

func TestRefusedHostKeyAndAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, edit := range map[string]func(*Options){
		"host key": func(o *Options) { o.HostKey = "nonsense" },
		"loopback": func(o *Options) { o.Listen = "192.0.2.1:22" },
	} {
		o := r.options("m1")
		edit(&o)
		if _, err := r.starter.Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if exists(o.Dir) {
			t.Errorf("%s: the folder is left", name)
		}
	}
}

// A host key that is replaced counts for connections from then on; those that are
// open live on, and one that cannot be read changes nothing.
func TestHostKeyIsReplaced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	o := r.options("m1")
	info := r.start(o)
	client := r.dial(info)
	replace := func(private string) {
		t.Helper()
		next := filepath.Join(o.Dir, keyName+".new")
		if err := os.WriteFile(next, []byte(private), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(o.Dir, keyName)); err != nil {
			t.Fatal(err)
		}
		r.output(client, "kill -HUP $LEVIN_MACHINE_PID")
	}
	private, public := hostKey(t)
	replace("nonsense")
	until(t, "the complaint", func() bool {
		log, err := os.ReadFile(filepath.Join(o.Dir, logName))
		return err == nil && strings.Contains(string(log), "the host key stays")
	})
	r.dial(info)
	replace(private)
	until(t, "the new host key", func() bool {
		now, err := Read(o.Dir)
		return err == nil && now.HostKey == public
	})
	if _, err := dial(info, r.signer); err == nil {
		t.Error("the old host key is still used")
	}
	info.HostKey = public
	r.dial(info)
	r.output(client, "true")
	r.stop("m1")
}

// until waits for something that comes soon or never.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.After(20 * time.Second); !done(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s does not come", what)
		}
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	o := r.options("m1")
	info := r.start(o)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := Wait(ctx, o.Dir); err == nil {
		t.Error("a machine that lives has ended")
	}
	ended := make(chan error, 1)
	go func() { ended <- Wait(t.Context(), o.Dir) }()
	syscall.Kill(info.PID, syscall.SIGKILL)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	r.stop("m1")
	if err := Wait(t.Context(), o.Dir); err != nil {
		t.Errorf("no machine: %v", err)
	}
}

// A tied machine ends with its starter, lease or not.
func TestTied(t *testing.T) {
	linuxOnly(t)
	if dir := os.Getenv("LEVIN_TEST_TIED"); dir != "" {
		o := Options{Dir: dir, Name: "m1", Lease: time.Hour, Tied: true, Key: os.Getenv("LEVIN_TEST_KEY")}
		o.Agent, _ = os.Executable()
		NewStarter().Start(context.Background(), o)
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	t.Parallel()
	r := newRig(t)
	dir := filepath.Join(r.dir, "m1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestTied$")
	cmd.Env = append(os.Environ(), "LEVIN_TEST_TIED="+dir,
		"LEVIN_TEST_KEY="+string(ssh.MarshalAuthorizedKey(r.signer.PublicKey())))
	if err := cmd.Run(); err == nil {
		t.Error("the starter was not killed")
	}
	until(t, "the end of the machine", func() bool { return !exists(dir) })
}
