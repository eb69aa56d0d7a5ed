package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision/cloudtest/emulator"
)

// TestCloudChaos lets several things go wrong at moments chosen by a seed: the
// cloud fails in any of its ways at any step, and the controller is killed at any
// moment or not at all. Once the cloud works again, `levin gc` leaves nothing
// there, and `levin down` brings the books up to date. LEVIN_CHAOS=N tries N seeds
// instead of a few; LEVIN_CHAOS_SEED=S tries one.
func TestCloudChaos(t *testing.T) {
	t.Parallel()
	first, n := uint64(1), 6
	if s := os.Getenv("LEVIN_CHAOS"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	if s := os.Getenv("LEVIN_CHAOS_SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
		n = 1
	}
	for seed := first; seed < first+uint64(n); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			chaos(t, rand.New(rand.NewPCG(seed, 3)))
		})
	}
}

const chaosApp = `
name: chaos
components:
  train:
    for_each: [a, b]
    resources: {gpu: T4, spot: auto}
    start_timeout: 20s
    checkpoint: [ckpt]
    run: echo started; echo ${each} > ckpt; sleep 1; echo ${each} > model
    outputs: [model]
  report:
    needs: [train]
    resources: {cpus: 2..}
    start_timeout: 20s
    run: cat inputs/train/a/model inputs/train/b/model
`

func chaos(t *testing.T, rnd *rand.Rand) {
	s := newSky(t, func(cfg *emulator.Config) { cfg.Boot = time.Duration(rnd.IntN(300)) * time.Millisecond }, "lost_after: 5s\n")
	kinds := []emulator.FaultKind{
		emulator.FaultCapacity, emulator.FaultSpot, emulator.FaultQuota, emulator.FaultThrottled, emulator.FaultExpired,
		emulator.FaultDenied, emulator.FaultLost, emulator.FaultNoBoot, emulator.FaultHang, emulator.FaultUnsaid,
	}
	var repair []func()
	for range 1 + rnd.IntN(3) {
		f := emulator.Fault{
			Kind: kinds[rnd.IntN(len(kinds))], Op: []string{"create", "create", "terminate", "describe"}[rnd.IntN(4)],
			Cloud: []string{"aws", "gcp", ""}[rnd.IntN(3)], Times: rnd.IntN(4),
		}
		t.Logf("fault: %+v", f)
		repair = append(repair, s.Inject(f))
	}
	p := s.start("run", s.app(chaosApp, nil), "--json")
	killed := rnd.IntN(2) == 0
	if killed {
		at := time.Duration(rnd.IntN(6000)) * time.Millisecond
		t.Logf("killed after %s", at)
		timer := time.AfterFunc(at, func() { p.cmd.Process.Signal(syscall.SIGKILL) })
		defer timer.Stop()
	}
	if rnd.IntN(3) == 0 {
		for _, thing := range s.alive() {
			if thing.Spot {
				s.Preempt(thing.Cloud, thing.ID, 2*time.Second)
			}
		}
	}
	o := p.wait()
	for _, fix := range repair {
		fix()
	}
	if !killed && o.code == 0 && len(s.Left()) > 0 {
		t.Errorf("the run succeeded and left %v", s.Left())
	}
	if finished := o.find(cluster.EventRunFinished); len(finished) == 1 && *finished[0].Leaked == 0 && len(s.alive()) > 0 {
		t.Errorf("the run says that nothing is left, and there is %v", s.alive())
	}
	if gc := s.levin("gc", "--dry-run=false"); gc.code != 0 {
		t.Errorf("gc: %d\n%s%s", gc.code, gc.stdout, gc.stderr)
	}
	for _, thing := range s.Left() {
		t.Errorf("gc left %s %s %s (%s) %v", thing.Cloud, thing.Kind, thing.ID, thing.State, thing.Tags)
	}
	if down := s.levin("down", "--all"); down.code != 0 {
		t.Errorf("down: %d\n%s%s", down.code, down.stdout, down.stderr)
	}
	s.checkGone()
	s.checkNoSecret()
	if t.Failed() {
		t.Logf("the run exited with %d\n%.6000s\n%s", o.code, o.stdout, o.stderr)
	}
}
