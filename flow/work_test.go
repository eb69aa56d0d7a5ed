package flow_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/flow"
)

// works collects what attempts were given, by call.
type works struct {
	mu   sync.Mutex
	byID map[string]flow.Work
}

func (ws *works) add(w flow.Work) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.byID == nil {
		ws.byID = map[string]flow.Work{}
	}
	ws.byID[w.Env["LEVIN_CALL"]] = w
}

func TestWork(t *testing.T) {
	train := comp("train", forEach("svm", "a b"))
	train.Run = configs.Command{Shell: "train ${each} > model"}
	train.Outputs = []string{"model"}
	train.Env = map[string]string{"SEED": "7", "NAME": "x-${each}", "LEVIN_RUN": "mine"}
	evaluate := comp("evaluate", needs("train", "prepare"))
	evaluate.Run = configs.Command{Args: []string{"./evaluate", "${prepare.result.path}", "${train.result}"}}
	w := &works{}
	world := newWorld(t, app(train, comp("prepare"), evaluate), func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
		w.add(work)
		outcome := flow.Outcome{Result: json.RawMessage("{\"path\": \"/data/\u00e9\", \"n\": 1.50}\n")}
		if work.Component.Name == "train" {
			outcome.Artifacts = []cluster.Artifact{{Path: "model"}}
			outcome.Result = json.RawMessage(`"` + work.Env["LEVIN_EACH"] + `"`)
		}
		return ends(outcome)(ctx, m, work, o)
	}, nil)
	if result := world.run(context.Background()); result.Err != nil {
		t.Fatal(result.Err)
	}

	got := w.byID["r-train-1"]
	if diff := cmp.Diff(map[string]string{
		"SEED": "7", "NAME": "x-a b", "LEVIN_VAR_1": "a b", "LEVIN_RUN": "r", "LEVIN_APP": "demo",
		"LEVIN_COMPONENT": "train", "LEVIN_CALL": "r-train-1", "LEVIN_ATTEMPT": "1", "LEVIN_EACH": "a b",
		"LEVIN_NODE_RANK": "0", "LEVIN_NODES": "1",
	}, got.Env); diff != "" {
		t.Error(diff)
	}
	if got.ID != "r-train-1-a1" || got.Command.Shell != `train "${LEVIN_VAR_1}" > model` || got.ArtifactDir != filepath.Join(world.dir, "artifacts", "r-train-1") {
		t.Errorf("%+v", got)
	}
	if out, err := func() ([]byte, error) { // the shell sees one word
		cmd := exec.Command("/bin/sh", "-c", strings.Replace(got.Command.Shell, "train ", "printf '[%s]' ", 1)+"; cat model")
		cmd.Dir, cmd.Env = t.TempDir(), []string{"LEVIN_VAR_1=" + got.Env["LEVIN_VAR_1"]}
		return cmd.CombinedOutput()
	}(); err != nil || string(out) != "[a b]" {
		t.Errorf("%q, %v", out, err)
	}

	got = w.byID["r-evaluate"]
	if diff := cmp.Diff([]string{"./evaluate", "/data/\u00e9", `{"a b":"a b","svm":"svm"}`}, got.Command.Args); diff != "" {
		t.Error(diff)
	}
	wantInputs := []flow.Input{ // "a b" is not the name of a folder, so all items go by number
		{At: "inputs/train/0", Dir: flow.ArtifactDir(world.dir, "r-train-0")},
		{At: "inputs/train/1", Dir: flow.ArtifactDir(world.dir, "r-train-1")},
	}
	if diff := cmp.Diff(wantInputs, got.Inputs); diff != "" {
		t.Error(diff)
	}
	if _, ok := got.Env["LEVIN_EACH"]; ok {
		t.Error("LEVIN_EACH without for_each")
	}
}

func TestInputFolders(t *testing.T) {
	tests := []struct {
		items []string
		want  []string
	}{
		{nil, []string{"inputs/up"}},
		{[]string{"svm", "v1.2_x-Y"}, []string{"inputs/up/svm", "inputs/up/v1.2_x-Y"}},
		{[]string{"svm", ".."}, []string{"inputs/up/0", "inputs/up/1"}},
		{[]string{".", "x"}, []string{"inputs/up/0", "inputs/up/1"}},
		{[]string{"a/b"}, []string{"inputs/up/0"}},
		{[]string{""}, []string{"inputs/up/0"}},
		{[]string{"x", "x"}, []string{"inputs/up/0", "inputs/up/1"}},
		{[]string{"x", "é"}, []string{"inputs/up/0", "inputs/up/1"}},
		{[]string{strings.Repeat("x", 256)}, []string{"inputs/up/0"}},
	}
	for _, tt := range tests {
		up := comp("up")
		up.ForEach = tt.items
		w := &works{}
		world := newWorld(t, app(up, comp("down", needs("up"))), func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
			w.add(work)
			return ends(flow.Outcome{Artifacts: []cluster.Artifact{{Path: "x"}}})(ctx, m, work, o)
		}, nil)
		world.run(context.Background())
		var got []string
		for _, in := range w.byID["r-down"].Inputs {
			got = append(got, in.At)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q: %s", tt.items, diff)
		}
	}
}

func TestExpressions(t *testing.T) {
	const result = ` {"accuracy":0.93,"name":"iris \"x\"","best":{"k":[1, 2],"none":null},"ok":true,"empty":""} `
	tests := []struct {
		expr string
		want string
		err  string
	}{
		{expr: "${up.result}", want: `{"accuracy":0.93,"name":"iris \"x\"","best":{"k":[1,2],"none":null},"ok":true,"empty":""}`},
		{expr: "${up.result.accuracy}", want: "0.93"},
		{expr: "${up.result.name}", want: `iris "x"`},
		{expr: "${up.result.best}", want: `{"k":[1,2],"none":null}`},
		{expr: "${up.result.best.k}", want: "[1,2]"},
		{expr: "${up.result.best.none}", want: "null"},
		{expr: "${up.result.ok}", want: "true"},
		{expr: "${up.result.empty}", want: ""},
		{expr: "${up.result.acuracy}", err: "up's result has no field acuracy; it has accuracy, best, empty, name, ok"},
		{expr: "${up.result.best.x}", err: "up's result.best has no field x; it has k, none"},
		{expr: "${up.result.best.k.x}", err: "up's result.best.k has no field x: it is [1,2]"},
		{expr: "${up.result.best.none.x}", err: "up's result.best.none has no field x: it is null"},
		{expr: "${silent.result}", err: "silent gave no result: it wrote nothing to $LEVIN_RESULT"},
		{expr: "${silent.result.x}", err: "silent gave no result"},
		{expr: "${other.result}", err: "down does not need other"},
		{expr: "${each}", err: "no meaning without for_each"},
	}
	for _, tt := range tests {
		t.Run(tt.expr, func(t *testing.T) {
			down := comp("down", needs("up", "silent"), retries(3))
			down.Run.Shell = "echo " + tt.expr
			w := &works{}
			world := newWorld(t, app(comp("up"), comp("silent"), comp("other"), down), func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
				w.add(work)
				outcome := flow.Outcome{}
				if work.Component.Name == "up" {
					outcome.Result = json.RawMessage(result)
				}
				return ends(outcome)(ctx, m, work, o)
			}, nil)
			outcome := world.run(context.Background())
			if tt.err == "" {
				if got := w.byID["r-down"].Env["LEVIN_VAR_1"]; outcome.Err != nil || got != tt.want {
					t.Errorf("%q, %v; want %q", got, outcome.Err, tt.want)
				}
				return
			}
			call := world.call("r-down")
			if call.State != cluster.CallFailed || !strings.Contains(call.Error, tt.err) {
				t.Errorf("%s: %s", call.State, call.Error)
			}
			// It fails without a machine and is not tried again.
			if call.Attempt != 1 || world.exec.MostMachines("down") != 0 {
				t.Errorf("%d attempts, %d machines", call.Attempt, world.exec.MostMachines("down"))
			}
		})
	}
}
