package gcp

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/levinrun/levin/provision"
)

// text is one text of testdata/errors.txt.
type text struct {
	means string // "kind, scope" or "unknown"
	words string
	line  int
}

func recorded(t testing.TB) []text {
	t.Helper()
	file, err := os.ReadFile("testdata/errors.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []text
	for n, line := range strings.Split(string(file), "\n") {
		if means, ok := strings.CutPrefix(line, "== "); ok {
			all = append(all, text{means: means, line: n + 1})
		} else if len(all) > 0 {
			all[len(all)-1].words += line + "\n"
		}
	}
	for i := range all {
		all[i].words = strings.TrimSpace(all[i].words)
	}
	return all
}

func TestJudge(t *testing.T) {
	c := &Cloud{}
	for _, s := range recorded(t) {
		v, known := c.Judge(s.words)
		got := fmt.Sprintf("%s, %s", v.Kind, v.Scope)
		if !known {
			got = "unknown"
		}
		if got != s.means {
			t.Errorf("errors.txt:%d: %q is %q, want %q", s.line, s.words, got, s.means)
		}
	}
}

// Every row of the table is there once and can be reached.
func TestEveryMeaningIsFound(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range meanings() {
		key := m.Code + "\n" + m.Saying
		if seen[key] || m.Code == "" && m.Saying == "" || m.Saying != strings.ToLower(m.Saying) {
			t.Errorf("the row %q is there twice, is empty or is not in lower case", key)
		}
		seen[key] = true
		if m.Kind == "" || m.Scope == "" {
			t.Errorf("%q has no kind or no scope", key)
		}
		words := "Error creating instance: googleapi: Error 418: It is so, " + m.Code
		if m.Saying != "" {
			words = strings.ReplaceAll(m.Saying, "…", " x ")
		}
		if got, ok := judgeWords(words); !ok || got != m.Verdict {
			t.Errorf("%q is %+v, want %+v", words, got, m.Verdict)
		}
	}
}

func FuzzJudge(f *testing.F) {
	for _, s := range recorded(f) {
		f.Add(s.words)
	}
	f.Fuzz(func(t *testing.T, words string) {
		got, ok := judgeWords(words)
		if ok == (got == provision.Verdict{}) {
			t.Errorf("%q is %+v, %v", words, got, ok)
		}
	})
}
