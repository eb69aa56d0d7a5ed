package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/sqlite"
	"github.com/levinrun/levin/cluster/storetest"
)

// The test binary is started again as another process that has the file open.
// Its task stands in childTask, the file in childFile.
const (
	childTask = "LEVIN_STORE_TEST_TASK"
	childFile = "LEVIN_STORE_TEST_FILE"
)

func TestMain(m *testing.M) {
	if task := os.Getenv(childTask); task != "" {
		if err := child(task, os.Getenv(childFile)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	runsPerChild   = 40
	callsPerCommit = 300
)

func child(task, path string) error {
	ctx := context.Background()
	name, what, _ := strings.Cut(task, ":")
	s, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	defer s.Close()
	switch what {
	case "runs": // adds runs and events to the shared one
		for n := range runsPerChild {
			c := cluster.Change{
				Run:    storetest.NewRun(fmt.Sprint(name, "-", n)),
				Events: []cluster.Event{{Run: "shared", Type: cluster.EventWarning}},
			}
			if err := s.Commit(ctx, c); err != nil {
				return err
			}
		}
	case "forever": // big changes, each told on stdout once it is committed
		for n := 0; ; n++ {
			c := cluster.Change{Run: storetest.NewRun(fmt.Sprint(name, "-", n))}
			for i := range callsPerCommit {
				c.Calls = append(c.Calls, storetest.NewCall(c.Run.ID, fmt.Sprint(c.Run.ID, "-", i)))
			}
			if err := s.Commit(ctx, c); err != nil {
				return err
			}
			if _, err := fmt.Println(n); err != nil {
				return nil // the reader is gone
			}
		}
	}
	return nil
}

func start(t *testing.T, name, what, path string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childTask+"="+name+":"+what, childFile+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

// Several processes make the file together, and write to it at once.
func TestProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "state.db")
	const children = 4
	var cmds []*exec.Cmd
	for i := range children { // they race to make the file
		cmd, _ := start(t, fmt.Sprint("open", i), "open", path)
		cmds = append(cmds, cmd)
	}
	wait := func() {
		t.Helper()
		for _, cmd := range cmds {
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
		}
		cmds = nil
	}
	wait()

	s := openAt(t, path)
	if err := s.Commit(t.Context(), cluster.Change{Run: storetest.NewRun("shared")}); err != nil {
		t.Fatal(err)
	}
	for i := range children {
		cmd, _ := start(t, fmt.Sprint("child", i), "runs", path)
		cmds = append(cmds, cmd)
	}
	for range runsPerChild { // and this process writes too
		c := cluster.Change{Events: []cluster.Event{{Run: "shared", Type: cluster.EventWarning}}}
		if err := s.Commit(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	wait()

	runs, err := s.Runs(t.Context(), cluster.RunFilter{})
	if err != nil || len(runs) != children*runsPerChild+1 {
		t.Errorf("%d runs, %v", len(runs), err)
	}
	events, err := s.Events(t.Context(), "shared", 0, 0)
	if err != nil || len(events) != (children+1)*runsPerChild {
		t.Errorf("%d events, %v", len(events), err)
	}
	for i, e := range events {
		if e.Seq != int64(i)+1 {
			t.Fatalf("event %d has seq %d", i, e.Seq)
		}
	}
}

// A process that is killed in the middle of its commits leaves each of them
// whole or not there at all, and all that it had been told of are there.
func TestKilledInCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	total := 0
	for round := range 6 {
		name := fmt.Sprint("k", round)
		cmd, out := start(t, name, "forever", path)
		told := -1
		lines := bufio.NewScanner(out)
		for told < 2+round && lines.Scan() {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			told = n
		}
		cmd.Process.Kill()
		for lines.Scan() { // lines that were under way
			if n, err := strconv.Atoi(lines.Text()); err == nil {
				told = n
			}
		}
		cmd.Wait()
		if told < 2+round {
			t.Fatalf("the child stopped by itself after %d commits", told+1)
		}

		s := openAt(t, path)
		runs, err := s.Runs(t.Context(), cluster.RunFilter{})
		if err != nil {
			t.Fatal(err)
		}
		mine := len(runs) - total
		total = len(runs)
		if mine <= told {
			t.Errorf("round %d: %d commits were acknowledged, %d are there", round, told+1, mine)
		}
		for _, r := range runs {
			calls, err := s.Calls(t.Context(), r.ID)
			if err != nil || len(calls) != callsPerCommit {
				t.Errorf("run %s has %d of %d calls: %v", r.ID, len(calls), callsPerCommit, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var check string
	if err := raw(t, path).QueryRow("PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
		t.Errorf("integrity_check: %s, %v", check, err)
	}
}

// Two stores of one process on one file see each other's changes, and closing
// one does not take the other's locks.
func TestTwoHandles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	a, b := openAt(t, path), openAt(t, path)
	if err := a.Commit(t.Context(), cluster.Change{Run: storetest.NewRun("shared")}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Run(t.Context(), "shared"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i, s := range []*sqlite.Store{a, b} {
		wg.Go(func() {
			for n := range 50 {
				c := cluster.Change{
					Calls:  []cluster.Call{storetest.NewCall("shared", fmt.Sprint("c", i, "-", n))},
					Events: []cluster.Event{{Run: "shared", Type: cluster.EventWarning}},
				}
				if err := s.Commit(context.Background(), c); err != nil {
					t.Error(err)
				}
				if other, err := sqlite.Open(context.Background(), path); err != nil {
					t.Error(err)
				} else {
					other.Close()
				}
			}
		})
	}
	wg.Wait()
	calls, err := a.Calls(t.Context(), "shared")
	if err != nil || len(calls) != 100 {
		t.Errorf("%d calls, %v", len(calls), err)
	}
	events, err := b.Events(t.Context(), "shared", 0, 0)
	if err != nil || len(events) != 100 || events[99].Seq != 100 {
		t.Errorf("%d events, %v", len(events), err)
	}
}
