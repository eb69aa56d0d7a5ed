package launcher

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/levinrun/levin/cluster"
)

func write(t testing.TB, dir, name, content string) {
	t.Helper()
	p := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if target, ok := strings.CutPrefix(content, "→"); ok {
		if err := os.Symlink(target, p); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// listed gives what a walk finds; folders end in a slash, links have an arrow.
func listed(t testing.TB, trees ...Tree) (names, warnings []string, err error) {
	t.Helper()
	src, err := walk(context.Background(), trees, func(w string) { warnings = append(warnings, w) })
	if err != nil {
		return nil, warnings, err
	}
	defer src.Close()
	for _, it := range src.items {
		name := it.entry.Path
		switch {
		case it.entry.Dir:
			name += "/"
		case it.entry.Link != "":
			name += "→" + it.entry.Link
		}
		names = append(names, name)
	}
	return names, warnings, nil
}

func TestWalk(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		trees []Tree // Root is filled in
		want  []string
	}{
		{"all of it", map[string]string{"a": "", "d/b": "", "d/e/c": "", ".hidden": ""}, []Tree{{}},
			[]string{".hidden", "a", "d/b", "d/e/c"}},
		{"git's own folder never", map[string]string{"a": "", ".git/HEAD": "", "sub/.git": "", "sub/b": ""}, []Tree{{}}, []string{"a", "sub/b"}},
		{"named files and folders", map[string]string{"a": "", "b": "", "d/c": "", "e/f/g": "", "e/h": ""},
			[]Tree{{Files: []string{"a", "d", "e/f"}}}, []string{"a", "d/c", "e/f/g"}},
		{"named twice", map[string]string{"d/a": ""}, []Tree{{Files: []string{"d", "d/a", "."}}}, []string{"d/a"}},
		{"links that stay", map[string]string{"d/a": "", "d/l": "→a", "l": "→d/l", "d/up": "→../d/a", "dangling": "→nothing"}, []Tree{{}},
			[]string{"d/a", "d/l→a", "d/up→../d/a", "dangling→nothing", "l→d/l"}},
		{"at another place", map[string]string{"a": "", "d/b": ""}, []Tree{{At: "inputs/x"}}, []string{"inputs/x/a", "inputs/x/d/b"}},
		{"rules are for those who ask", map[string]string{".gitignore": "a\n", "a": ""}, []Tree{{}}, []string{".gitignore", "a"}},
		{"rules", map[string]string{".gitignore": "*.o\nbuild/\n!keep.o\n", "x.o": "", "keep.o": "", "build/out": "", "d/y.o": "", "d/build/z": "", "d/c": ""},
			[]Tree{{Ignore: true}}, []string{".gitignore", "d/c", "keep.o"}},
		{"deeper rules win", map[string]string{".gitignore": "*.o\n", "d/.gitignore": "!y.o\n", "d/y.o": "", "y.o": ""},
			[]Tree{{Ignore: true}}, []string{".gitignore", "d/.gitignore", "d/y.o"}},
		{"ours beat git's", map[string]string{".levinignore": "!a\nb\n", ".gitignore": "a\n!b\n", "a": "", "b": "", "d/.gitignore": "a\n", "d/a": ""},
			[]Tree{{Ignore: true}}, []string{".gitignore", ".levinignore", "a", "d/.gitignore", "d/a"}},
		{"what is named is not ignored", map[string]string{".gitignore": "*.bin\n", "m.bin": "", "d/n.bin": "", "d/c": ""},
			[]Tree{{Files: []string{"m.bin", "d"}, Ignore: true}}, []string{"d/c", "m.bin"}},
		{"rules above what is named", map[string]string{".gitignore": "/d/e/x\n", "d/.gitignore": "y\n", "d/e/x": "", "d/e/y": "", "d/e/z": ""},
			[]Tree{{Files: []string{"d/e"}, Ignore: true}}, []string{"d/e/z"}},
		{"a folder that ends up empty", map[string]string{".gitignore": "out/*\n", "out/x": ""}, []Tree{{Ignore: true}}, []string{".gitignore", "out/"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range c.files {
				write(t, dir, name, content)
			}
			for i := range c.trees {
				c.trees[i].Root = dir
			}
			got, _, err := listed(t, c.trees...)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(got)
			slices.Sort(c.want)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWalkFollowsTheRulesOfItsRepository(t *testing.T) {
	top := t.TempDir()
	for name, content := range map[string]string{
		".git/HEAD": "", ".gitignore": "*.log\n/apps/one/tmp\n", "apps/.gitignore": "cache\n",
		"apps/one/a": "", "apps/one/b.log": "", "apps/one/cache": "", "apps/one/tmp": "", "apps/one/d/tmp": "",
	} {
		write(t, top, name, content)
	}
	got, _, err := listed(t, Tree{Root: filepath.Join(top, "apps", "one"), Ignore: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "d/tmp"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWalkPutsTreesTogether(t *testing.T) {
	code, inputs := t.TempDir(), t.TempDir()
	write(t, code, "inputs/x/model", "old")
	write(t, code, "main", "code")
	write(t, inputs, "model", "newer")
	src, err := walk(context.Background(), []Tree{{Root: code}, {Root: inputs, At: "inputs/x"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if len(src.items) != 2 || src.items[0].entry.Path != "inputs/x/model" || src.items[0].entry.Size != 5 {
		t.Errorf("got %+v", src.items)
	}
	write(t, code, "y", "a file")
	_, _, err = listed(t, Tree{Root: code}, Tree{Root: inputs, At: "y/z"})
	if cluster.KindOf(err) != cluster.BadInput {
		t.Errorf("a file in the way of a folder gave %v", err)
	}
}

func TestWalkRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		tree  Tree
		words string
	}{
		{"absolute link", map[string]string{"l": "→/etc/passwd"}, Tree{}, "symbolic link to /etc/passwd"},
		{"link that climbs", map[string]string{"d/l": "→../../x"}, Tree{}, ".levinignore"},
		{"link that climbs in its middle", map[string]string{"d/l": "→../d/../../x"}, Tree{}, "outside"},
		{"missing file", nil, Tree{Files: []string{"nope"}}, "no nope"},
		{"path that climbs", nil, Tree{Files: []string{"../x"}}, "not a path below"},
		{"absolute path", nil, Tree{Files: []string{"/etc"}}, "not a path below"},
		{"place that climbs", map[string]string{"a": ""}, Tree{At: "../x"}, "cannot be shipped there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range c.files {
				write(t, dir, name, content)
			}
			c.tree.Root = dir
			_, _, err := listed(t, c.tree)
			if cluster.KindOf(err) != cluster.BadInput || !strings.Contains(err.Error(), c.words) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("folder behind a link that leaves", func(t *testing.T) {
		dir, outside := t.TempDir(), t.TempDir()
		write(t, outside, "secret", "")
		write(t, dir, "d", "→"+outside)
		if names, _, err := listed(t, Tree{Root: dir, Files: []string{"d/secret"}}); err == nil {
			t.Errorf("listed %v", names)
		}
	})
}

func TestWalkWarns(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	write(t, dir, "venv/pyvenv.cfg", "")
	names, warnings, err := listed(t, Tree{Root: dir})
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	if len(warnings) != 2 || !strings.Contains(warnings[0], "neither a file") || !strings.Contains(warnings[1], "Python environment") {
		t.Errorf("warnings %q", warnings)
	}
}

func TestWalkEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := walk(ctx, []Tree{{Root: t.TempDir()}}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestIgnoresWhatGitIgnores builds random trees with random rules and compares
// with git itself.
func TestIgnoresWhatGitIgnores(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[rng.IntN(len(from))] }
	name := func() string { return pick("a", "b", "ab", "a.o", "b.o", "foo", "x y", "[k]", "#h", "!n", `b\s`) }
	pattern := func() string {
		// Not among them: "**" as a part of a name, which some versions of git take
		// for more than it is, depending on how their memory lies.
		piece := func() string {
			return pick("a", "b", "*", "**", "?", "*.o", "a*", "*b*", "[ab]", "[!a]", "[^b].o", "f[o-o]o", `\#h`, `\!n`, "#h", "x y", `x\ y`, "[[:alpha:]]", `\[k]`, "foo", "***", "[", "[a", `b\\s`, `a\`)
		}
		p := piece()
		for range rng.IntN(3) {
			p += "/" + piece()
		}
		return pick("", "", "", "!", "/", "!/") + p + pick("", "", "", "/", "/**", " ", "  ", "\r")
	}
	for round := range 40 {
		dir := t.TempDir()
		var rules []string
		for range 30 {
			parts := []string{name()}
			for range rng.IntN(4) {
				parts = append(parts, name())
			}
			p := filepath.Join(dir, filepath.Join(parts...))
			if os.MkdirAll(filepath.Dir(p), 0o755) == nil {
				_ = os.WriteFile(p, nil, 0o644)
			}
		}
		for _, sub := range []string{"", "a", "a/b"} {
			if info, err := os.Stat(filepath.Join(dir, sub)); err != nil || !info.IsDir() {
				continue
			}
			var lines []string
			for range 1 + rng.IntN(4) {
				lines = append(lines, pattern())
			}
			rules = append(rules, fmt.Sprintf("%s: %q", sub, lines))
			if err := os.WriteFile(filepath.Join(dir, sub, ".gitignore"), []byte(strings.Join(lines, "\n")), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command("git", "-C", dir, "init", "-q").CombinedOutput(); err != nil {
			t.Fatalf("git init: %v\n%s", err, out)
		}
		git := exec.Command("git", "-C", dir, "-c", "core.excludesFile=/dev/null", "ls-files", "-z", "--others", "--exclude-standard")
		out, err := git.Output()
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		if len(out) > 0 {
			want = strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		}
		slices.Sort(want)
		all, _, err := listed(t, Tree{Root: dir, Ignore: true})
		if err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(all, func(n string) bool { return strings.HasSuffix(n, "/") })
		slices.Sort(got)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("round %d, rules %s (-git +levin):\n%s", round, strings.Join(rules, "; "), diff)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"*", "abc", true}, {"*", "a/b", false}, {"a/*", "a/b", true},
		{"**", "a/b/c", true}, {"**/c", "c", true}, {"**/c", "a/b/c", true}, {"a/**", "a", false}, {"a/**", "a/b/c", true},
		{"a/**/c", "a/c", true}, {"a/**/c", "a/b/b/c", true}, {"a**c", "a/c", false}, {"a?c", "a/c", false},
		{"[!/]", "/", false}, {"[]]", "]", true}, {"[!]]", "a", true}, {"[a-]", "-", true}, {"[", "[", false}, {"a\\", "a", false},
		{strings.Repeat("*a", 30) + "b", strings.Repeat("a", 200), false}, // in no time
		{strings.Repeat("**/", 20) + "x", strings.Repeat("a/", 100) + "y", false},
	} {
		if got := glob(c.pattern, c.name); got != c.want {
			t.Errorf("glob(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func FuzzIgnore(f *testing.F) {
	f.Add("*.o\n!a\n/b/\nc/**/d\n", "a/b/c", true)
	f.Add("[[:alpha:]-z]\\", "x", false)
	f.Add("\ufeff***/[!a-", "///", true)
	f.Fuzz(func(t *testing.T, rules, p string, dir bool) {
		g := &ignorer{git: parseRules(rules, ""), levin: parseRules(rules, "a")}
		if g.ignores(p, dir) && strings.TrimSpace(rules) == "" {
			t.Errorf("no rule ignores %q", p)
		}
	})
}

func FuzzLinkInside(f *testing.F) {
	f.Add("a/b", "../c")
	f.Add("a", "b/../../c")
	f.Fuzz(func(t *testing.T, p, target string) {
		if checkPath(p) != nil || !linkInside(p, target) {
			return
		}
		if to := filepath.Join(filepath.Dir(filepath.FromSlash(p)), filepath.FromSlash(target)); !filepath.IsLocal(to) {
			t.Errorf("a link %q → %q was accepted, and leads to %q", p, target, to)
		}
	})
}
