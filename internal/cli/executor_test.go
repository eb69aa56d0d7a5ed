package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/flow"
	"github.com/levinrun/levin/flow/executortest"
	"github.com/levinrun/levin/provision"
)

// TestExecutor holds the real executor, on the local cloud with real Terraform
// and SSH, to the contract that the coordinator relies on.
func TestExecutor(t *testing.T) {
	cache := t.TempDir()
	executortest.Run(t, func(t *testing.T) flow.Executor { return newLocalExecutor(t, cache) })
}

func newLocalExecutor(t *testing.T, cache string) *executor {
	t.Helper()
	home, appDir := t.TempDir(), t.TempDir()
	d := &deps{World: World{
		Env: append(os.Environ(), "LEVIN_HOME="+home, "XDG_CACHE_HOME="+cache, "LEVIN_CONFIG="+filepath.Join(home, "none.yaml")),
		Dir: home, Stdout: io.Discard, Stderr: io.Discard, Now: time.Now,
	}}
	if err := os.WriteFile(filepath.Join(home, "none.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	settings, err := d.settings(nil)
	if err != nil {
		t.Fatal(err)
	}
	logger, closeLog, err := d.logger()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeLog)
	journal := cluster.NewJournal(memory.New())
	run := cluster.Run{ID: "r", App: "r", State: cluster.RunPending, CreatedAt: time.Now()}
	if err := journal.Commit(t.Context(), cluster.Change{Run: &run}); err != nil {
		t.Fatal(err)
	}
	clouds, closeClouds, err := d.newClouds(settings, []string{"local"}, journal, logger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeClouds)
	app := &configs.App{Name: "r", Dir: appDir, Components: []configs.Component{{Name: "work", MaxMachines: 16}}}
	plan, err := provision.NewPlan(t.Context(), app, clouds, provision.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	runner, err := d.newRunner(t.Context(), settings, logger)
	if err != nil {
		t.Fatal(err)
	}
	dir := runDir(settings, "r")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	public, err := newKey(keyPath(dir), "levin-test")
	if err != nil {
		t.Fatal(err)
	}
	c := &controller{d: d, settings: settings, clouds: clouds, runner: runner, journal: journal, logger: logger, run: run, dir: dir}
	prov, err := provision.New(c.provisionConfig(public))
	if err != nil {
		t.Fatal(err)
	}
	x := &executor{
		app: app, plan: plan, prov: prov, clouds: byName(clouds), keyFile: keyPath(dir), reach: d.reach(settings, logger),
		sessions: map[string]*session{}, spot: map[string]bool{}, warn: func(component, message string) { t.Logf("%s: %s", component, message) },
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		x.releaseAll("the test is over")
		prov.StopAll("the test is over")
		if left, err := prov.Wait(ctx); err != nil || len(left) > 0 {
			t.Errorf("machines are left: %v %v", left, err)
		}
		prov.Close()
	})
	return x
}

// An empty list of files ships nothing of the app, while launcher takes one for
// all of it.
func TestTreesOfNoFiles(t *testing.T) {
	x := &executor{app: &configs.App{Dir: "/app"}}
	work := flow.Work{Component: configs.Component{Files: []string{}}, Inputs: []flow.Input{{Dir: "/artifacts", At: "inputs/a"}}}
	got := x.trees(work)
	if len(got) != 1 || got[0].Root != "/artifacts" {
		t.Errorf("nothing of the app was asked for, but %+v is shipped", got)
	}
	work.Component.Files = []string{"."}
	if got = x.trees(work); len(got) != 2 || got[0].Root != "/app" {
		t.Errorf("%+v is shipped", got)
	}
}

func TestReachFollowsTheSettings(t *testing.T) {
	d := &deps{World: World{Env: []string{"XDG_CACHE_HOME=" + t.TempDir()}}}
	got := d.reach(configs.Settings{Lease: time.Minute, LostAfter: time.Second}, nil)
	if got.Lease != time.Minute || got.LostAfter != time.Second {
		t.Errorf("%+v", got)
	}
}
