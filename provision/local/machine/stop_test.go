package machine

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// spawnTree starts processes on the machine that do not want to die, detached
// from their connection, and gives their process ids.
func spawnTree(t *testing.T, r *rig, info Info) []int {
	t.Helper()
	client := r.dial(info)
	out := r.output(client, `
		stubborn='trap "" TERM HUP INT; echo $$ >> pids; while :; do sleep 1; done'
		setsid sh -c "$stubborn" </dev/null >/dev/null 2>&1 &
		(setsid sh -c "setsid sh -c '$stubborn' & $stubborn" </dev/null >/dev/null 2>&1 &)
		setsid sh -c 'echo $$ >> pids; kill -STOP $$' </dev/null >/dev/null 2>&1 &
		until [ "$(wc -l < pids 2>/dev/null || echo 0)" -ge 4 ]; do sleep 0.01; done
		cat pids`)
	var pids []int
	for f := range strings.FieldsSeq(out) {
		pids = append(pids, pidOf(t, f))
	}
	return pids
}

func TestStopEndsTheWholeTree(t *testing.T) {
	linuxOnly(t)
	t.Parallel()
	r := newRig(t)
	info := r.start(r.options("m1"))
	pids := spawnTree(t, r, info)
	r.stop("m1")
	for _, pid := range append(pids, info.PID) {
		if running(pid) {
			t.Errorf("process %d survived its machine", pid)
		}
	}
}

func TestStopEndsWhatForksAllTheTime(t *testing.T) {
	linuxOnly(t)
	t.Parallel()
	r := newRig(t)
	info := r.start(r.options("m1"))
	client := r.dial(info)
	r.output(client, `cat > chain <<'END'
trap "" TERM
sh ./chain & exit
END
setsid sh ./chain </dev/null >/dev/null 2>&1 &`)
	r.stop("m1")
	if left, err := Strays(r.dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestStopAfterTheMachineWasKilled(t *testing.T) {
	linuxOnly(t)
	t.Parallel()
	r := newRig(t)
	o := r.options("m1")
	info := r.start(o)
	pids := spawnTree(t, r, info)
	syscall.Kill(info.PID, syscall.SIGKILL)
	gone(t, info.PID)
	if Alive(o.Dir) {
		t.Error("a killed machine is said to be alive")
	}
	if left, err := Strays(r.dir); err != nil || len(left) != 1 || left[0] != o.Dir {
		t.Errorf("strays: %v, %v", left, err)
	}
	for _, pid := range pids {
		if !running(pid) {
			t.Fatalf("process %d is dead already: this test shows nothing", pid)
		}
	}
	r.stop("m1")
	for _, pid := range pids {
		if running(pid) {
			t.Errorf("process %d survived", pid)
		}
	}
	if exists(o.Dir) {
		t.Error("the folder is left")
	}
}

func TestStartOverAKilledMachine(t *testing.T) {
	linuxOnly(t)
	t.Parallel()
	r := newRig(t)
	o := r.options("m1")
	info := r.start(o)
	pids := spawnTree(t, r, info)
	syscall.Kill(info.PID, syscall.SIGKILL)
	gone(t, info.PID)
	again := r.start(o)
	if again.PID == info.PID || again.HostKey == info.HostKey {
		t.Error("the dead machine was taken for a living one")
	}
	for _, pid := range pids {
		if running(pid) {
			t.Errorf("process %d of the dead machine is still there", pid)
		}
	}
	if exists(filepath.Join(o.Dir, "home", "pids")) {
		t.Error("files of the dead machine are still there")
	}
	r.stop("m1")
}

func TestSweepFindsProcessesWithoutAFolder(t *testing.T) {
	linuxOnly(t)
	t.Parallel()
	r := newRig(t)
	o := r.options("m1")
	info := r.start(o)
	pids := spawnTree(t, r, info)
	syscall.Kill(info.PID, syscall.SIGKILL)
	gone(t, info.PID)
	os.RemoveAll(o.Dir)
	left, err := Strays(r.dir)
	if err != nil || len(left) != 1 {
		t.Fatalf("strays: %v, %v", left, err)
	}
	if err := Sweep(t.Context(), left[0]); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if running(pid) {
			t.Errorf("process %d survived", pid)
		}
	}
}

func TestStopWithADeadContextStillStops(t *testing.T) {
	linuxOnly(t)
	t.Parallel()
	r := newRig(t)
	o := r.options("m1")
	info := r.start(o)
	pids := spawnTree(t, r, info)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Stop(ctx, o.Dir); err != nil {
		t.Fatal(err)
	}
	for _, pid := range append(pids, info.PID) {
		if running(pid) {
			t.Errorf("process %d survived", pid)
		}
	}
}

func TestStopOfAMachineThatHangs(t *testing.T) {
	linuxOnly(t)
	t.Parallel()
	r := newRig(t)
	o := r.options("m1")
	info := r.start(o)
	pids := spawnTree(t, r, info)
	syscall.Kill(info.PID, syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := Stop(ctx, o.Dir); err != nil {
		t.Fatal(err)
	}
	for _, pid := range append(pids, info.PID) {
		if running(pid) {
			t.Errorf("process %d survived", pid)
		}
	}
}

// Starting and stopping the same name from all sides at once ends in one of the
// two states, never in between.
func TestStartAndStopAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	o := r.options("m1")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				if _, err := r.starter.Start(context.Background(), o); err != nil {
					t.Errorf("start: %v", err)
				}
			}
		})
		wg.Go(func() {
			for range 25 {
				if err := Stop(context.Background(), o.Dir); err != nil {
					t.Errorf("stop: %v", err)
				}
			}
		})
	}
	wg.Wait()
	r.stop("m1")
	if left, err := Strays(r.dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestRemovesWhatItsOwnerCannotWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	deep := filepath.Join(dir, "home", "go", "mod")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	os.Symlink(outside, filepath.Join(deep, "link"))
	os.WriteFile(filepath.Join(deep, "f"), nil, 0o400)
	os.Chmod(outside, 0o500)
	os.Chmod(deep, 0o500)
	os.Chmod(filepath.Dir(deep), 0o000)
	makeWritable(filepath.Join(dir, "home")) // root may remove anything: see that the modes are changed
	if info, err := os.Stat(deep); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if info, err := os.Stat(outside); err != nil || info.Mode().Perm() != 0o500 {
		t.Errorf("a link was followed: %v, %v", info, err)
	}
	os.Chmod(outside, 0o700)
	if err := removeDir(dir); err != nil || exists(dir) {
		t.Errorf("not removed: %v", err)
	}
}
