package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// call runs a component in a folder of its own, as on a machine, with the named
// files of others as its inputs. It gives the folder and the result.
func call(t *testing.T, inputs map[string]string, args ...string) (dir string, result json.RawMessage) {
	t.Helper()
	dir = t.TempDir()
	for name, from := range inputs {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("LEVIN_RESULT", filepath.Join(dir, "result.json"))
	t.Setenv("SEED", "7")
	var out bytes.Buffer
	if err := run(args, &out); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	if out.Len() == 0 {
		t.Errorf("%q said nothing", args)
	}
	result, err := os.ReadFile("result.json")
	if err != nil && args[0] != "report" {
		t.Fatal(err)
	}
	return dir, result
}

func TestGraph(t *testing.T) {
	wine, err := filepath.Abs("data/wine.csv")
	if err != nil {
		t.Fatal(err)
	}
	processed, _ := call(t, map[string]string{"data/wine.csv": wine}, "process")

	results := map[string]json.RawMessage{}
	forReport := map[string]string{}
	for _, kind := range []string{"logistic", "tree", "knn"} {
		dir, r := call(t, map[string]string{
			"inputs/process/train.csv": filepath.Join(processed, "train.csv"),
			"inputs/process/check.csv": filepath.Join(processed, "check.csv"),
		}, "train", kind)
		var m metrics
		if err := json.Unmarshal(r, &m); err != nil {
			t.Fatal(err)
		}
		if m.Model != kind || m.Accuracy < 0.7 {
			t.Errorf("%s: %+v", kind, m)
		}
		if _, err := os.Stat(filepath.Join(dir, "model.json")); err != nil {
			t.Error(err)
		}
		results[kind] = r
		forReport["inputs/train/"+kind+"/metrics.json"] = filepath.Join(dir, "metrics.json")
	}

	all, err := json.Marshal(results)
	if err != nil {
		t.Fatal(err)
	}
	chosen, r := call(t, nil, "best", string(all))
	var c choice
	if err := json.Unmarshal(r, &c); err != nil {
		t.Fatal(err)
	}
	if c.Of != 3 || c.Accuracy < 0.9 || results[c.Model] == nil {
		t.Errorf("best: %+v", c)
	}

	forReport["inputs/best/best.json"] = filepath.Join(chosen, "best.json")
	call(t, forReport, "report")
	text, err := os.ReadFile("report.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"**" + c.Model + "**", "## logistic", "## tree", "## knn", "class_2"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report does not say %q:\n%s", want, text)
		}
	}
}

func TestBest(t *testing.T) {
	for _, tt := range []struct{ results, want string }{
		{`{"b":{"accuracy":0.9},"a":{"accuracy":0.9},"c":{"accuracy":0.8}}`, "a"},
		{`{"b":{"accuracy":0.91},"a":{"accuracy":0.9}}`, "b"},
		{`{"a":{"accuracy":0}}`, "a"},
	} {
		_, r := call(t, nil, "best", tt.results)
		var c choice
		if err := json.Unmarshal(r, &c); err != nil {
			t.Fatal(err)
		}
		if c.Model != tt.want {
			t.Errorf("%s: %s, want %s", tt.results, c.Model, tt.want)
		}
	}
}

func TestRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, args := range [][]string{
		nil, {"dance"}, {"train"}, {"best"}, {"process", "more"}, {"best", "{}"}, {"best", "["}, {"train", "knn"}, {"process"}, {"report"},
	} {
		if err := run(args, &bytes.Buffer{}); err == nil {
			t.Errorf("%q passed", args)
		}
	}
	// A report about fewer models than were chosen from is refused.
	if err := os.MkdirAll("inputs/best", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("inputs/best/best.json", []byte(`{"of":3}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"report"}, &bytes.Buffer{}); err == nil {
		t.Error("a report about nothing passed")
	}
}
