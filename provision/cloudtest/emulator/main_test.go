package emulator

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/provision/local/machine"
	"github.com/levinrun/levin/terraform"
)

// TestMain makes the test binary double as the agent's binary: `machine …` is the
// process of an instance.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "machine" {
		// Not os.Exit, which takes a second under the race detector.
		syscall.Exit(machine.Main(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// start gives a cloud whose instances are this test binary.
func start(t testing.TB, edit func(*Config)) *Emulator {
	t.Helper()
	return Start(t, func(cfg *Config) {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cfg.Agent = self
		if edit != nil {
			edit(cfg)
		}
	})
}

// root is a Terraform root that a test writes.
type root struct {
	t      testing.TB
	e      *Emulator
	dir    string
	binary string
	runner *terraform.Exec
	with   terraform.Providers
}

// terraformBinary is the Terraform of this machine.
var terraformBinary = sync.OnceValues(func() (terraform.Binary, error) {
	dir, err := os.MkdirTemp("", "levin-emulator-test-")
	if err != nil {
		return terraform.Binary{}, err
	}
	defer os.RemoveAll(dir)
	return terraform.Find(context.Background(), terraform.FindOptions{CacheDir: dir, Env: os.Environ()})
})

// newRoot writes a root with the given configuration.
func newRoot(t testing.TB, e *Emulator, config string) *root {
	t.Helper()
	binary, err := terraformBinary()
	if err != nil {
		t.Skipf("no Terraform here: %v", err)
	}
	runner, err := terraform.NewRunner(terraform.Config{
		Binary: binary, CacheDir: filepath.Join(e.cfg.Dir, "cache"), TempDir: t.TempDir(), Env: os.Environ(), StopGrace: 20 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &root{t: t, e: e, dir: t.TempDir(), binary: binary.Path, runner: runner, with: terraform.Providers{Reattach: map[string]terraform.Reattach{}}}
	for cloud, server := range e.providers {
		r.with.Reattach[source(cloud)] = server.Reattach()
	}
	r.write(config)
	return r
}

func (r *root) write(config string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "main.tf"), []byte(config), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *root) apply() terraform.Outputs {
	r.t.Helper()
	out, err := r.runner.Apply(r.t.Context(), r.dir, r.with)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// applyFails gives the words of an apply that has to fail.
func (r *root) applyFails() string {
	r.t.Helper()
	_, err := r.runner.Apply(r.t.Context(), r.dir, r.with)
	if err == nil {
		r.t.Fatal("the apply succeeded")
	}
	return fmt.Sprintf("%+v", err)
}

func (r *root) destroy() {
	r.t.Helper()
	if err := r.runner.Destroy(r.t.Context(), r.dir, r.with); err != nil {
		r.t.Fatal(err)
	}
}

func (r *root) state() string {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, "terraform.tfstate"))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// key is a key pair: of a client, or of a host.
type key struct {
	signer  ssh.Signer
	public  string // authorized_keys form
	private string // OpenSSH PEM
}

func newKey(t testing.TB) key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return key{signer, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), string(pem.EncodeToMemory(block))}
}

// dial connects to an instance, whose host key has to be the given one.
func dial(address string, client, host key) (*ssh.Client, error) {
	return ssh.Dial("tcp", net.JoinHostPort(address, strconv.Itoa(22)), &ssh.ClientConfig{
		User: "ubuntu", Auth: []ssh.AuthMethod{ssh.PublicKeys(client.signer)}, HostKeyCallback: ssh.FixedHostKey(host.signer.PublicKey()),
	})
}

// say runs a command on an instance.
func say(t testing.TB, address string, client, host key, command string) string {
	t.Helper()
	c, err := dial(address, client, host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(command)
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

// wait waits until the cloud is as the test wants it.
func wait(t testing.TB, e *Emulator, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); {
		e.mu.Lock()
		changed := e.changed
		e.mu.Unlock()
		if done() {
			return
		}
		select {
		case <-changed:
		case <-time.After(time.Until(deadline)):
			t.Fatalf("%s does not happen; left: %+v", what, e.Left())
		}
	}
}
