package cluster

import (
	"regexp"
	"strings"
	"testing"
)

var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func TestName(t *testing.T) {
	long := strings.Repeat("abcdefghi-", 10)
	for _, tt := range []struct {
		name  string
		parts []string
		want  string // "" when only the properties matter
	}{
		{"plain parts are joined", []string{"iris-4k2m9x", "train", "1"}, "iris-4k2m9x-train-1"},
		{"one part", []string{"train"}, "train"},
		{"exactly 63 bytes stay", []string{strings.Repeat("a", 63)}, strings.Repeat("a", 63)},
		{"64 bytes are cut", []string{strings.Repeat("a", 64)}, ""},
		{"a cut at a dash", []string{long, "x"}, ""},
		{"upper case", []string{"Train"}, ""},
		{"other characters", []string{"data set", "ü", "a/b"}, ""},
		{"dashes at the ends", []string{"-a-"}, ""},
		{"nothing", nil, ""},
		{"nothing that a label can hold", []string{"äöü", "…"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Name(tt.parts...)
			if tt.want != "" && got != tt.want {
				t.Errorf("Name(%q) = %q, want %q", tt.parts, got, tt.want)
			}
			if !label.MatchString(got) {
				t.Errorf("Name(%q) = %q is not a DNS label", tt.parts, got)
			}
			if again := Name(tt.parts...); again != got {
				t.Errorf("Name(%q) = %q, then %q", tt.parts, got, again)
			}
		})
	}
}

func TestNameKeepsWhatWasDifferentDifferent(t *testing.T) {
	long := strings.Repeat("x", 70)
	seen := map[string][]string{}
	for _, parts := range [][]string{
		{"a", "b"}, {"A", "b"}, {"a_b"}, {"a b"}, {"ä-b"}, {"-a-b"},
		{long, "1"}, {long, "2"}, {long + "-1"}, {},
	} {
		name := Name(parts...)
		if other, taken := seen[name]; taken {
			t.Errorf("Name(%q) and Name(%q) are both %q", parts, other, name)
		}
		seen[name] = parts
	}
}

func FuzzName(f *testing.F) {
	f.Add("run", "train", "1")
	f.Add("", "", "")
	f.Add(strings.Repeat("é-", 40), "X", "\xff")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if got := Name(a, b, c); !label.MatchString(got) {
			t.Errorf("Name(%q, %q, %q) = %q is not a DNS label", a, b, c, got)
		}
	})
}

func TestNewRunID(t *testing.T) {
	form := regexp.MustCompile(`^[a-z0-9-]+-[0-9a-hjkmnp-tv-z]{6}$`)
	seen := map[string]bool{}
	for _, app := range []string{"train-analyze", "", "Größe", strings.Repeat("long-", 20)} {
		for range 50 {
			id := NewRunID(app)
			if !form.MatchString(id) || !label.MatchString(id) || len(id) > maxRunApp+7 {
				t.Fatalf("NewRunID(%q) = %q", app, id)
			}
			if seen[id] {
				t.Fatalf("NewRunID(%q) gave %q twice", app, id)
			}
			seen[id] = true
		}
	}
}
