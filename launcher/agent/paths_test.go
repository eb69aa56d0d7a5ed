package agent

import (
	"crypto/sha256"
	"errors"
	"math"
	"strings"
	"testing"
)

func digestText(s string) string {
	sum := sha256.Sum256([]byte(s))
	return digestOf(sum[:])
}

func TestLabels(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "train-a1": true, "0": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "a-": false, "A": false, "a.b": false, "a/b": false, "..": false, "a_b": false, "ä": false,
		strings.Repeat("a", 64): false,
	} {
		if err := checkLabel("id", name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestLinkInside(t *testing.T) {
	for _, tt := range []struct {
		path, target string
		ok           bool
	}{
		{"a", "b", true},
		{"d/a", "../b", true},
		{"d/e/a", "../../b/c", true},
		{"d/a", "./b", true},
		{"a", "..data", true},
		{"d/a", "..", true},
		{"a", "", false},
		{"a", "/etc/passwd", false},
		{"a", "..", false},
		{"a", "../b", false},
		{"d/a", "../../b", false},
		{"a", "b/../../c", false},
		{"a", "b/../c", false}, // b may be a link
		{"d/a", "./../../b", false},
		{"a", "b\x00", false},
	} {
		if got := linkInside(tt.path, tt.target); got != tt.ok {
			t.Errorf("%s → %q: %v", tt.path, tt.target, got)
		}
	}
}

// hostile is manifests that must be refused as they stand.
func hostile() map[string][]Entry {
	file := func(p string) Entry { return Entry{Path: p, Mode: 0o644, Size: 1, Digest: digestText("x")} }
	with := func(change func(*Entry)) []Entry {
		e := file("a")
		change(&e)
		return []Entry{e}
	}
	return map[string][]Entry{
		"empty path":              {file("")},
		"the folder itself":       {file(".")},
		"absolute":                {file("/etc/passwd")},
		"parent":                  {file("../x")},
		"parent inside":           {file("a/../../x")},
		"not clean":               {file("a//b")},
		"not clean, dot":          {file("./a")},
		"not clean, slash":        {file("a/")},
		"zero byte":               {file("a\x00b")},
		"long name":               {file(strings.Repeat("n", 256))},
		"long path":               {file(strings.Repeat("n/", 3000) + "n")},
		"twice":                   {file("a"), file("b"), file("a")},
		"below a file":            {file("a"), file("a/b")},
		"below a file, deeper":    {file("a/b/c"), file("a")},
		"below a link":            {{Path: "l", Link: "d", Mode: 0o777}, file("l/x")},
		"link out":                {{Path: "l", Link: "../../x", Mode: 0o777}},
		"link absolute":           {{Path: "l", Link: "/etc", Mode: 0o777}},
		"link climbs in middle":   {{Path: "l", Link: "d/../../x", Mode: 0o777}},
		"link and file":           with(func(e *Entry) { e.Link = "b" }),
		"folder and file":         with(func(e *Entry) { e.Dir = true }),
		"folder and link":         {{Path: "d", Dir: true, Link: "x"}},
		"nothing at all":          {{Path: "a", Mode: 0o644}},
		"setuid":                  with(func(e *Entry) { e.Mode = 0o4755 }),
		"file type in mode":       with(func(e *Entry) { e.Mode = 1 << 31 }),
		"negative size":           with(func(e *Entry) { e.Size = -1 }),
		"no digest":               with(func(e *Entry) { e.Digest = "" }),
		"other digest":            with(func(e *Entry) { e.Digest = "md5:" + strings.Repeat("0", 32) }),
		"digest is a path":        with(func(e *Entry) { e.Digest = "sha256:../../../../../../../../../../../../../../../../etc/passwd/xxxxx" }),
		"digest in upper case":    with(func(e *Entry) { e.Digest = "sha256:" + strings.Repeat("A", 64) }),
		"sizes beyond everything": {{Path: "a", Size: math.MaxInt64, Digest: digestText("a")}, {Path: "b", Size: 1, Digest: digestText("b")}},
	}
}

func TestHostileManifests(t *testing.T) {
	for name, entries := range hostile() {
		err := checkEntries(entries)
		if e := (*Error)(nil); !errors.As(err, &e) || e.Kind != KindBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := tree{"a": "x", "b/c": "y", "b/d/": "", "b/l": "→ ../a", ".hidden": "z", "with space\n": "", "back\\slash": "", "a.b": ""}
	if err := checkEntries(good.entries()); err != nil {
		t.Errorf("a good manifest: %v", err)
	}
}

func TestManifestDigestKnowsEverything(t *testing.T) {
	base := Entry{Path: "a", Mode: 0o644, Size: 1, Digest: digestText("x")}
	seen := map[string]string{}
	for name, entries := range map[string][]Entry{
		"base":   {base},
		"none":   {},
		"path":   {{Path: "b", Mode: 0o644, Size: 1, Digest: base.Digest}},
		"mode":   {{Path: "a", Mode: 0o755, Size: 1, Digest: base.Digest}},
		"size":   {{Path: "a", Mode: 0o644, Size: 2, Digest: base.Digest}},
		"digest": {{Path: "a", Mode: 0o644, Size: 1, Digest: digestText("y")}},
		"link":   {{Path: "a", Mode: 0o644, Link: "x"}},
		"dir":    {{Path: "a", Mode: 0o644, Dir: true}},
		"two":    {base, {Path: "b", Dir: true}},
	} {
		d := ManifestDigest(entries)
		if other, twice := seen[d]; twice {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[d] = name
	}
	two := []Entry{{Path: "b", Dir: true}, base}
	if ManifestDigest(two) != ManifestDigest([]Entry{two[1], two[0]}) {
		t.Error("the order of entries counts")
	}
	if two[0].Path != "b" {
		t.Error("the caller's entries were sorted")
	}
}

// FuzzLinkInside: a link that is called inside leads inside when it is followed
// name by name from where it lies.
func FuzzLinkInside(f *testing.F) {
	f.Add("a/b", "../c")
	f.Add("a", "b/../../c")
	f.Add("x/y/z", "../../..")
	f.Fuzz(func(t *testing.T, p, target string) {
		if checkPath(p) != nil || !linkInside(p, target) {
			return
		}
		depth := strings.Count(p, "/")
		for name := range strings.SplitSeq(target, "/") {
			switch name {
			case "", ".":
			case "..":
				depth--
			default:
				depth++
			}
			if depth < 0 {
				t.Fatalf("link %q → %q leaves its folder", p, target)
			}
		}
	})
}
