package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// What a file may be, so that a hostile one costs little.
const (
	maxFile    = 4 << 20 // bytes
	maxDepth   = 40      // mappings and lists in one another
	maxAliased = 50_000  // nodes that come in through aliases, counted each time; their text is at most maxFile
	maxErrors  = 50      // after which we stop collecting
)

// document is a YAML file as a tree of nodes without aliases or merges, each of
// which knows where it was written.
type document struct {
	file    string // as errors name it
	root    *yaml.Node
	origins map[*yaml.Node]string // of nodes that came by a flag: "--set a.b=c"
	errs    Errors
	unseen  bool // an error was left out
	aliased struct{ nodes, bytes int }
}

// readDocument reads a file of at most maxFile bytes.
func readDocument(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a pipe could wait for ever
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("it is larger than %d MiB", maxFile>>20)
	}
	return data, nil
}

// parseDocument parses data. A document with errors has a root only as far as
// it could be read.
func parseDocument(file string, data []byte) *document {
	d := &document{file: file, origins: map[*yaml.Node]string{}}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			d.errs = append(d.errs, syntaxError(file, data, err))
		}
		return d
	}
	if len(doc.Content) == 1 {
		d.root = d.expand(doc.Content[0], 0, nil)
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		d.errs = append(d.errs, syntaxError(file, data, err))
	default:
		d.fail(&second, "", "a second document; the file must hold one")
	}
	return d
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxError places an error of the YAML parser, which knows only the line, at
// the first letter of that line.
func syntaxError(file string, data []byte, err error) *Error {
	text := err.Error()
	at := yamlLine.FindStringSubmatch(text)
	e := &Error{File: file, Line: 1, Column: 1}
	if at != nil {
		text = text[len(at[0]):]
		if n, err := strconv.Atoi(at[1]); err == nil && n > 0 {
			e.Line = n
		}
	}
	lines := bytes.SplitN(data, []byte("\n"), e.Line+1)
	if e.Line <= len(lines) {
		line := strings.TrimRight(string(lines[e.Line-1]), "\r")
		e.Text = strings.TrimSpace(line)
		e.Column = 1 + len(line) - len(strings.TrimLeft(line, " \t"))
	}
	e.Message = "not valid YAML: " + text
	if e.Text != "" {
		e.Message += " near " + quote(e.Text)
	}
	return e
}

// fail notes an error at a node.
func (d *document) fail(n *yaml.Node, text, format string, args ...any) *Error {
	e := &Error{File: d.file, Line: n.Line, Column: n.Column, Text: text, Message: fmt.Sprintf(format, args...)}
	if origin, ok := d.origins[n]; ok {
		e.File, e.Line, e.Column = origin, 0, 0
	}
	if len(d.errs) < maxErrors {
		d.errs = append(d.errs, e)
	} else {
		d.unseen = true
	}
	return e
}

// nearest suggests one of the candidates in the place of s, unless the error is
// one that nobody will see.
func (d *document) nearest(s string, candidates []string) string {
	if d.unseen {
		return ""
	}
	return nearest(s, candidates)
}

// expand replaces aliases in a tree by copies of what they stand for, carries
// out merges (<<), and refuses tags and keys that are there twice. open holds the anchors
// that are being expanded; the tree outside of them is changed in place.
func (d *document) expand(n *yaml.Node, depth int, open []*yaml.Node) *yaml.Node {
	if len(open) > 0 && !d.countAliased(n) {
		return nil
	}
	if depth > maxDepth {
		d.fail(n, "", "nested more than %d deep", maxDepth)
		return nil
	}
	if n.Kind == yaml.AliasNode {
		for _, o := range open {
			if o == n.Alias {
				d.fail(n, n.Value, "the alias *%s stands for something that holds itself", n.Value)
				return nil
			}
		}
		return d.expand(n.Alias, depth+1, append(open, n.Alias))
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.dropTag(n)
	}
	content := n.Content
	switch n.Kind {
	case yaml.SequenceNode:
		content = make([]*yaml.Node, 0, len(n.Content))
		for _, item := range n.Content {
			if item := d.expand(item, depth+1, open); item != nil {
				content = append(content, item)
			}
		}
	case yaml.MappingNode:
		content = d.expandMapping(n, depth, open)
	}
	if len(open) > 0 {
		c := *n
		n = &c
	}
	n.Content = content
	return n
}

// countAliased reports whether a node may still come in through an alias.
func (d *document) countAliased(n *yaml.Node) bool {
	before := d.aliased
	d.aliased.nodes++
	d.aliased.bytes += len(n.Value)
	switch {
	case before.nodes > maxAliased || before.bytes > maxFile:
		return false // already refused
	case d.aliased.nodes > maxAliased:
		d.fail(n, "", "aliases stand for more than %d values in all", maxAliased)
		return false
	case d.aliased.bytes > maxFile:
		d.fail(n, "", "aliases stand for more than %d MiB of text in all", maxFile>>20)
		return false
	}
	return true
}

// dropTag refuses a tag, and lets the value be read as if it were text.
func (d *document) dropTag(n *yaml.Node) {
	d.fail(n, n.Tag, "the tag %s is not supported; write the value without it", cut(n.Tag))
	n.Style &^= yaml.TaggedStyle
	switch n.Kind {
	case yaml.MappingNode:
		n.Tag = "!!map"
	case yaml.SequenceNode:
		n.Tag = "!!seq"
	default:
		n.Tag = "!!str"
	}
}

func (d *document) expandMapping(n *yaml.Node, depth int, open []*yaml.Node) []*yaml.Node {
	content := make([]*yaml.Node, 0, len(n.Content))
	seen := map[string]*yaml.Node{}
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := d.expand(n.Content[i], depth+1, open), d.expand(n.Content[i+1], depth+1, open)
		if key == nil || value == nil {
			continue
		}
		switch first := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			d.fail(key, "", "a key must be text")
		case key.Tag == "!!merge":
			merges = append(merges, value)
		case first != nil:
			d.fail(key, key.Value, "the key %s is here twice; it is also on line %d", quote(key.Value), first.Line)
		default:
			seen[key.Value] = key
			content = append(content, key, value)
		}
	}
	for len(merges) > 0 {
		from := merges[0]
		merges = merges[1:]
		switch from.Kind {
		case yaml.SequenceNode:
			merges = append(merges, from.Content...)
		case yaml.MappingNode:
			for i := 0; i+1 < len(from.Content); i += 2 {
				if key := from.Content[i]; seen[key.Value] == nil {
					seen[key.Value] = key
					content = append(content, key, from.Content[i+1])
				}
			}
		default:
			d.fail(from, from.Value, "<< can only merge a mapping or a list of mappings")
		}
	}
	return content
}

// set carries out one --set KEY=VALUE: KEY is a dotted path of mapping keys and
// list indices, VALUE is YAML.
func (d *document) set(assignment string) {
	origin := "--set " + assignment
	if r := []rune(origin); len(r) > 80 {
		origin = string(r[:80]) + "…"
	}
	bad := func(text, format string, args ...any) {
		d.errs = append(d.errs, &Error{File: origin, Text: text, Message: fmt.Sprintf(format, args...)})
	}
	key, text, ok := strings.Cut(assignment, "=")
	path := strings.Split(key, ".")
	for _, part := range path {
		ok = ok && part != ""
	}
	switch {
	case !ok:
		bad(assignment, "want KEY=VALUE with a dotted KEY, such as components.train.retries=2")
		return
	case len(path) > maxDepth, len(text) > maxFile:
		bad("", "too long")
		return
	}
	given := parseDocument(origin, []byte(text))
	for _, e := range given.errs {
		e.Line, e.Column = 0, 0
		d.errs = append(d.errs, e)
	}
	if len(given.errs) > 0 {
		return
	}
	value := given.root
	if value == nil {
		value = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str"}
	}
	d.mark(value, origin)
	if d.root == nil {
		d.root = d.mark(&yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}, origin)
	}
	at := d.root
	for i, part := range path {
		place, ok := d.child(at, part, origin)
		if !ok {
			bad(part, "%s is not in %s, which is %s", quote(part), orDocument(strings.Join(path[:i], ".")), kindOf(at))
			return
		}
		if i == len(path)-1 {
			*place = value
		} else if (*place).Kind == yaml.ScalarNode && (*place).Tag == "!!null" {
			*place = d.mark(&yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}, origin)
		}
		at = *place
	}
}

// child gives the place of a value in a mapping or a list. A key that a mapping
// lacks is added.
func (d *document) child(n *yaml.Node, key, origin string) (**yaml.Node, bool) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return &n.Content[i+1], true
			}
		}
		n.Content = append(n.Content,
			d.mark(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, origin),
			d.mark(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}, origin))
		return &n.Content[len(n.Content)-1], true
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(n.Content) {
			return &n.Content[i], true
		}
	}
	return nil, false
}

func (d *document) mark(n *yaml.Node, origin string) *yaml.Node {
	d.origins[n] = origin
	for _, c := range n.Content {
		d.mark(c, origin)
	}
	return n
}

func orDocument(path string) string {
	if path == "" {
		return "the document"
	}
	return path
}

// kindOf names what a node is, for people.
func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "empty"
	case n.Tag == "!!int", n.Tag == "!!float":
		return "the number " + n.Value
	case n.Tag == "!!bool":
		return n.Value
	}
	return quote(n.Value)
}
