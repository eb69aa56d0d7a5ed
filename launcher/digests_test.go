package launcher

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// digestsOf walks a folder and gives each file's digest, and how many had to be
// read.
func digestsOf(t *testing.T, dir, cache string) (map[string]string, int) {
	t.Helper()
	src, err := walk(context.Background(), []Tree{{Root: dir}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	unknown := len(loadDigests(cache).fill(src.items))
	for i := range src.items {
		src.items[i].entry.Digest = ""
	}
	if err := digestAll(context.Background(), src.items, cache); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, it := range src.items {
		got[it.entry.Path] = it.entry.Digest
	}
	return got, unknown
}

// age makes a file old enough for its digest to be remembered. Its change time
// cannot be set, so the test waits for that once.
func age(t *testing.T, names ...string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	for _, name := range names {
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(settled + 50*time.Millisecond) // what is tested is the passing of time
}

func TestDigestsAreRemembered(t *testing.T) {
	t.Parallel()
	dir, cache := t.TempDir(), filepath.Join(t.TempDir(), "sub", "digests")
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, dir, "a", "alpha")
	write(t, dir, "b", "beta")
	age(t, a, b)
	first, unknown := digestsOf(t, dir, cache)
	if unknown != 2 {
		t.Errorf("%d files were unknown at first", unknown)
	}
	second, unknown := digestsOf(t, dir, cache)
	if unknown != 0 {
		t.Errorf("%d files were unknown at the second time", unknown)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
	// Same size and modification time: the change time gives it away.
	info, err := os.Stat(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a, []byte("aleph"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(a, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	third, unknown := digestsOf(t, dir, cache)
	if unknown != 1 || third["a"] == first["a"] || third["b"] != first["b"] {
		t.Errorf("%d unknown, %v", unknown, third)
	}
	// The new digest is too young to be remembered.
	if _, unknown := digestsOf(t, dir, cache); unknown != 1 {
		t.Errorf("a file that had just been written was remembered")
	}
}

func TestDamagedDigestsAreForgotten(t *testing.T) {
	m := &digests{files: map[string]known{"/a": {id: fileID{1, 2, 3, 4}, day: 5}, "/b": {day: 5}}, today: 6}
	var file bytes.Buffer
	if err := m.encode(&file); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m.files, parseDigests(file.Bytes()), cmp.AllowUnexported(known{}, fileID{})); diff != "" {
		t.Error(diff)
	}
	for i := range file.Bytes() {
		bad := bytes.Clone(file.Bytes())
		bad[i] ^= 1
		if got := parseDigests(bad); len(got) > 0 {
			t.Fatalf("with byte %d turned over: %v", i, got)
		}
	}
	m.today += forgetAfter + 1
	file.Reset()
	if err := m.encode(&file); err != nil {
		t.Fatal(err)
	}
	if got := parseDigests(file.Bytes()); len(got) > 0 {
		t.Errorf("kept %v", got)
	}
}

func FuzzDigests(f *testing.F) {
	m := &digests{files: map[string]known{"/a": {id: fileID{1, 2, 3, 4}, day: 5}}}
	var file bytes.Buffer
	if err := m.encode(&file); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Add([]byte(digestsMark))
	f.Fuzz(func(_ *testing.T, data []byte) { parseDigests(data) })
}
