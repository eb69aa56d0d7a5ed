package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// workFolder makes a folder as it is on the machine, and goes there.
func workFolder(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "data"), os.DirFS("../data")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	t.Setenv("LEVIN_RESULT", filepath.Join(dir, "result.json"))
}

func read(t *testing.T, name string, v any) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTrain(t *testing.T) {
	workFolder(t)
	t.Setenv("SEED", "7")
	var out bytes.Buffer
	if err := run([]string{"GPU machine 2"}, &out); err != nil {
		t.Fatal(err)
	}
	var r result
	read(t, "result.json", &r)
	if r.Accuracy < 0.9 || !strings.Contains(r.Message, "GPU machine 2") {
		t.Errorf("result: %+v", r)
	}
	if !strings.Contains(out.String(), "GPU machine 2") {
		t.Errorf("output: %s", &out)
	}
	var m model
	first := read(t, "model.json", &m)
	if len(m.Held) != 45 {
		t.Errorf("%d flowers held out", len(m.Held))
	}

	if err := run([]string{"GPU machine 2"}, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, read(t, "model.json", &m)); diff != "" {
		t.Errorf("the same seed made another model:\n%s", diff)
	}
	t.Setenv("SEED", "8")
	if err := run([]string{"GPU machine 2"}, &out); err != nil {
		t.Fatal(err)
	}
	if read(t, "model.json", &m) == first {
		t.Error("another seed made the same model")
	}
}

func TestTrainRefuses(t *testing.T) {
	workFolder(t)
	if err := run(nil, &bytes.Buffer{}); err == nil {
		t.Error("no arguments passed")
	}
	t.Setenv("SEED", "seven")
	if err := run([]string{"m"}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "SEED") {
		t.Errorf("SEED=seven: %v", err)
	}
	t.Setenv("SEED", "")
	t.Setenv("LEVIN_RESULT", "")
	if err := run([]string{"m"}, &bytes.Buffer{}); err != nil {
		t.Errorf("outside Levin: %v", err)
	}
	if err := os.Remove("data/iris.csv"); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"m"}, &bytes.Buffer{}); err == nil {
		t.Error("trained without data")
	}
}
