package e2e

import (
	"bytes"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/sqlite"
	"github.com/levinrun/levin/terraform"
)

// checkClean holds the promises about money and safety against what is really
// there once a run is over: nothing left (process, port, socket, key, temporary
// file, Terraform resource), every finished call once, a ledger that adds up.
func (u *person) checkClean() {
	u.t.Helper()
	u.checkProcesses()
	u.checkFiles()
	u.checkStore()
}

// checkProcesses looks for any process that belongs to this user's home. A
// listening port has a process, so there is none of those either.
func (u *person) checkProcesses() {
	u.t.Helper()
	for _, p := range u.processes() {
		u.t.Errorf("process %d is left: %s", p.pid, p.cmdline)
	}
}

type proc struct {
	pid     int
	cmdline string
}

// processes lists what runs with this person's home in its command line or
// environment.
func (u *person) processes() []proc { return processesWith(u.home) }

func processesWith(mark string) []proc {
	var found []proc
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		environ, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if len(cmdline) == 0 { // a zombie or a kernel thread
			continue
		}
		if bytes.Contains(cmdline, []byte(mark)) || bytes.Contains(environ, []byte(mark)) {
			found = append(found, proc{pid, string(bytes.ReplaceAll(cmdline, []byte{0}, []byte(" ")))})
		}
	}
	return found
}

func (u *person) checkFiles() {
	u.t.Helper()
	if left, _ := os.ReadDir(u.tmp); len(left) > 0 {
		u.t.Errorf("temporary files are left outside the home: %v", names(left))
	}
	if left, _ := os.ReadDir(filepath.Join(u.home, "tmp")); len(left) > 0 {
		u.t.Errorf("temporary files are left in the home: %v", names(left))
	}
	if left, _ := os.ReadDir(filepath.Join(u.home, "machines")); len(left) > 0 {
		u.t.Errorf("folders of local machines are left: %v", names(left))
	}
	filepath.WalkDir(u.home, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil
		case d.IsDir() && d.Name() == ".terraform":
			return fs.SkipDir // what Terraform remembers of a backend is no state
		case d.Type()&fs.ModeSocket != 0:
			u.t.Errorf("a socket is left: %s", path)
		case d.Name() == "id_ed25519":
			u.t.Errorf("the run's key is left: %s", path)
		case d.Name() == "terraform.tfstate":
			u.checkState(path)
		}
		return nil
	})
}

func (u *person) checkState(path string) {
	u.t.Helper()
	left, err := terraform.Resources(filepath.Dir(path))
	if err != nil {
		u.t.Errorf("%s: %v", path, err)
	}
	if len(left) > 0 {
		u.t.Errorf("Terraform still has %v in %s", left, path)
	}
}

func (u *person) checkStore() {
	u.t.Helper()
	ctx := u.t.Context()
	store, err := sqlite.Open(ctx, filepath.Join(u.home, "levin.db"))
	if err != nil {
		u.t.Fatal(err)
	}
	defer store.Close()
	runs, err := store.Runs(ctx, cluster.RunFilter{})
	if err != nil {
		u.t.Fatal(err)
	}
	for _, run := range runs {
		machines, err := store.Machines(ctx, run.ID)
		if err != nil {
			u.t.Fatal(err)
		}
		calls, err := store.Calls(ctx, run.ID)
		if err != nil {
			u.t.Fatal(err)
		}
		groups, err := store.Groups(ctx, run.ID)
		if err != nil {
			u.t.Fatal(err)
		}
		events, err := store.Events(ctx, run.ID, 0, 0)
		if err != nil {
			u.t.Fatal(err)
		}
		checkRun(u.t, run, machines, groups, calls, events)
	}
}

// checkRun checks one finished run's rows and events against each other.
func checkRun(t testing.TB, run cluster.Run, machines []cluster.Machine, groups []cluster.Group, calls []cluster.Call, events []cluster.Event) {
	t.Helper()
	if !run.State.Final() || run.Leaked != 0 {
		t.Errorf("run %s is %s, leaked %d", run.ID, run.State, run.Leaked)
	}
	billed := 0.0
	for _, m := range machines {
		if m.State != cluster.MachineGone {
			t.Errorf("machine %s is %s", m.Name, m.State)
		}
		if !m.CreatingAt.IsZero() {
			billed += m.GoneAt.Sub(m.CreatingAt).Seconds() * m.PricePerHour / 3600
		}
	}
	for _, g := range groups {
		if g.State != cluster.GroupDestroyed {
			t.Errorf("group %s is %s: %s", g.ID, g.State, g.Error)
		}
	}
	ends := map[string]int{}
	var finished []cluster.Event
	gone := map[string]int{}
	for _, e := range events {
		switch e.Type {
		case cluster.EventCallSucceeded, cluster.EventCallFailed, cluster.EventCallSkipped, cluster.EventCallCancelled:
			ends[e.Call]++
		case cluster.EventMachineGone:
			gone[e.Machine]++
		case cluster.EventRunFinished:
			finished = append(finished, e)
		}
	}
	for _, c := range calls {
		if !c.State.Final() || ends[c.ID] != 1 {
			t.Errorf("call %s is %s and ended %d times", c.ID, c.State, ends[c.ID])
		}
	}
	for _, m := range machines {
		if gone[m.Name] != 1 {
			t.Errorf("machine %s went %d times", m.Name, gone[m.Name])
		}
	}
	if len(finished) != 1 {
		t.Errorf("run %s finished %d times", run.ID, len(finished))
		return
	}
	f := finished[0]
	if f.Leaked == nil || *f.Leaked != 0 {
		t.Errorf("run.finished says leaked: %v", f.Leaked)
	}
	if f.Cost == nil || math.Abs(*f.Cost-billed) > 1e-9+1e-6*billed {
		t.Errorf("run.finished says cost %v, machine seconds say %v", f.Cost, billed)
	}
	ledger := cluster.NewLedger(run, machines, time.Now())
	sum := 0.0
	for _, e := range ledger.Entries {
		sum += e.Cost
	}
	if math.Abs(sum-ledger.Cost) > 1e-9 || math.Abs(sum-billed) > 1e-9+1e-6*billed {
		t.Errorf("the ledger says %v, its entries %v, machine seconds %v", ledger.Cost, sum, billed)
	}
}

func names(entries []os.DirEntry) string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, ", ")
}
