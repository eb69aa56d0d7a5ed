package launcher

import (
	"os"
	"path"
	"path/filepath"
	"strings"
)

// The files that say what is not shipped. Both have the form of a .gitignore; a
// rule of a .levinignore beats every rule of a .gitignore.
const (
	gitIgnore   = ".gitignore"
	levinIgnore = ".levinignore"
)

// ignorer holds the rules that count in one folder: its own and those of the
// folders above it. Paths are slash-separated and relative to the folder that the
// outermost rules come from. The nil ignorer ignores nothing.
type ignorer struct {
	git, levin []rule // later ones beat earlier ones
}

// rule is one line of an ignore file.
type rule struct {
	base     string // folder of the file, "" for the outermost
	pattern  string
	negate   bool // "!": what matches is shipped after all
	dirOnly  bool // "/" at the end: only folders match
	anchored bool // a "/" elsewhere: matches the path from base on, not just the last name
}

// enter gives the rules for the folder at dir, whose path for rules is base.
func (g *ignorer) enter(dir, base string) (*ignorer, error) {
	if g == nil {
		return nil, nil
	}
	git, err := readRules(filepath.Join(dir, gitIgnore), base)
	if err != nil {
		return nil, err
	}
	levin, err := readRules(filepath.Join(dir, levinIgnore), base)
	if err != nil {
		return nil, err
	}
	if git == nil && levin == nil {
		return g, nil
	}
	return &ignorer{
		git:   append(g.git[:len(g.git):len(g.git)], git...),
		levin: append(g.levin[:len(g.levin):len(g.levin)], levin...),
	}, nil
}

func readRules(file, base string) ([]rule, error) {
	data, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseRules(string(data), base), nil
}

// ignores reports whether p is left out. It looks at p alone: what lies in an
// ignored folder is never asked for, so it cannot come back.
func (g *ignorer) ignores(p string, dir bool) bool {
	if g == nil {
		return false
	}
	for _, rules := range [][]rule{g.levin, g.git} {
		for i := len(rules) - 1; i >= 0; i-- {
			if rules[i].matches(p, dir) {
				return !rules[i].negate
			}
		}
	}
	return false
}

func parseRules(text, base string) []rule {
	var rules []rule
	text = strings.TrimPrefix(text, "\ufeff")
	for line := range strings.SplitSeq(text, "\n") {
		if r, ok := parseRule(strings.TrimSuffix(line, "\r"), base); ok {
			rules = append(rules, r)
		}
	}
	return rules
}

func parseRule(line, base string) (rule, bool) {
	if strings.HasPrefix(line, "#") {
		return rule{}, false
	}
	line = trimBlanks(line)
	r := rule{base: base}
	line, r.negate = strings.CutPrefix(line, "!")
	line, r.dirOnly = strings.CutSuffix(line, "/")
	r.anchored = strings.Contains(line, "/")
	r.pattern = strings.TrimPrefix(line, "/")
	return r, r.pattern != ""
}

// trimBlanks drops blanks at the end, except one after a backslash.
func trimBlanks(s string) string {
	end := 0 // of what stays
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ' ':
			continue
		case '\\':
			if i+1 < len(s) {
				i++
			}
		}
		end = i + 1
	}
	return s[:end]
}

func (r *rule) matches(p string, dir bool) bool {
	if r.dirOnly && !dir {
		return false
	}
	if r.base != "" {
		var below bool
		if p, below = strings.CutPrefix(p, r.base+"/"); !below {
			return false
		}
	}
	if !r.anchored {
		p = path.Base(p)
	}
	return glob(r.pattern, p)
}
