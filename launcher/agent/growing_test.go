package agent

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The digest that was made ahead is the digest of the file as it is, whatever was
// done to it in between.
func TestGrowingDigestsWhatIsThere(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	content := func(n int) []byte {
		b := make([]byte, n)
		random.Read(b)
		return b
	}
	first := content(5<<20 + 123)
	write := func(t *testing.T, path string, at int64, b []byte) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
		if err == nil {
			_, err = f.WriteAt(b, at)
		}
		if err != nil || f.Close() != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, path string)
		ahead  bool // what was digested ahead is of use
	}{
		{"nothing", func(*testing.T, string) {}, true},
		{"more", func(t *testing.T, p string) { write(t, p, int64(len(first)), content(3<<20)) }, true},
		{"the last bytes change", func(t *testing.T, p string) { write(t, p, 5<<20+1, []byte{1, 2, 3}) }, true},
		{"one byte in the middle changes", func(t *testing.T, p string) { write(t, p, 3<<20, []byte{first[3<<20] + 1}) }, false},
		{"the first byte changes", func(t *testing.T, p string) { write(t, p, 0, []byte{first[0] + 1}) }, false},
		{"shorter", func(t *testing.T, p string) { os.Truncate(p, 2<<20) }, false},
		{"another file", func(t *testing.T, p string) {
			write(t, p+".new", 0, content(6<<20))
			os.Rename(p+".new", p)
		}, false},
		{"old", func(t *testing.T, p string) { // as after a long pause: its time says that it has not changed
			old := time.Now().Add(-time.Hour)
			os.Chtimes(p, old, old)
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "model")
			write(t, path, 0, first)
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			g := startGrowing(root, []string{"*"})
			g.finish() // the looks are made by hand
			look := func() {
				outputs, _, err := findOutputs(root, []string{"*"})
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range outputs {
					g.stop = make(chan struct{})
					g.look(o)
				}
			}
			look()
			if n := len(g.files["model"].blocks); n != 5 {
				t.Fatalf("%d blocks were digested ahead", n)
			}
			tt.change(t, path)
			if tt.name == "old" {
				look()
				if g.files["model"].settled == nil {
					t.Error("an old file is not settled")
				}
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			same := len(data) >= 5<<20 && bytes.Equal(data[:5<<20], first[:5<<20])
			if same != tt.ahead {
				t.Fatalf("the case is not what it says: prefix kept %v", same)
			}
			want, size, err := hashFile(root, "model", make([]byte, copyBuffer))
			if err != nil {
				t.Fatal(err)
			}
			got, n, err := g.digest("model", make([]byte, copyBuffer))
			if err != nil || got != want || n != size {
				t.Errorf("digest %s of %d bytes (%v), want %s of %d", got, n, err, want, size)
			}
		})
	}
}

// A file that is written anew again and again is left to the end.
func TestGrowingGivesUpOnWhatChangesAllTheTime(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	g := startGrowing(root, []string{"*"})
	g.finish()
	g.stop = make(chan struct{})
	for i := range 4 {
		if err := os.WriteFile(filepath.Join(dir, "new"), bytes.Repeat([]byte{byte(i)}, 2<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "model")); err != nil {
			t.Fatal(err)
		}
		outputs, _, err := findOutputs(root, []string{"model"})
		if err != nil || len(outputs) != 1 {
			t.Fatal(outputs, err)
		}
		g.look(outputs[0])
	}
	if n := len(g.files["model"].blocks); n != 0 {
		t.Errorf("%d blocks of a file that is always another one", n)
	}
}
