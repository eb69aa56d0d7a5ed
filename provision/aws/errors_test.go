package aws

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/aws/smithy-go"

	"github.com/levinrun/levin/provision"
)

// said is one text of testdata/errors.txt.
type said struct {
	means string // "kind, scope" or "unknown"
	text  string
	line  int
}

func recorded(t testing.TB) []said {
	t.Helper()
	file, err := os.ReadFile("testdata/errors.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []said
	for n, line := range strings.Split(string(file), "\n") {
		if means, ok := strings.CutPrefix(line, "== "); ok {
			all = append(all, said{means: means, line: n + 1})
		} else if len(all) > 0 {
			all[len(all)-1].text += line + "\n"
		}
	}
	for i := range all {
		all[i].text = strings.TrimSpace(all[i].text)
	}
	return all
}

func TestJudge(t *testing.T) {
	c := &Cloud{}
	for _, s := range recorded(t) {
		v, known := c.Judge(s.text)
		got := fmt.Sprintf("%s, %s", v.Kind, v.Scope)
		if !known {
			got = "unknown"
		}
		if got != s.means {
			t.Errorf("errors.txt:%d: %q is %q, want %q", s.line, s.text, got, s.means)
		}
	}
}

// Every row of the table can be reached, in each of the forms in which codes come.
func TestEveryCodeIsFound(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range meanings() {
		if seen[m.Code+"\n"+m.Saying] {
			t.Errorf("%s (%q) is there twice", m.Code, m.Saying)
		}
		seen[m.Code+"\n"+m.Saying] = true
		if m.Kind == "" || m.Scope == "" {
			t.Errorf("%s has no kind or no scope", m.Code)
		}
		for _, form := range []string{
			"creating EC2 Instance: %s: It is so, %s.\n\tstatus code: 400, request id: 1", "operation error EC2: RunInstances, api error %s: %s",
			"An error occurred (%s) when calling the RunInstances operation: %s", "<Code>%s</Code><Message>%s</Message>", `{"Code":"%s","Message":"%s"}`,
		} {
			words := fmt.Sprintf(form, m.Code, m.Saying)
			if got, ok := judgeWords(words); !ok || got != m.Verdict {
				t.Errorf("%q is %+v, want %+v", words, got, m.Verdict)
			}
		}
	}
	for _, p := range phrases() {
		if p.Text != strings.ToLower(p.Text) {
			t.Errorf("the phrase %q is not lower case", p.Text)
		}
		if got, ok := judgeWords("Error: " + p.Text); !ok || got != p.Verdict {
			t.Errorf("%q is %+v", p.Text, got)
		}
	}
}

func TestWordsOf(t *testing.T) {
	api := &smithy.OperationError{ServiceID: "EC2", OperationName: "RunInstances", Err: &smithy.GenericAPIError{Code: "Blocked", Message: "This account is blocked"}}
	for _, test := range []struct {
		err  error
		want string
	}{
		{api, "Blocked: This account is blocked"},
		{errors.New("dial tcp: no such host"), "dial tcp: no such host"},
		{inRegion{"eu-west-1", api}, "region eu-west-1: Blocked: This account is blocked"},
	} {
		if got := wordsOf(test.err); got != test.want {
			t.Errorf("the words of %v are %q, want %q", test.err, got, test.want)
		}
	}
	v, ok := judge(errors.Join(inRegion{"eu-west-1", api}, errors.New("another")))
	if !ok || v.Kind != "auth" {
		t.Errorf("several errors are %+v", v)
	}
}

// Whatever the text, a verdict is one of the table's or one of a phrase that the
// text holds.
func FuzzJudge(f *testing.F) {
	for _, s := range recorded(f) {
		f.Add(s.text)
	}
	f.Add("Server.")
	f.Add("Client.Client.InternalError:")
	f.Fuzz(func(t *testing.T, words string) {
		got, ok := judgeWords(words)
		if !ok {
			if got != (provision.Verdict{}) {
				t.Errorf("%q is not known and is %+v", words, got)
			}
			return
		}
		for _, m := range meanings() {
			if m.Verdict == got && strings.Contains(words, strings.TrimPrefix(strings.TrimPrefix(m.Code, "Server."), "Client.")) {
				return
			}
		}
		for _, p := range phrases() {
			if p.Verdict == got && strings.Contains(strings.ToLower(words), p.Text) {
				return
			}
		}
		t.Errorf("%q is %+v for no reason", words, got)
	})
}
