package agentbin

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher/agent"
)

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestBesideTheExecutable(t *testing.T) {
	dir := t.TempDir()
	f := &Finder{Cache: t.TempDir(), Exe: filepath.Join(dir, "levin")}
	put(t, filepath.Join(dir, "levin-agent-linux-riscv64"), "other machine's")
	put(t, filepath.Join(dir, "levin-agent"), "own")
	got, err := f.Find(t.Context(), "linux", "riscv64")
	if err != nil || filepath.Base(got.Path) != "levin-agent-linux-riscv64" {
		t.Errorf("got %+v, %v", got, err)
	}
	own, err := f.Find(t.Context(), runtime.GOOS, runtime.GOARCH)
	if err != nil || filepath.Base(own.Path) != "levin-agent" {
		t.Errorf("got %+v, %v", own, err)
	}
	// Replaced meanwhile: what was remembered does not count.
	put(t, filepath.Join(dir, "levin-agent"), "own, newer")
	newer, err := f.Find(t.Context(), runtime.GOOS, runtime.GOARCH)
	if err != nil || newer.Digest == own.Digest {
		t.Errorf("got %+v after %+v, %v", newer, own, err)
	}
}

func TestBuiltFromSourceOnce(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the Go toolchain is not on PATH")
	}
	cache := t.TempDir()
	exe := filepath.Join(t.TempDir(), "levin")
	var wg sync.WaitGroup
	found := make([]Binary, 3)
	for i := range found {
		wg.Go(func() {
			var err error
			if found[i], err = (&Finder{Cache: cache, Exe: exe}).Find(t.Context(), runtime.GOOS, runtime.GOARCH); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if found[0] != found[1] || found[1] != found[2] {
		t.Errorf("found %v", found)
	}
	built, err := filepath.Glob(filepath.Join(cache, "levin-agent-*"))
	if err != nil || len(built) != 1 {
		t.Errorf("the cache holds %v", built)
	}
	start := time.Now()
	f := &Finder{Cache: cache, Exe: exe}
	if _, err := f.Find(t.Context(), runtime.GOOS, runtime.GOARCH); err != nil {
		t.Error(err)
	}
	t.Logf("from the cache: %s", time.Since(start))
	// What was built says the same digest of itself.
	out, err := exec.Command(found[0].Path, "digest").Output()
	if err != nil || strings.TrimSpace(string(out)) != found[0].Digest {
		t.Errorf("it says %s, %v; found %s", out, err, found[0].Digest)
	}
}

func TestNothingToBuildWith(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := (&Finder{Cache: t.TempDir(), Exe: filepath.Join(t.TempDir(), "levin")}).Find(t.Context(), "linux", "arm64")
	var f *cluster.Failure
	if !errors.As(err, &f) || f.Kind != cluster.Provisioning || !strings.Contains(f.Words, "not on PATH") || !strings.Contains(f.Next, "levin-agent-linux-arm64") {
		t.Errorf("got %v", err)
	}
}

func TestBuildEndsWithContext(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the Go toolchain is not on PATH")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cache := t.TempDir()
	if _, err := (&Finder{Cache: cache, Exe: filepath.Join(t.TempDir(), "levin")}).Find(ctx, "linux", "amd64"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(cache, "*"))
	left = slices.DeleteFunc(left, func(p string) bool { return filepath.Base(p) == "build.lock" })
	if len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestPackagesAreWhatGoSays(t *testing.T) {
	gobin, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the Go toolchain is not on PATH")
	}
	root, err := sourceRoot(t.Context(), gobin)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(gobin, "list", "-deps", "-f", "{{.ImportPath}}{{range .EmbedFiles}} {{.}}{{end}}", "./"+command)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(out)) {
		if dir, ours := strings.CutPrefix(strings.TrimSpace(line), module+"/"); ours {
			dir, embeds, _ := strings.Cut(dir, " ")
			if embeds != "" {
				t.Errorf("%s embeds %s, which is not part of the key", dir, embeds)
			}
			want = append(want, dir)
		}
	}
	slices.Sort(want)
	got, err := packagesOf(root, command)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-go list +ours):\n%s", diff)
	}
}

func TestKeyFollowsTheSource(t *testing.T) {
	root := t.TempDir()
	put(t, filepath.Join(root, "go.mod"), "module "+module+"\n")
	put(t, filepath.Join(root, "go.sum"), "")
	main := filepath.Join(root, "cmd/levin-agent/main.go")
	put(t, main, "package main\n\nimport _ \""+module+"/a\"\n")
	put(t, filepath.Join(root, "a/a.go"), "package a\n\nimport _ \""+module+"/b\"\n")
	put(t, filepath.Join(root, "b/b_windows.go"), "package b\n")
	put(t, filepath.Join(root, "b/b.test"), "what go test -c leaves")
	put(t, filepath.Join(root, "c/c.go"), "package c\n")
	key := func() string {
		t.Helper()
		k, err := sourceKey(root)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	before := key()
	for _, c := range []struct {
		file string
		same bool
	}{
		{"c/c.go", true}, {"a/a_test.go", true}, {"b/b.test", true},
		{"a/a.go", false}, {"b/b_windows.go", false}, {"b/new.go", false}, {"go.mod", false}, {"go.sum", false},
	} {
		path := filepath.Join(root, c.file)
		old, err := os.ReadFile(path)
		put(t, path, string(old)+"\n// changed\n")
		if c.file == "b/new.go" {
			put(t, path, "package b\n")
		}
		if same := key() == before; same != c.same {
			t.Errorf("%s changed; same key: %v", c.file, same)
		}
		if err != nil {
			os.Remove(path)
		} else {
			put(t, path, string(old))
		}
	}
	if key() != before {
		t.Error("the same source has another key")
	}
}

func TestPruneKeepsWhatMayBeInUse(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-2 * keepFor)
	for _, name := range []string{"levin-agent-linux-amd64-old", "levin-agent-linux-amd64-young", "levin-agent-linux-amd64-own", "levin-agent-linux-arm64-old", "build.lock"} {
		put(t, filepath.Join(dir, name), "")
		if !strings.HasSuffix(name, "young") {
			if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	prune(filepath.Join(dir, "levin-agent-linux-amd64-own"), "levin-agent-linux-amd64-")
	var left []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	want := []string{"build.lock", "levin-agent-linux-amd64-own", "levin-agent-linux-amd64-young", "levin-agent-linux-arm64-old"}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Releases build the agent with the flags that keep it small.
func TestMakefileHasTheFlags(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	line := "AGENT_FLAGS ="
	for _, flag := range agent.BuildFlags() {
		if strings.Contains(flag, " ") {
			flag = `"` + flag + `"`
		}
		line += " " + flag
	}
	if !strings.Contains(string(makefile), line+"\n") {
		t.Errorf("the Makefile lacks the line\n%s", line)
	}
}
