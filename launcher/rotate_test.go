package launcher_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher"
	"github.com/levinrun/levin/launcher/sshtest"
)

// keeper writes host keys and warnings down, as a controller does.
type keeper struct {
	keys  []string
	warns []string
	fail  int // which of the writes fails, counted from 1
}

func (k *keeper) rotated(machine, keys string) error {
	k.keys = append(k.keys, keys)
	if machine != "m-1" || len(k.keys) == k.fail {
		return errors.New("the disk is full")
	}
	return nil
}

func (k *keeper) config(t *testing.T) launcher.Config {
	cfg := config(t)
	cfg.Rotated = k.rotated
	cfg.Warn = func(_, text string) { k.warns = append(k.warns, text) }
	return cfg
}

func TestHostKeyIsReplaced(t *testing.T) {
	srv := startSSHD(t, "ed25519", "ecdsa")
	place(t, srv.home)
	old := srv.target
	old.HostKeys, old.Rotate = old.HostKeys[:1], true
	first := withoutComment(old.HostKeys[0])

	var k keeper
	s := connect(t, k.config(t), old)
	if len(k.keys) != 2 || len(k.warns) > 0 {
		t.Fatalf("%q, warnings %q", k.keys, k.warns)
	}
	next := k.keys[1]
	if k.keys[0] != next+"\n"+first || next == first || !strings.HasPrefix(next, "ssh-ed25519 ") || strings.Contains(next, "\n") {
		t.Errorf("%q", k.keys)
	}
	smallAttempt(t, s)
	public, err := os.ReadFile(filepath.Join(srv.dir, "hostkey"))
	if err != nil || !strings.Contains(string(public), "OPENSSH PRIVATE KEY") {
		t.Errorf("%q, %v", public, err)
	}

	// The key that the cloud knows opens nothing any more.
	if s, err := launcher.Connect(t.Context(), config(t), "m-1", old); cluster.KindOf(err) != cluster.Untrusted {
		t.Errorf("with the old key: %v", err)
		if err == nil {
			s.Close()
		}
	}
	// A later controller finds that all is done.
	var again keeper
	target := old
	target.HostKeys = []string{next}
	later, err := launcher.Connect(t.Context(), again.config(t), "m-1", target)
	if err != nil {
		t.Fatal(err)
	}
	defer later.Close()
	if diff := cmp.Diff([]string{next}, again.keys); diff != "" || len(again.warns) > 0 {
		t.Errorf("%s, warnings %q", diff, again.warns)
	}
}

// A controller that ends at any step of it leaves a machine that can be reached
// with what it wrote down, and the next one goes on.
func TestHostKeyIsReplacedAfterAnInterruption(t *testing.T) {
	for fail := 1; fail <= 2; fail++ {
		t.Run(fmt.Sprint("write ", fail, " fails"), func(t *testing.T) {
			srv := startSSHD(t)
			place(t, srv.home)
			srv.target.Rotate = true
			k := keeper{fail: fail}
			s := connect(t, k.config(t), srv.target)
			smallAttempt(t, s)
			if len(k.warns) != 1 || !strings.Contains(k.warns[0], "was not replaced") || strings.Contains(k.warns[0], "still in use") != (fail == 1) {
				t.Errorf("warnings %q", k.warns)
			}
			known := srv.target
			if fail == 2 {
				known.HostKeys = []string{k.keys[0]} // two lines, as they are kept
			}
			var again keeper
			later, err := launcher.Connect(t.Context(), again.config(t), "m-1", known)
			if err != nil {
				t.Fatal(err)
			}
			defer later.Close()
			if len(again.warns) > 0 || len(again.keys) == 0 || slices.ContainsFunc(again.keys[len(again.keys)-1:], func(k string) bool { return strings.Contains(k, "\n") }) {
				t.Errorf("%q, warnings %q", again.keys, again.warns)
			}
			known.HostKeys = again.keys[len(again.keys)-1:]
			if _, err := launcher.Shell(t.Context(), config(t), known, []string{"true"}, launcher.Stdio{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// When the machine does not do it, work goes on, and the user is told.
func TestHostKeyThatCannotBeReplaced(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  func(t *testing.T) []string
		kept bool // somebody writes keys down
		word string
		keys int
	}{
		{"nobody keeps it", func(*testing.T) []string { return nil }, false, "still in use", 0},
		{"no folder", func(*testing.T) []string { return []string{"LEVIN_MACHINE_DIR=/does/not/exist"} }, true, "still in use", 0},
		{"no process", func(t *testing.T) []string { return []string{"LEVIN_MACHINE_DIR=" + t.TempDir()} }, true, "LEVIN_MACHINE_PID", 1},
		{"a server that goes on showing the old one", func(t *testing.T) []string {
			return []string{"LEVIN_MACHINE_DIR=" + t.TempDir(), fmt.Sprint("LEVIN_MACHINE_PID=", sleeper(t))}
		}, true, "still shows the key that went through the cloud's user data", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := sshtest.New(t, tt.env(t)...)
			place(t, srv.Home)
			var k keeper
			cfg := k.config(t)
			cfg.LostAfter = 2 * time.Second
			if !tt.kept {
				cfg.Rotated = nil
			}
			target := srv.Target()
			target.Rotate, target.PowerOff = true, true
			s := connect(t, cfg, target)
			if len(k.warns) != 1 || !strings.Contains(k.warns[0], tt.word) || len(k.keys) != tt.keys {
				t.Errorf("%q, warnings %q", k.keys, k.warns)
			}
			smallAttempt(t, s)
			srv.DropAll() // and the old key still is good
			if err := s.Renew(t.Context(), time.Minute); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestExpire(t *testing.T) {
	dir := t.TempDir()
	srv := sshtest.New(t, "LEVIN_MACHINE_DIR="+dir)
	place(t, srv.Home)
	target := srv.Target()
	target.Expiry = true
	s := connect(t, config(t), target)
	at := time.Now().Add(24 * time.Hour)
	if err := s.Expire(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "expiry"))
	if err != nil || strings.TrimSpace(string(got)) != at.UTC().Format(time.RFC3339) {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.Expire(t.Context(), time.Now().Add(-time.Hour)); cluster.KindOf(err) != cluster.BadRequest {
		t.Errorf("in the past: %v", err)
	}
	target.Expiry = false
	plain, err := launcher.Connect(t.Context(), config(t), "m-1", target)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if err := plain.Expire(t.Context(), time.Now().Add(-time.Hour)); err != nil {
		t.Errorf("a machine that does not expire: %v", err)
	}
}

func withoutComment(key string) string {
	fields := strings.Fields(key)
	return strings.Join(fields[:2], " ")
}
