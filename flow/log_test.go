package flow_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/flow"
	"github.com/levinrun/levin/flow/inprocess"
)

// prints is work that prints these chunks.
func prints(chunks ...chunk) inprocess.Func {
	return func(ctx context.Context, m string, w flow.Work, o flow.Observer) (flow.Outcome, error) {
		for _, c := range chunks {
			o.Log(c.offset, []byte(c.text))
		}
		return inprocess.NoOp(ctx, m, w, o)
	}
}

type chunk struct {
	offset int64
	text   string
}

func TestLog(t *testing.T) {
	tests := []struct {
		name   string
		chunks []chunk
		file   string
		lines  []string
		warn   string
	}{
		{"lines", []chunk{{0, "a\nb"}, {3, "b\n"}}, "a\nbb\n", []string{"a", "bb"}, ""},
		{"last line without newline", []chunk{{0, "a\nb"}}, "a\nb", []string{"a", "b"}, ""},
		{"repeated after a reconnect", []chunk{{0, "one\ntwo\n"}, {4, "two\nthree\n"}, {0, "one\n"}, {14, "end"}}, "one\ntwo\nthree\nend", []string{"one", "two", "three", "end"}, ""},
		{"terminal escapes are kept", []chunk{{0, "\x1b[1mx\x1b[0m\r\n"}}, "\x1b[1mx\x1b[0m\r\n", []string{"\x1b[1mx\x1b[0m"}, ""},
		{"bytes that never come", []chunk{{0, "ab"}, {4, "cd\n"}}, "ab\x00\x00cd\n", []string{"ab", "cd"}, "2 bytes of its log have not come"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, app(comp("a")), prints(tt.chunks...), nil)
			w.run(context.Background())
			got, err := os.ReadFile(flow.LogPath(w.dir, "r-a", 1))
			if err != nil || string(got) != tt.file {
				t.Errorf("%q, %v", got, err)
			}
			if diff := cmp.Diff(tt.lines, w.lines("r-a")); diff != "" {
				t.Error(diff)
			}
			if tt.warn != "" && w.event(cluster.EventWarning, "r-a").Message != tt.warn {
				t.Error(w.event(cluster.EventWarning, "r-a"))
			}
		})
	}
}

// Each attempt has a file of its own, and one that printed nothing has none.
func TestLogFiles(t *testing.T) {
	w := newWorld(t, app(comp("a", retries(1)), comp("silent")), byComponent(map[string]inprocess.Func{
		"a": func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
			o.Log(0, []byte("attempt "+work.Env["LEVIN_ATTEMPT"]))
			if work.Env["LEVIN_ATTEMPT"] == "1" {
				return flow.Outcome{ExitCode: 1}, nil
			}
			return flow.Outcome{}, nil
		},
	}), nil)
	w.run(context.Background())
	entries, err := os.ReadDir(filepath.Join(w.dir, "logs"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		p, err := os.ReadFile(filepath.Join(w.dir, "logs", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(p)
	}
	if diff := cmp.Diff(map[string]string{"r-a-a1.log": "attempt 1", "r-a-a2.log": "attempt 2"}, got); diff != "" {
		t.Error(diff)
	}
}

// A log that cannot be written is told of once and ends nothing.
func TestLogCannotBeWritten(t *testing.T) {
	w := newWorld(t, app(comp("a")), prints(chunk{0, "x\n"}, chunk{2, "y\n"}), nil)
	if err := os.WriteFile(filepath.Join(w.dir, "logs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if result := w.run(context.Background()); result.Err != nil {
		t.Error(result.Err)
	}
	if diff := cmp.Diff([]string{"x", "y"}, w.lines("r-a")); diff != "" {
		t.Error(diff)
	}
	warnings := 0
	for _, e := range w.heard("r-a") {
		if e == "warning" {
			warnings++
		}
	}
	if warnings != 1 {
		t.Errorf("%d warnings: %v", warnings, w.heard("r-a"))
	}
}

// What an executor says after Run has returned is not heard.
func TestObserverAfterTheEnd(t *testing.T) {
	var late flow.Observer
	w := newWorld(t, app(comp("a"), comp("b", needs("a"))), byComponent(map[string]inprocess.Func{
		"a": func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
			late = o
			return inprocess.NoOp(ctx, m, work, o)
		},
		"b": func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
			late.Log(0, []byte("late\n"))
			late.Shipped(1)
			late.Running()
			return inprocess.NoOp(ctx, m, work, o)
		},
	}), nil)
	w.run(context.Background())
	if diff := cmp.Diff([]string{"started", "shipped", "running", "exited", "succeeded"}, w.heard("r-a")); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(flow.LogPath(w.dir, "r-a", 1)); err == nil {
		t.Error("there is a log")
	}
}

// FuzzLog prints bytes in chunks that overlap as they do after a reconnect: the
// file is what was printed, to the byte.
func FuzzLog(f *testing.F) {
	f.Add([]byte("a\nb\r\n\x00"), uint64(1))
	f.Add([]byte(strings.Repeat("line\n", 1000)), uint64(2))
	f.Fuzz(func(t *testing.T, p []byte, seed uint64) {
		w := newWorld(t, app(comp("a")), func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
			rng := rand.New(rand.NewPCG(seed, 0))
			for at := 0; at < len(p); {
				from := at - rng.IntN(at+1)
				to := min(len(p), from+1+rng.IntN(len(p)))
				o.Log(int64(from), p[from:to])
				at = max(at, to)
			}
			return inprocess.NoOp(ctx, m, work, o)
		}, nil)
		w.run(context.Background())
		got, err := os.ReadFile(flow.LogPath(w.dir, "r-a", 1))
		if len(p) > 0 && (err != nil || !bytes.Equal(got, p)) {
			t.Fatalf("%q became %q, %v", p, got, err)
		}
		text := strings.Join(w.lines("r-a"), "\n")
		want := strings.TrimSuffix(string(p), "\n")
		if !bytes.ContainsRune(p, '\r') && len(p) < 1000 && text != want {
			t.Fatalf("%q became the lines %q", p, text)
		}
	})
}
