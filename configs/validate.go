package configs

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	maxName      = 40 // bytes of the name of an app or a component, so that names made from them stay readable
	labelPattern = `^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`
)

var dnsLabel = regexp.MustCompile(labelPattern)

func isLabel(s string) bool { return len(s) <= 63 && dnsLabel.MatchString(s) }

// toLabel makes a DNS label of at most most bytes from s; "" when nothing of it
// can be one.
func toLabel(s string, most int) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if t := b.String(); t != "" && t[len(t)-1] != '-' {
			b.WriteByte('-')
		}
		if b.Len() >= most {
			break
		}
	}
	return strings.Trim(b.String(), "-")
}

// label refuses a name that is not a DNS label of at most maxName bytes.
func (d *document) label(n *yaml.Node, what, s string) {
	switch {
	case len(s) > maxName:
		d.fail(n, s, "%s %s is longer than %d letters", what, quote(s), maxName)
	case !isLabel(s):
		d.fail(n, s, "%s %s must be lower case letters, digits and dashes, not beginning or ending with a dash", what, quote(s)).
			Suggestion = toLabel(s, maxName)
	}
}

// validate checks what one key alone cannot tell.
func (r *appReader) validate() {
	for name, n := range r.env {
		_, err := ExpandString(r.app.Env[name], func(e Expr) (string, error) {
			return "", fmt.Errorf("%s: the env of the app cannot hold expressions such as %s; the env of a component can", name, e)
		})
		if err != nil {
			r.d.fail(n, n.Value, "%s", err)
		}
	}
	for _, s := range r.sources {
		r.checkName(s)
		r.checkNeeds(s)
		s.Files = r.checkFiles(s)
		s.Outputs = r.checkGlobs(s, "outputs")
		s.Checkpoint = r.checkGlobs(s, "checkpoint")
		r.checkExpressions(s)
	}
	r.mergeEnvs()
	r.checkCycles()
}

// checkName refuses a name that a call of another component has: those of a
// for_each are named COMPONENT-INDEX.
func (r *appReader) checkName(s *source) {
	digits := len(s.Name) - len(strings.TrimRight(s.Name, "0123456789"))
	base, dash := strings.CutSuffix(s.Name[:len(s.Name)-digits], "-")
	if other := r.byName[base]; digits > 0 && dash && other != nil && other.nodes["for_each"] != nil {
		r.d.fail(s.key, s.Name, "the name %s is also that of a call of %s, which has for_each; give one of them another name", quote(s.Name), base)
	}
}

// mergeEnvs gives every component the variables of the app.
func (r *appReader) mergeEnvs() {
	const most = 500_000 // variables of all components
	total := 0
	for _, s := range r.sources {
		if total += len(r.app.Env) + len(s.Env); total > most {
			r.d.fail(s.key, "", "the components have more than %d variables in all", most)
			return
		}
		s.Env = mergeEnv(r.app.Env, s.Env)
	}
}

func mergeEnv(app, own map[string]string) map[string]string {
	if len(app)+len(own) == 0 {
		return nil
	}
	all := maps.Clone(app)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, own)
	return all
}

func (r *appReader) checkNeeds(s *source) {
	n := s.nodes["needs"]
	if n == nil {
		return
	}
	s.needs = map[string]bool{}
	for _, item := range entries(n) {
		need := item.Value
		switch {
		case item.Kind != yaml.ScalarNode || strings.TrimSpace(need) == "":
			continue // already refused
		case need == s.Name:
			r.d.fail(item, need, "component %s needs itself", s.Name)
		case s.needs[need]:
			r.d.fail(item, need, "%s is in the needs of %s twice", quote(need), s.Name)
		case r.byName[need] == nil:
			r.d.fail(item, need, "component %s needs %s, which is not there", quote(s.Name), quote(need)).
				Suggestion = r.nearestOther(need, s)
		}
		s.needs[need] = true
	}
}

// nearestOther suggests a component besides one in the place of a name.
func (r *appReader) nearestOther(name string, but *source) string {
	if r.d.unseen {
		return ""
	}
	return nearest(name, slices.DeleteFunc(slices.Clone(r.names), func(s string) bool { return s == but.Name }))
}

// entries gives the nodes of text or a list.
func entries(n *yaml.Node) []*yaml.Node {
	switch n.Kind {
	case yaml.ScalarNode:
		return []*yaml.Node{n}
	case yaml.SequenceNode:
		return n.Content
	}
	return nil
}

// checkCycles reports each way from a component back to itself, once. It walks
// with a stack of its own, since a chain may be as long as the file allows.
func (r *appReader) checkCycles() {
	const open, done = 1, 2
	state := map[string]int{}
	for _, first := range r.sources {
		var path []*source // components whose needs are being walked
		var next []int     // of which need comes next
		enter := func(s *source) {
			state[s.Name] = open
			path, next = append(path, s), append(next, 0)
		}
		if state[first.Name] == 0 {
			enter(first)
		}
		for len(path) > 0 {
			top := len(path) - 1
			s := path[top]
			if next[top] == len(s.Needs) {
				state[s.Name] = done
				path, next = path[:top], next[:top]
				continue
			}
			need := r.byName[s.Needs[next[top]]]
			next[top]++
			switch {
			case need == nil || need == s:
			case state[need.Name] == 0:
				enter(need)
			case state[need.Name] == open && !r.d.unseen:
				r.reportCycle(path[slices.Index(path, need):], need)
			}
		}
	}
}

func (r *appReader) reportCycle(path []*source, start *source) {
	last := path[len(path)-1]
	at := last.nodes["needs"]
	for _, item := range entries(at) {
		if item.Value == start.Name {
			at = item
		}
	}
	names := make([]string, 0, len(path)+1)
	for _, s := range path {
		names = append(names, s.Name)
	}
	if len(names) > 20 {
		names = append(append(slices.Clone(names[:10]), "…"), names[len(names)-9:]...)
	}
	r.d.fail(at, start.Name, "components need each other in a circle: %s", strings.Join(append(names, start.Name), " → "))
}

// checkExpressions checks every expression of a component against what it needs.
func (r *appReader) checkExpressions(s *source) {
	check := func(n *yaml.Node, expand func(func(Expr) (string, error)) error) {
		err := expand(func(e Expr) (string, error) {
			r.checkExpression(s, n, e)
			return "", nil
		})
		if err != nil {
			r.d.fail(n, n.Value, "%s", err)
		}
	}
	inString := func(n *yaml.Node, text string) {
		check(n, func(value func(Expr) (string, error)) error { _, err := ExpandString(text, value); return err })
	}
	if n := s.nodes["run"]; n != nil {
		check(n, func(value func(Expr) (string, error)) error {
			_, _, err := ExpandShell(s.Run.Shell, value)
			return err
		})
		for i, arg := range s.Run.Args {
			inString(n.Content[i], arg)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.env)) {
		inString(s.env[name], s.Env[name])
	}
	for key, text := range map[string]string{"build": s.Build, "setup": s.Setup} {
		if e, found := findExpression(text); found {
			r.d.fail(s.nodes[key], e, "%s cannot hold expressions; they work in run and env, not %s", key, e)
		}
	}
}

func (r *appReader) checkExpression(s *source, n *yaml.Node, e Expr) {
	switch {
	case e.Field == "each" && s.ForEach == nil && s.nodes["for_each"] == nil:
		r.d.fail(n, e.String(), "${each} has no meaning without for_each; for the shell's own variable write $each")
	case e.Component == s.Name && e.Field != "each":
		r.d.fail(n, e.String(), "%s: %s cannot use its own result, which is there only after it has ended", e, s.Name)
	case e.Field == "each" || s.needs[e.Component]:
	case r.byName[e.Component] != nil:
		r.d.fail(n, e.String(), "%s: %s must be in the needs of %s", e, e.Component, s.Name)
	default:
		r.d.fail(n, e.String(), "%s: there is no component %s", e, quote(e.Component)).Suggestion = r.d.nearest(e.Component, s.Needs)
	}
}

// findExpression finds the first expression in text that holds none by right.
func findExpression(text string) (string, bool) {
	for i := 0; i < len(text); i++ {
		next := strings.Index(text[i:], "${")
		if next < 0 {
			return "", false
		}
		i += next
		if e, n, _ := expressionAt(text[i:], true); n > 0 {
			return e.String(), true
		}
	}
	return "", false
}
