package terraform

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestResources(t *testing.T) {
	const some = `{"version":4,"resources":[
		{"mode":"data","type":"d","name":"x","instances":[{}]},
		{"module":"module.m","mode":"managed","type":"t","name":"n","instances":[{"index_key":"b"},{"index_key":"a"}]},
		{"mode":"managed","type":"t","name":"counted","instances":[{"index_key":0},{"index_key":10}]},
		{"mode":"managed","type":"t","name":"one","instances":[{"deposed":"0a1b"},{}]}]}`
	for _, c := range []struct {
		name, state, errored string
		want                 []string
		wantErr              string
	}{
		{name: "absent"},
		{name: "empty", state: "\n"},
		{name: "nothing", state: `{"version":4,"resources":[]}`},
		{name: "some", state: some, want: []string{
			`module.m.t.n["a"]`, `module.m.t.n["b"]`, "t.counted[0]", "t.counted[10]", "t.one", "t.one (deposed 0a1b)",
		}},
		{name: "what could not be written", state: `{"version":4,"resources":[]}`, errored: `{"version":4,"resources":[{"mode":"managed","type":"t","name":"n","instances":[{}]}]}`, want: []string{"t.n"}},
		{name: "cut off", state: some[:40], wantErr: "unexpected end"},
		{name: "another format", state: `{"version":5}`, wantErr: "format is 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range map[string]string{stateFile: c.state, erroredFile: c.errored} {
				if content == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Resources(dir)
			if c.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), c.wantErr) {
					t.Errorf("error: %v", err)
				}
				return
			}
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
	if got, err := Resources(filepath.Join(t.TempDir(), "none")); got != nil || err != nil {
		t.Errorf("no folder: %v %v", got, err)
	}
}

func TestMachineOfAddress(t *testing.T) {
	for address, want := range map[string]string{
		"":                                   "",
		"t.n":                                "",
		"t.n[0]":                             "",
		`t.n["web"]`:                         "web",
		`module.a["x"].t.n["web"]`:           "web",
		`module.a["x"].t.n`:                  "",
		`t.n["a[\"b\"]"]`:                    `a["b"]`,
		`t.n["a[\"b"]`:                       `a["b`,
		`module.machines.t.n["run-train-1"]`: "run-train-1",
		`"]`:                                 "",
	} {
		if got := (Diagnostic{Address: address}).Machine(); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}

// Whatever the key, it comes back out of its address.
func FuzzMachineOfAddress(f *testing.F) {
	f.Add("web")
	f.Add(`a["b"]`)
	f.Add("[\"")
	f.Fuzz(func(t *testing.T, key string) {
		quoted, err := json.Marshal(key)
		if err != nil || strings.ContainsAny(string(quoted), "/") {
			return
		}
		var plain string
		if json.Unmarshal(quoted, &plain) != nil || plain != key {
			return // not UTF-8
		}
		if got := (Diagnostic{Address: "module.m.t.n[" + string(quoted) + "]"}).Machine(); got != key {
			t.Errorf("%s gave %q", quoted, got)
		}
	})
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":4,"resources":[{"mode":"managed","type":"t","name":"n","instances":[{"index_key":"a"}]}]}`))
	f.Add([]byte(`{"version":4,"resources":[{"mode":"managed","instances":[{"index_key":{}}]}]}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, content []byte) {
		addresses, err := stateAddresses(content)
		if err != nil && addresses != nil {
			t.Error("both addresses and an error")
		}
	})
}

// The stream may come in any pieces, and holds whatever Terraform and its
// providers write.
func FuzzStream(f *testing.F) {
	f.Add([]byte(`{"type":"outputs","outputs":{"machines":{"value":{"a":1}}}}`+"\n"), 3)
	f.Add([]byte("Warning: not JSON\n"+`{"type":"diagnostic","diagnostic":{"severity":"error","summary":"s"}}`+"\n"), 1)
	f.Fuzz(func(t *testing.T, all []byte, size int) {
		var whole, pieces stream
		whole.Write(all)
		size = max(1, size)
		for piece := range slices.Chunk(all, size) {
			if n, err := pieces.Write(piece); n != len(piece) || err != nil {
				t.Fatalf("wrote %d of %d: %v", n, len(piece), err)
			}
		}
		a, errA := json.Marshal([]any{whole.outputs, whole.diagnostics})
		b, errB := json.Marshal([]any{pieces.outputs, pieces.diagnostics})
		if string(a) != string(b) || (errA == nil) != (errB == nil) {
			t.Errorf("in one piece %s, in pieces of %d %s", a, size, b)
		}
	})
}
