package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/levinrun/levin/examples/ml"
)

// workFolder makes a folder as it is on the machine, with a model in it, goes
// there, and gives the model's accuracy.
func workFolder(t *testing.T) float64 {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "data"), os.DirFS("../data")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	t.Setenv("LEVIN_RESULT", filepath.Join(dir, "result.json"))
	data, err := ml.Load("data/iris.csv")
	if err != nil {
		t.Fatal(err)
	}
	rows, held := data.Split(0.3, 7)
	training, err := data.Pick(rows)
	if err != nil {
		t.Fatal(err)
	}
	checking, err := data.Pick(held)
	if err != nil {
		t.Fatal(err)
	}
	m := model{ml.FitLogistic(training), held}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	writeModel(t, string(text))
	return ml.Check(m, checking).Accuracy()
}

func writeModel(t *testing.T, text string) {
	t.Helper()
	if err := os.MkdirAll("inputs/train", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("inputs/train/model.json", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAnalyze(t *testing.T) {
	accuracy := workFolder(t)
	var out bytes.Buffer
	if err := run([]string{"CPU machine 1", strconv.FormatFloat(accuracy, 'g', -1, 64)}, &out); err != nil {
		t.Fatal(err)
	}
	report, err := os.ReadFile("report.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CPU machine 1", "setosa", "versicolor", "virginica", "accuracy"} {
		if !strings.Contains(string(report), want) {
			t.Errorf("the report does not say %q:\n%s", want, report)
		}
	}
	if !strings.Contains(out.String(), "CPU machine 1") {
		t.Errorf("output: %s", &out)
	}
	text, err := os.ReadFile("result.json")
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if r.Accuracy != accuracy || r.Accuracy < 0.9 || len(r.ByClass) != 3 {
		t.Errorf("result: %+v", r)
	}
}

func TestAnalyzeRefuses(t *testing.T) {
	accuracy := workFolder(t)
	exact := strconv.FormatFloat(accuracy, 'g', -1, 64)
	for _, args := range [][]string{nil, {"m"}, {"m", "good"}, {"m", "0.5"}} {
		if err := run(args, &bytes.Buffer{}); err == nil {
			t.Errorf("%q passed", args)
		}
	}
	for _, text := range []string{"", "{", "{}", `{"held": [0]}`} {
		writeModel(t, text)
		if err := run([]string{"m", exact}, &bytes.Buffer{}); err == nil {
			t.Errorf("the model %q passed", text)
		}
	}
}
