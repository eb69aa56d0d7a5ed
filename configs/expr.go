package configs

import (
	"fmt"
	"regexp"
	"strings"
)

// Expr is one expression of an app file: ${each}, ${train.result} or
// ${train.result.accuracy}.
type Expr struct {
	Component string   // "" for each
	Field     string   // "each" or "result"
	Path      []string // fields below the result
}

// String gives the expression as it is written.
func (e Expr) String() string {
	if e.Field == "each" {
		return "${each}"
	}
	return "${" + strings.Join(append([]string{e.Component, e.Field}, e.Path...), ".") + "}"
}

var (
	expression = regexp.MustCompile(`^\$\{(?:(each)|([a-z0-9][a-z0-9-]*)\.result((?:\.[A-Za-z0-9_-]+)*))\}`)
	// dotted is what no shell would take: a name, then a dot.
	dotted = regexp.MustCompile(`^\$\{[A-Za-z0-9_]+\.`)
	// unfinished is what only an expression looks like, but is not one.
	unfinished = regexp.MustCompile(`^\$\{(?:[a-z0-9-]+\.result(?:[^A-Za-z0-9_-]|$)|each\s*$)`)
)

// expressionAt reads the expression at the beginning of s, which begins with
// ${. n is 0 when there is none: what is there is the shell's. With literal no
// shell would read it, so a name and a dot may be text in another language.
func expressionAt(s string, literal bool) (e Expr, n int, err error) {
	if m := expression.FindStringSubmatch(s); m != nil {
		if m[1] != "" {
			return Expr{Field: "each"}, len(m[0]), nil
		}
		e = Expr{Component: m[2], Field: "result"}
		if m[3] != "" {
			e.Path = strings.Split(m[3][1:], ".")
		}
		return e, len(m[0]), nil
	}
	if unfinished.MatchString(s) || !literal && dotted.MatchString(s) {
		text := s
		if end := strings.IndexAny(s, "}\n\"' "); end >= 0 {
			text = strings.TrimRight(s[:end+1], "\n\"' ")
		}
		return e, 0, fmt.Errorf("malformed expression %s; want ${each}, ${COMPONENT.result} or ${COMPONENT.result.FIELD}", quote(text))
	}
	return e, 0, nil
}

// ExpandString puts values in the place of expressions in text that no shell
// sees: a variable of the environment, an argument. $${each} stands for the text
// ${each}, and so for anything like it; any other $ is left as it is.
func ExpandString(s string, value func(Expr) (string, error)) (string, error) {
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		e, n, err := expressionAt(s[i:], false)
		escaped := i > 0 && s[i-1] == '$'
		switch {
		case escaped && (n > 0 || err != nil):
			n = max(n, len("${"))
			b.WriteString(s[:i-1] + s[i:i+n])
		case err != nil:
			return "", err
		case n == 0:
			n = len("${")
			b.WriteString(s[:i+n])
		default:
			v, err := value(e)
			if err != nil {
				return "", err
			}
			if strings.ContainsRune(v, 0) {
				return "", fmt.Errorf("the value of %s holds a zero byte", e)
			}
			b.WriteString(s[:i] + v)
		}
		s = s[i+n:]
	}
}
