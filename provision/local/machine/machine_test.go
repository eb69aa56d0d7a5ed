package machine

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

// TestMain makes the test binary double as the agent's binary: `machine …` is the
// process of a machine.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "machine" {
		// Not os.Exit, which takes a second under the race detector.
		syscall.Exit(Main(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// rig starts machines and checks at the end that nothing of them is left.
type rig struct {
	t       *testing.T
	dir     string
	starter *Starter
	signer  ssh.Signer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "machines"), starter: NewStarter(), signer: signer}
	t.Cleanup(func() {
		left, err := Strays(r.dir)
		if err != nil {
			t.Error(err)
		}
		for _, dir := range left {
			if err := Sweep(context.Background(), dir); err != nil {
				t.Error(err)
			}
		}
		r.starter.Close()
	})
	return r
}

func (r *rig) options(name string) Options {
	self, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	return Options{
		Dir: filepath.Join(r.dir, name), Name: name, Run: "run-1", Lease: time.Minute,
		Key: string(ssh.MarshalAuthorizedKey(r.signer.PublicKey())), Agent: self,
	}
}

func (r *rig) start(o Options) Info {
	r.t.Helper()
	info, err := r.starter.Start(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	return info
}

func (r *rig) stop(name string) {
	r.t.Helper()
	if err := Stop(context.Background(), filepath.Join(r.dir, name)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) dial(info Info) *ssh.Client {
	r.t.Helper()
	client, err := dial(info, r.signer)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { client.Close() })
	return client
}

func dial(info Info, signer ssh.Signer) (*ssh.Client, error) {
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(info.HostKey))
	if err != nil {
		return nil, err
	}
	return ssh.Dial("tcp", net.JoinHostPort(info.Address, strconv.Itoa(info.Port)), &ssh.ClientConfig{
		User: info.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.FixedHostKey(hostKey),
	})
}

func (r *rig) output(client *ssh.Client, command string) string {
	r.t.Helper()
	s, err := client.NewSession()
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	var stderr bytes.Buffer
	s.Stderr = &stderr
	out, err := s.Output(command)
	if err != nil {
		r.t.Fatalf("%s: %v: %s", command, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func pidOf(t *testing.T, s string) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func running(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	return !strings.HasPrefix(string(b[bytes.LastIndexByte(b, ')')+1:]), " Z")
}

func linuxOnly(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux lets a process adopt orphans")
	}
}

func TestStartStop(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	o := r.options("m1")
	info := r.start(o)
	if info.Name != "m1" || info.Run != "run-1" || info.Address != "127.0.0.1" || info.Port == 0 || info.PID == 0 {
		t.Errorf("unexpected info %+v", info)
	}
	if !Alive(o.Dir) {
		t.Error("a machine that was started is not alive")
	}
	if read, err := Read(o.Dir); err != nil || read != info {
		t.Errorf("Read gives %+v, %v; want %+v", read, err, info)
	}
	if again := r.start(o); again != info {
		t.Errorf("a second start gave another machine: %+v", again)
	}
	r.stop("m1")
	gone(t, info.PID)
	if Alive(o.Dir) || exists(o.Dir) {
		t.Error("something is left after Stop")
	}
	if _, err := Read(o.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read of no machine: %v", err)
	}
	r.stop("m1") // once more is no error
	if again := r.start(o); again.PID == info.PID {
		t.Error("the name cannot be used again")
	}
	r.stop("m1")
}

// The machine ends by itself after its lease, and not while a process lives.
func TestLease(t *testing.T) {
	linuxOnly(t)
	t.Parallel()
	r := newRig(t)
	o := r.options("m1")
	o.Lease = 50 * time.Millisecond
	info := r.start(o)
	client, err := dial(info, r.signer)
	if err != nil {
		t.Fatal(err)
	}
	daemon := pidOf(t, r.output(client, "setsid sleep 0.5 </dev/null >/dev/null 2>&1 & echo $!"))
	client.Close()
	gone(t, daemon) // in its own time, not the machine's
	gone(t, info.PID)
	if exists(o.Dir) {
		t.Error("the folder is left after the lease")
	}
}

// A machine that nobody has reached yet waits for its starter as long as that
// lives, and for its lease after that.
func TestLeaseAfterTheStarterDied(t *testing.T) {
	linuxOnly(t)
	if dir := os.Getenv("LEVIN_TEST_STARTER"); dir != "" {
		o := Options{Dir: dir, Name: "m1", Lease: 50 * time.Millisecond, Key: os.Getenv("LEVIN_TEST_KEY")}
		o.Agent, _ = os.Executable()
		info, err := NewStarter().Start(context.Background(), o)
		fmt.Println(info.PID, err)
		io.Copy(io.Discard, os.Stdin)
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	t.Parallel()
	r := newRig(t)
	dir := filepath.Join(r.dir, "m1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestLeaseAfterTheStarterDied$")
	cmd.Env = append(os.Environ(), "LEVIN_TEST_STARTER="+dir,
		"LEVIN_TEST_KEY="+string(ssh.MarshalAuthorizedKey(r.signer.PublicKey())))
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var failure string
	if _, err := fmt.Fscan(out, &pid, &failure); err != nil || failure != "<nil>" {
		t.Fatalf("%d %s %v", pid, failure, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := waitForExit(ctx, pid); err == nil {
		t.Error("the machine ended although its starter lives")
	}
	in.Close()
	cmd.Wait()
	gone(t, pid)
	if exists(dir) {
		t.Error("the folder is left")
	}
}

func TestQuiet(t *testing.T) {
	expired := func(q *quiet) bool {
		select {
		case <-q.expired:
			return true
		default:
			return false
		}
	}
	q := newQuiet(time.Hour)
	defer q.stop()
	q.expire()
	if expired(q) {
		t.Error("expired while its starter lives")
	}
	q.connections(1)
	q.expire() // a timer that fired just before the connection came
	if expired(q) {
		t.Error("expired during a connection")
	}
	q.processes(true)
	q.connections(-1)
	q.expire()
	if expired(q) {
		t.Error("expired while a process was alive")
	}
	q.processes(false)
	q.expire()
	if !expired(q) {
		t.Error("does not expire")
	}
}

func TestStartFailures(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, spoil := range map[string]func(*Options){
		"no such binary": func(o *Options) { o.Agent = filepath.Join(r.dir, "absent") },
		"not the agent":  func(o *Options) { o.Agent = "/bin/false" },
		"not a key":      func(o *Options) { o.Key = "ssh-ed25519 nonsense" },
	} {
		t.Run(name, func(t *testing.T) {
			o := r.options("m1")
			spoil(&o)
			_, err := r.starter.Start(t.Context(), o)
			if err == nil {
				t.Fatal("no error")
			}
			if name == "not a key" && !strings.Contains(err.Error(), "authorized_keys form") {
				t.Errorf("not in the process's own words: %v", err)
			}
			if exists(o.Dir) {
				t.Error("the folder is left")
			}
		})
	}
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	o := r.options("m1")
	o.Agent = filepath.Join(t.TempDir(), "silent") // never says that it is ready
	script := "#!/bin/sh\nexec 1>&-; echo $$ > " + filepath.Join(r.dir, "pid") + "; exec sleep 1000\n"
	if err := os.WriteFile(o.Agent, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := r.starter.Start(ctx, o); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if exists(o.Dir) {
		t.Error("the folder is left")
	}
	if b, err := os.ReadFile(filepath.Join(r.dir, "pid")); err == nil && running(pidOf(t, string(b))) {
		t.Error("the process is left")
	}
}

func TestAgentIsPlaced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	o := r.options("m1")
	o.AgentDigest = strings.Repeat("ab", 32)
	r.start(o)
	placed := filepath.Join(o.Dir, "home", ".levin-agent", "bin", o.AgentDigest)
	a, err := os.Stat(o.Agent)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.Stat(placed)
	if err != nil || b.Size() != a.Size() || b.Mode()&0o100 == 0 {
		t.Errorf("placed: %v, %v", b, err)
	}
	r.stop("m1")
}

func TestInherited(t *testing.T) {
	got := strings.Join(inherited([]string{"AWS_SECRET_ACCESS_KEY=x", "LC_ALL=C", "PATH=/bin", "TF_VAR_x=1", "http_proxy=p"}), " ")
	if want := "PATH=/bin LC_ALL=C http_proxy=p"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
