package agent

import (
	"bytes"
	"strings"
	"testing"
)

func redact(t testing.TB, chunks []string, secrets ...string) string {
	t.Helper()
	m := map[string]string{}
	for i, s := range secrets {
		m[string(rune('A'+i))] = s
	}
	var out bytes.Buffer
	r := newRedactor(&out, m)
	for _, c := range chunks {
		if _, err := r.Write([]byte(c)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestRedactorMasks(t *testing.T) {
	tests := []struct {
		name    string
		chunks  []string
		secrets []string
		want    string
	}{
		{"no secrets", []string{"plain"}, nil, "plain"},
		{"one", []string{"the hunter22 pass"}, []string{"hunter22"}, "the *** pass"},
		{"across chunks", []string{"the hun", "t", "er22 pass"}, []string{"hunter22"}, "the *** pass"},
		{"prefix only", []string{"the hunter2"}, []string{"hunter22"}, "the hunter2"},
		{"too short", []string{"abc abcd"}, []string{"abc"}, "abc abcd"},
		{"longest wins", []string{"abcdefgh abcdx"}, []string{"abcd", "abcdefgh"}, "*** ***x"},
		{"longer decided late", []string{"abcd", "efgh abcd", "x"}, []string{"abcd", "abcdefgh"}, "*** ***x"},
		{"overlapping", []string{"_abcXyz_"}, []string{"abcX", "cXyz"}, "_***_"},
		{"overlapping across", []string{"_abc", "Xy", "z_"}, []string{"abcX", "cXyz"}, "_***_"},
		{"adjoining", []string{"abcdabcd!"}, []string{"abcd"}, "***!"},
		{"adjoining across", []string{"abcd", "abcd", "!"}, []string{"abcd"}, "***!"},
		{"self overlapping", []string{"aaaaa", "a b"}, []string{"aaaa"}, "*** b"},
		{"restarts", []string{"ababab", "ac"}, []string{"ababac"}, "ab***"},
		{"lines of a key", []string{"x line-number-1 y\nline-number-2\n"}, []string{"line-number-1\nline-number-2\nend"}, "x *** y\n***\n"},
		{"final newline", []string{"is tok1 ok"}, []string{"tok1\n"}, "is *** ok"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := redact(t, tt.chunks, tt.secrets...); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRedactorIsLive(t *testing.T) {
	var out bytes.Buffer
	r := newRedactor(&out, map[string]string{"A": "secret"})
	for _, step := range []struct{ write, want string }{
		{"step 1 done", "step 1 done"},
		{" se", "step 1 done "},
		{"e", "step 1 done see"},
		{" secre", "step 1 done see "},
		{"t", "step 1 done see ***"},
	} {
		if _, err := r.Write([]byte(step.write)); err != nil {
			t.Fatal(err)
		}
		if out.String() != step.want {
			t.Errorf("after %q: %q, want %q", step.write, out.String(), step.want)
		}
	}
}

// FuzzRedactor: no secret comes out, text without secrets comes out unchanged,
// and where the input is cut makes no difference.
func FuzzRedactor(f *testing.F) {
	f.Add("the hunter22 pass", "hunter22", "pass", 3, 9)
	f.Add("aaaaaaaaab", "aaaa", "aaab", 1, 5)
	f.Add("abcXyz", "abcX", "cXyz", 2, 3)
	f.Add("a\nb line-one\nline-two", "line-one\nline-two", "abcd", 7, 12)
	f.Fuzz(func(t *testing.T, text, s1, s2 string, cut1, cut2 int) {
		if strings.Contains(s1+s2, "*") {
			t.Skip("a mask could complete such a secret")
		}
		n := len(text) + 1
		a, b := (cut1%n+n)%n, (cut2%n+n)%n
		a, b = min(a, b), max(a, b)
		whole := redact(t, []string{text}, s1, s2)
		if cut := redact(t, []string{text[:a], text[a:b], text[b:]}, s1, s2); cut != whole {
			t.Errorf("cut at %d and %d: %q, whole: %q", a, b, cut, whole)
		}
		found := false
		r := newRedactor(nil, map[string]string{"A": s1, "B": s2})
		for _, list := range r.byFirst {
			for _, s := range list {
				found = found || strings.Contains(text, string(s))
				if strings.Contains(whole, string(s)) {
					t.Errorf("secret %q is in %q", s, whole)
				}
			}
		}
		if !found && whole != text {
			t.Errorf("text without secrets became %q", whole)
		}
		// What is not masked is the text, in order.
		rest := text
		for _, part := range strings.Split(whole, mask) {
			i := strings.Index(rest, part)
			if i < 0 && !strings.Contains(text, "*") {
				t.Fatalf("%q is not in %q", part, rest)
			}
			if i >= 0 {
				rest = rest[i+len(part):]
			}
		}
	})
}
