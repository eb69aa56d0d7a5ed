package configs

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// schema is a JSON Schema.
type schema = map[string]any

// property is one key of a mapping: how it is read and how an editor is told
// about it.
type property[T any] struct {
	name  string
	doc   string
	value schema
	read  func(d *document, n *yaml.Node, to *T) // nil: the key is planned and refused
}

// object is the table of keys of a mapping. It drives both reading and the JSON
// Schema.
type object[T any] []property[T]

// names lists the keys that can be used.
func (o object[T]) names() []string {
	var names []string
	for _, p := range o {
		if p.read != nil {
			names = append(names, p.name)
		}
	}
	return names
}

// read reads a mapping and gives its nodes by key: what validation needs to say
// where. what names the mapping in errors.
func (o object[T]) read(d *document, what string, n *yaml.Node, to *T) map[string]*yaml.Node {
	nodes := map[string]*yaml.Node{}
	if n.Kind != yaml.MappingNode {
		d.fail(n, n.Value, "%s must be a mapping, is %s", what, kindOf(n))
		return nodes
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := slices.IndexFunc(o, func(p property[T]) bool { return p.name == key.Value })
		switch {
		case at < 0:
			e := d.fail(key, key.Value, "unknown key %s in %s", quote(key.Value), what)
			if e.Suggestion = d.nearest(key.Value, o.names()); e.Suggestion == "" {
				e.Message += "; it can have " + strings.Join(o.names(), ", ")
			}
		case o[at].read == nil:
			d.fail(key, key.Value, "%s is not supported yet", key.Value)
		case value.Kind == yaml.ScalarNode && value.Tag == "!!null":
			d.fail(key, key.Value, "%s has no value", key.Value)
			nodes[key.Value] = value
		default:
			nodes[key.Value] = value
			o[at].read(d, value, to)
		}
	}
	return nodes
}

// text reads a scalar as it was written. Only with any may it be a number or a
// truth value.
func (d *document) text(n *yaml.Node, what string, any bool) (string, bool) {
	switch {
	case n.Kind != yaml.ScalarNode, n.Tag == "!!null", n.Tag != "!!str" && !any:
		e := d.fail(n, n.Value, "%s must be text, is %s", what, kindOf(n))
		if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			e.Suggestion = quote(n.Value) + " in quotes"
		}
		return "", false
	case strings.ContainsRune(n.Value, 0):
		d.fail(n, n.Value, "%s holds a zero byte", what)
		return "", false
	}
	return n.Value, true
}

// filled reads text that may not be blank.
func (d *document) filled(n *yaml.Node, what string) (string, bool) {
	s, ok := d.text(n, what, false)
	if ok && strings.TrimSpace(s) == "" {
		d.fail(n, s, "%s is empty", what)
		return "", false
	}
	return s, ok
}

// command reads a shell line. true and false are programs too.
func (d *document) command(n *yaml.Node, what string) string {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!bool" {
		return n.Value
	}
	s, _ := d.filled(n, what)
	return s
}

// items gives the entries of a list; text alone is a list of one.
func (d *document) items(n *yaml.Node, what string) []*yaml.Node {
	switch n.Kind {
	case yaml.ScalarNode:
		return []*yaml.Node{n}
	case yaml.SequenceNode:
		return n.Content
	}
	d.fail(n, "", "%s must be text or a list, is %s", what, kindOf(n))
	return nil
}

// texts reads text or a list of it.
func (d *document) texts(n *yaml.Node, what string) []string {
	list := []string{}
	for _, item := range d.items(n, what) {
		if s, ok := d.filled(item, what); ok {
			list = append(list, s)
		}
	}
	return list
}

// whole reads a whole number of at least least.
func (d *document) whole(n *yaml.Node, what string, least int) int {
	const most = 1_000_000
	v, err := strconv.Atoi(n.Value)
	switch {
	case n.Kind != yaml.ScalarNode || err != nil:
		d.fail(n, n.Value, "%s must be a whole number, is %s", what, kindOf(n))
		return least
	case v < least || v > most:
		d.fail(n, n.Value, "%s must be between %d and %d, is %d", what, least, most, v)
		return least
	}
	return v
}

// port reads a TCP port; 0 when it is none.
func (d *document) port(n *yaml.Node, what string) int {
	before := len(d.errs)
	v := d.whole(n, what, 1)
	switch {
	case len(d.errs) > before:
		return 0
	case v > 65535:
		d.fail(n, n.Value, "%s must be between 1 and 65535, is %s", what, n.Value)
		return 0
	}
	return v
}

// size reads one amount of memory or disk, in GiB.
func (d *document) size(n *yaml.Node, what string) float64 {
	r := d.span(n, what, true)
	if r.Min != r.Max {
		d.fail(n, n.Value, "%s is one size, not a range", what)
		return 0
	}
	return r.Max
}

// truth reads true or false.
func (d *document) truth(n *yaml.Node, what string) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		d.fail(n, n.Value, "%s must be true or false, is %s", what, kindOf(n))
		return false
	}
	var v bool
	if err := n.Decode(&v); err != nil {
		d.fail(n, n.Value, "%s must be true or false, is %s", what, kindOf(n))
	}
	return v
}

// number reads a number above zero or, with zero, from it.
func (d *document) number(n *yaml.Node, what string, zero bool) float64 {
	v, ok := parseNumber(n.Value)
	switch {
	case n.Kind != yaml.ScalarNode || !ok:
		d.fail(n, n.Value, "%s must be a number, is %s", what, kindOf(n))
	case v < 0:
		d.fail(n, n.Value, "%s cannot be negative, is %s", what, n.Value)
	case v == 0 && !zero:
		d.fail(n, n.Value, "%s must be above 0, is %s", what, n.Value)
	default:
		return v
	}
	return 0
}

// positive reads a duration that must be above 0, for the reason given.
func (d *document) positive(n *yaml.Node, what, why string) time.Duration {
	before := len(d.errs)
	v := d.duration(n, what)
	if v == 0 && len(d.errs) == before {
		d.fail(n, n.Value, "%s must be above 0: %s", what, why)
	}
	return v
}

// atLeast reads a duration of at least least.
func (d *document) atLeast(n *yaml.Node, what string, least time.Duration) time.Duration {
	before := len(d.errs)
	v := d.duration(n, what)
	if v < least && len(d.errs) == before {
		d.fail(n, n.Value, "%s must be at least %s, is %s", what, least, n.Value)
	}
	return v
}

func (d *document) duration(n *yaml.Node, what string) time.Duration {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, "", "%s must be a duration such as 90s, 15m or 2h, is %s", what, kindOf(n))
		return 0
	}
	v, err := parseDuration(n.Value)
	if err != nil {
		e := d.fail(n, n.Value, "%s %s", what, err)
		if _, isNumber := parseNumber(n.Value); isNumber && n.Value[0] != '-' {
			e.Suggestion = n.Value + "s"
		}
	}
	return v
}

// oneOf reads one of the given words.
func (d *document) oneOf(n *yaml.Node, what string, words ...string) string {
	if n.Kind == yaml.ScalarNode && slices.Contains(words, n.Value) {
		return n.Value
	}
	d.fail(n, n.Value, "%s must be %s, is %s", what, strings.Join(words, " or "), kindOf(n)).Suggestion = d.nearest(n.Value, words)
	return ""
}

// environment reads variables by name; their values may be any scalar.
func (d *document) environment(n *yaml.Node, what string) (map[string]string, map[string]*yaml.Node) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, n.Value, "%s must be a mapping of names to values, is %s", what, kindOf(n))
		return nil, nil
	}
	env, nodes := map[string]string{}, map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case !isIdentifier(key.Value):
			d.fail(key, key.Value, "%s is not the name of a variable: letters, digits and _, not beginning with a digit", quote(key.Value))
		case strings.HasPrefix(key.Value, "LEVIN_"):
			d.fail(key, key.Value, "%s: names beginning with LEVIN_ are Levin's own", key.Value)
		case value.Kind == yaml.ScalarNode && value.Tag == "!!null":
			d.fail(key, key.Value, `%s has no value; write "" for empty text`, key.Value)
		default:
			if s, ok := d.text(value, key.Value, true); ok {
				env[key.Value], nodes[key.Value] = s, value
			}
		}
	}
	return env, nodes
}

// plain reads a value of any shape into text, numbers, truth values, lists and
// mappings, as JSON has them.
func (d *document) plain(n *yaml.Node, what string) any {
	switch {
	case n.Kind == yaml.MappingNode:
		all := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			all[n.Content[i].Value] = d.plain(n.Content[i+1], n.Content[i].Value)
		}
		return all
	case n.Kind == yaml.SequenceNode:
		all := []any{}
		for _, item := range n.Content {
			all = append(all, d.plain(item, what))
		}
		return all
	case n.Tag == "!!null":
		d.fail(n, "", `%s has no value; write "" for empty text`, what)
		return nil
	case n.Tag == "!!bool":
		return d.truth(n, what)
	case n.Tag == "!!int" || n.Tag == "!!float":
		if v, ok := parseNumber(n.Value); ok {
			return v
		}
		d.fail(n, n.Value, "%s must be a decimal number or text in quotes, is %s", what, quote(n.Value))
		return nil
	}
	s, _ := d.text(n, what, true)
	return s
}

func isIdentifier(s string) bool {
	for i, r := range s {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}
