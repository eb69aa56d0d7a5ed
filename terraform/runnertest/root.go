package runnertest

import (
	"embed"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/levinrun/levin/terraform"
)

//go:embed module/*.tf
var module embed.FS

// Shell is a module whose machines are nothing but two shell lines each (see
// Line). It needs no provider that would have to be fetched.
func Shell() terraform.Module {
	files, err := fs.Sub(module, "module")
	if err != nil {
		panic(err) // the name is not a path: a mistake in this file
	}
	return terraform.Module{Name: "shell", Files: files}
}

// Line is a machine of the module Shell: what is run when it is created, and
// when it is destroyed. A line that fails fails that.
func Line(create, destroy string) terraform.MachineInput {
	return terraform.MachineInput{Type: "shell", Extra: map[string]any{"create": create, "destroy": destroy}}
}

// Lines are machines of the module Shell that succeed at once.
func Lines(names ...string) map[string]terraform.MachineInput {
	machines := map[string]terraform.MachineInput{}
	for _, name := range names {
		machines[name] = Line("true", "true")
	}
	return machines
}

// Root writes a root with machines of the module Shell to a new folder.
func Root(t testing.TB, machines map[string]terraform.MachineInput) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	Write(t, dir, machines)
	return dir
}

// Write writes a root with machines of the module Shell into dir.
func Write(t testing.TB, dir string, machines map[string]terraform.MachineInput) {
	t.Helper()
	root := terraform.Root{Run: "run", Group: "run-g1", Module: Shell(), Machines: machines, SSHPublicKey: "ssh-ed25519 AAAA"}
	if err := root.Write(dir); err != nil {
		t.Fatal(err)
	}
}

// Bell is rung by a shell line and heard by a test, or the other way round. It
// is a FIFO, so nobody has to look again and again.
type Bell struct {
	t    testing.TB
	path string
	file *os.File
}

// NewBell makes a bell that lives as long as the test.
func NewBell(t testing.TB) *Bell {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bell")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0) // both, so that opening waits for nobody
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return &Bell{t: t, path: path, file: file}
}

// Ring is the shell command that rings it with a word.
func (b *Bell) Ring(word string) string { return "echo " + word + " >" + b.path }

// Await is the shell command that waits until the test rings it.
func (b *Bell) Await() string { return "read line <" + b.path }

// Go rings it for one shell command that waits.
func (b *Bell) Go() {
	b.t.Helper()
	if _, err := b.file.WriteString("go\n"); err != nil {
		b.t.Error(err)
	}
}

// Hear waits until it is rung and gives the word. A test that waits for long
// fails.
func (b *Bell) Hear() string {
	b.t.Helper()
	if err := b.file.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		b.t.Error(err)
	}
	var word strings.Builder
	for one := make([]byte, 1); ; {
		if _, err := b.file.Read(one); err != nil {
			b.t.Errorf("the bell was never rung: %v", err)
			return ""
		}
		if one[0] == '\n' {
			return word.String()
		}
		word.WriteByte(one[0])
	}
}
