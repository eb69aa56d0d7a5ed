package local

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision/local/machine"
)

// TestMain makes the test binary double as the agent's binary: `machine …` is the
// process of a machine.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "machine" {
		// Not os.Exit, which takes a second under the race detector.
		syscall.Exit(machine.Main(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// newCloud makes a cloud in a folder of its own and checks at the end that no
// machine is left.
func newCloud(t testing.TB, home string) *Cloud {
	t.Helper()
	c := New(Config{
		Home:  home,
		Agent: func(context.Context) (string, error) { return os.Executable() },
		Lease: time.Minute,
	})
	t.Cleanup(func() {
		left, err := Strays(home)
		if err != nil || len(left) > 0 {
			t.Errorf("machines are left: %v, %v", left, err)
		}
		for _, dir := range left {
			if err := Sweep(context.Background(), dir); err != nil {
				t.Error(err)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(filepath.Join(home, socketsDir)); err == nil {
			t.Error("the provider's socket is left")
		}
	})
	return c
}

// tf runs Terraform against a cloud's provider in a folder.
type tf struct {
	t   testing.TB
	bin string
	dir string
	env []string
}

// terraformBinary is the one on PATH, or "".
func terraformBinary() string {
	for _, name := range []string{"terraform", "tofu"} {
		if bin, err := exec.LookPath(name); err == nil {
			return bin
		}
	}
	return ""
}

func newTF(t testing.TB, c *Cloud) *tf {
	t.Helper()
	bin := terraformBinary()
	if bin == "" {
		t.Skip("neither terraform nor tofu is on PATH")
	}
	_, providers, err := c.Module(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	reattach := map[string]any{}
	for source, r := range providers.Reattach {
		reattach[source] = map[string]any{
			"Protocol": r.Protocol, "ProtocolVersion": r.ProtocolVersion, "Pid": r.PID, "Test": true,
			"Addr": map[string]string{"Network": r.Network, "String": r.Address},
		}
	}
	b, err := json.Marshal(reattach)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return &tf{t: t, bin: bin, dir: dir, env: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1",
		"TF_REATTACH_PROVIDERS=" + string(b),
	}}
}

// root writes a configuration of n machines and initialises it.
func (f *tf) root(n int, key string) {
	f.t.Helper()
	f.write(n, key)
	f.run("init", "-input=false")
}

func (f *tf) write(n int, key string) {
	f.t.Helper()
	config := fmt.Sprintf(`
terraform {
  required_providers {
    levin = { source = "levinrun/levin" }
  }
}
resource "levin_machine" "m" {
  count          = %d
  name           = "machine-${count.index}"
  run            = "run-1"
  ssh_public_key = %q
  lease_seconds  = 60
}
output "machines" { value = levin_machine.m }
`, n, key)
	if err := os.WriteFile(filepath.Join(f.dir, "main.tf"), []byte(config), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *tf) command(args ...string) *exec.Cmd {
	cmd := exec.Command(f.bin, args...)
	cmd.Dir, cmd.Env = f.dir, f.env
	return cmd
}

func (f *tf) run(args ...string) string {
	f.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := f.command(args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		f.t.Fatalf("terraform %s: %v\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

func (f *tf) apply()   { f.t.Helper(); f.run("apply", "-auto-approve", "-input=false") }
func (f *tf) destroy() { f.t.Helper(); f.run("destroy", "-auto-approve", "-input=false") }

// state lists the addresses of what Terraform believes to exist.
func (f *tf) state() []string { f.t.Helper(); return strings.Fields(f.run("state", "list")) }

type output struct {
	ID, Address, User string
	Port              int
	HostKey           string `json:"host_key"`
}

func (f *tf) machines() []output {
	f.t.Helper()
	var machines []output
	if err := json.Unmarshal([]byte(f.run("output", "-json", "machines")), &machines); err != nil {
		f.t.Fatal(err)
	}
	return machines
}

func newKey(t testing.TB) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// say runs a command on a machine.
func say(t *testing.T, m output, signer ssh.Signer, command string) string {
	t.Helper()
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(m.HostKey))
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", m.Address+":"+strconv.Itoa(m.Port), &ssh.ClientConfig{
		User: m.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(hostKey),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.Output(command)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestApplyAndDestroy(t *testing.T) {
	for _, n := range []int{1, 20} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			home := t.TempDir()
			c := newCloud(t, home)
			f := newTF(t, c)
			signer, key := newKey(t)
			f.root(n, key)
			f.apply()
			machines := f.machines()
			if len(machines) != n {
				t.Fatalf("%d machines, want %d", len(machines), n)
			}
			for i, m := range machines {
				name := "machine-" + strconv.Itoa(i)
				dir := filepath.Join(home, machinesDir, name)
				if got := say(t, m, signer, "echo $LEVIN_MACHINE_DIR"); m.ID != name || got != dir {
					t.Errorf("%s is in %q, want %s in %q", m.ID, got, name, dir)
				}
				agent, _ := c.agentBinary(t.Context())
				if _, err := os.Stat(filepath.Join(dir, "home/.levin-agent/bin", agent.digest)); err != nil {
					t.Error(err)
				}
			}
			if plan := f.run("plan", "-input=false"); !strings.Contains(plan, "No changes") {
				t.Errorf("a second plan has changes:\n%s", plan)
			}
			f.destroy()
			if left := f.state(); len(left) > 0 {
				t.Errorf("left in the state: %v", left)
			}
		})
	}
}

// What was ended behind Terraform's back is made again by apply and is no error
// for destroy.
func TestMachinesThatWentAway(t *testing.T) {
	home := t.TempDir()
	c := newCloud(t, home)
	f := newTF(t, c)
	_, key := newKey(t)
	f.root(3, key)
	f.apply()
	before := f.machines()
	if err := c.Stop(t.Context(), cluster.Machine{Name: "machine-1"}); err != nil {
		t.Fatal(err)
	}
	info, err := machine.Read(filepath.Join(home, machinesDir, "machine-2"))
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(info.PID, syscall.SIGKILL)
	f.apply()
	after := f.machines()
	if before[0] != after[0] || before[1].HostKey == after[1].HostKey || before[2].HostKey == after[2].HostKey {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	for i := range 3 {
		if err := c.Stop(t.Context(), cluster.Machine{Name: "machine-" + strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
	}
	f.destroy()
	if left := f.state(); len(left) > 0 {
		t.Errorf("left in the state: %v", left)
	}
}

// A changed argument makes another machine.
func TestChangeReplaces(t *testing.T) {
	c := newCloud(t, t.TempDir())
	f := newTF(t, c)
	_, key := newKey(t)
	f.root(1, key)
	f.apply()
	before := f.machines()[0]
	signer, other := newKey(t)
	f.write(1, other)
	f.apply()
	after := f.machines()[0]
	if before.HostKey == after.HostKey {
		t.Error("the machine is the same")
	}
	say(t, after, signer, "true")
	f.destroy()
}

func TestCreateFailsInTheProcessesWords(t *testing.T) {
	c := newCloud(t, t.TempDir())
	f := newTF(t, c)
	f.root(1, "not a key")
	out, err := f.command("apply", "-auto-approve", "-input=false", "-no-color").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the client key is not in authorized_keys") {
		t.Errorf("%v: %s", err, out)
	}
	f.destroy()
}

// Interrupting one Terraform process cancels its own creations and leaves those of
// another alone, although one server serves both.
func TestInterrupt(t *testing.T) {
	home := t.TempDir()
	c := newCloud(t, home)
	waiting := filepath.Join(t.TempDir(), "waiting")
	release := filepath.Join(t.TempDir(), "release")
	for _, fifo := range []string{waiting, release} {
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// An agent whose machines take as long to come up as the test wants.
	slow := filepath.Join(t.TempDir(), "agent")
	script := fmt.Sprintf("#!/bin/sh\necho up > %s\nread x < %s\nexec %s \"$@\"\n", waiting, release, self)
	if err := os.WriteFile(slow, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	c.cfg.Agent = func(context.Context) (string, error) { return slow, nil }

	_, key := newKey(t)
	doomed, spared := newTF(t, c), newTF(t, c)
	doomed.root(1, key)
	spared.root(1, key)
	config, _ := os.ReadFile(filepath.Join(spared.dir, "main.tf"))
	os.WriteFile(filepath.Join(spared.dir, "main.tf"), bytes.ReplaceAll(config, []byte("machine-$"), []byte("spared-$")), 0o600)

	var doomedOut, sparedOut bytes.Buffer
	a := doomed.command("apply", "-auto-approve", "-input=false", "-no-color")
	a.Stdout, a.Stderr = &doomedOut, &doomedOut
	b := spared.command("apply", "-auto-approve", "-input=false", "-no-color")
	b.Stdout, b.Stderr = &sparedOut, &sparedOut
	for _, cmd := range []*exec.Cmd{a, b} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.ReadFile(waiting); err != nil { // its machine's process is up
			t.Fatal(err)
		}
	}
	a.Process.Signal(syscall.SIGINT)
	if err := a.Wait(); err == nil {
		t.Errorf("an interrupted apply succeeded:\n%s", doomedOut.String())
	}
	if _, err := os.Lstat(filepath.Join(home, machinesDir, "machine-0")); err == nil {
		t.Error("the cancelled machine is left")
	}
	if err := os.WriteFile(release, []byte("go\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Wait(); err != nil {
		t.Errorf("the other apply suffered: %v\n%s", err, sparedOut.String())
	}
	doomed.destroy()
	spared.destroy()
}

// A Levin folder deeper than a socket's address may be long works too.
func TestDeepHome(t *testing.T) {
	home := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
	c := newCloud(t, home)
	f := newTF(t, c)
	_, key := newKey(t)
	f.root(1, key)
	f.apply()
	f.destroy()
}

// The server writes nothing to the program's own output.
func TestServerIsSilent(t *testing.T) {
	if os.Getenv("LEVIN_TEST_SILENT") == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self, "-test.run=^TestServerIsSilent$")
		cmd.Env = append(os.Environ(), "LEVIN_TEST_SILENT=1")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if s := strings.TrimSpace(string(out)); s != "PASS" && !strings.HasPrefix(s, "PASS\ncoverage:") || stderr.Len() > 0 {
			t.Errorf("stdout %q, stderr %q", out, stderr.String())
		}
		return
	}
	c := newCloud(t, t.TempDir())
	f := newTF(t, c)
	_, key := newKey(t)
	f.root(1, key)
	f.apply()
	f.destroy()
}

func TestCloseIsFinal(t *testing.T) {
	c := newCloud(t, t.TempDir())
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Module(t.Context(), ""); err == nil {
		t.Error("a closed cloud serves")
	}
	d := newCloud(t, t.TempDir())
	if _, _, err := d.Module(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSocketsOfTheDeadAreRemoved(t *testing.T) {
	home := t.TempDir()
	dir := filepath.Join(home, socketsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, fmt.Sprintf("%d-1.sock", dead.Process.Pid))
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a, b := newCloud(t, home), newCloud(t, home)
	for _, c := range []*Cloud{a, b} { // two in one process do not collide
		if _, _, err := c.Module(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(old); err == nil {
		t.Error("the socket of a dead process is left")
	}
	a.Close() // b's check must find the folder gone
}

func TestNamesThatAreNot(t *testing.T) {
	c := newCloud(t, t.TempDir())
	for _, name := range []string{"", ".", "..", "../x", "a/b", "A", "-a", strings.Repeat("a", 64)} {
		if _, err := c.dir(name); cluster.KindOf(err) != cluster.Untrusted {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := c.dir("run-1-train-1"); err != nil {
		t.Error(err)
	}
}
