package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/sqlite"
)

// recorder notes what a check complains of.
type recorder struct {
	testing.TB
	complaints []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.complaints = append(r.complaints, fmt.Sprintf(format, args...))
}
func (r *recorder) Error(args ...any) { r.complaints = append(r.complaints, fmt.Sprint(args...)) }

// TestCheckCleanTrips plants each kind of leftover and sees it found: a check that
// cannot fail would be worth nothing.
func TestCheckCleanTrips(t *testing.T) {
	u := newUser(t)
	if err := os.MkdirAll(filepath.Join(u.home, "runs"), 0o700); err != nil {
		t.Fatal(err)
	}
	seedLeakyRun(t, u)
	plant := func(path, content string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plant(filepath.Join(u.tmp, "stray"), "")
	plant(filepath.Join(u.home, "tmp", "stray"), "")
	plant(filepath.Join(u.home, "machines", "m", "lock"), "")
	plant(filepath.Join(u.home, "runs", "r", "id_ed25519"), "key")
	plant(filepath.Join(u.home, "runs", "r", "groups", "g", "terraform.tfstate"), `{"version":4,"resources":[{"mode":"managed","type":"levin_machine","name":"machine","instances":[{"index_key":"m"}]}]}`)
	t.Chdir(u.home) // a relative name keeps the socket's path short
	l, err := net.Listen("unix", "stray.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sleeper := exec.Command("sleep", "60")
	sleeper.Env = []string{"LEVIN_HOME=" + u.home}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		sleeper.Process.Kill()
		sleeper.Wait()
	}()

	r := &recorder{TB: t}
	u.t = r
	u.checkClean()
	u.t = t
	all := strings.Join(r.complaints, "\n")
	for _, want := range []string{
		"process", "temporary files are left outside the home", "temporary files are left in the home", "folders of local machines",
		"run's key is left", "Terraform still has", "a socket is left",
		"is running, leaked 0", "machine leaky-1 is ready", "group leaky-g1 is applied", "call leaky-work is running", "finished 0 times",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("nothing complains of: %s\n%s", want, all)
		}
	}
}

// seedLeakyRun writes a run that was left in the middle.
func seedLeakyRun(t *testing.T, u *person) {
	store, err := sqlite.Open(t.Context(), filepath.Join(u.home, "levin.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	now := time.Now()
	run := cluster.Run{ID: "leaky", App: "leaky", State: cluster.RunPending, CreatedAt: now}
	group := cluster.Group{ID: "leaky-g1", Run: "leaky", State: cluster.GroupPlanned, CreatedAt: now}
	machine := cluster.Machine{Name: "leaky-1", Run: "leaky", State: cluster.MachineRequested, RequestedAt: now}
	call := cluster.Call{ID: "leaky-work", Run: "leaky", Component: "work", State: cluster.CallWaiting}
	commit := func() {
		if err := store.Commit(t.Context(), cluster.Change{Run: &run, Groups: []cluster.Group{group}, Machines: []cluster.Machine{machine}, Calls: []cluster.Call{call}}); err != nil {
			t.Fatal(err)
		}
	}
	commit()
	run.State, group.State, machine.State, call.State = cluster.RunRunning, cluster.GroupApplying, cluster.MachineCreating, cluster.CallStarting
	commit()
	group.State, machine.State, call.State = cluster.GroupApplied, cluster.MachineReady, cluster.CallRunning
	commit()
}
