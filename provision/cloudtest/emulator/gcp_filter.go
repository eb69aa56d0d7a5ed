package emulator

import (
	"regexp"
	"slices"
	"strings"
)

// gcpFilter is one comparison of a filter; all of them have to hold.
// https://cloud.google.com/compute/docs/reference/rest/v1/instances/aggregatedList (filter)
type gcpFilter struct {
	field, op, value string
	pattern          *regexp.Regexp
}

var (
	filterTerm  = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9_.-]*)(?:\s*(=|!=|:)\s*|\s+(eq|ne)\s+)("[^"]*"|'[^']*'|[^\s"'()]+)$`)
	filterGroup = regexp.MustCompile(`^\(([^()]*)\)\s*`)
)

// filters reads the parameter filter: one comparison, or several in brackets.
// Comparisons with eq and ne are by a regular expression, and of these there may be
// only one.
func (c *gcpCall) filters(fields ...string) ([]gcpFilter, error) {
	text := strings.TrimSpace(c.value("filter"))
	bad := func() ([]gcpFilter, error) {
		return nil, invalid("Invalid value for field 'filter': '%s'. Invalid list filter expression.", text)
	}
	var terms []string
	for rest := text; rest != ""; {
		group := filterGroup.FindStringSubmatch(rest)
		if group == nil {
			if rest != text {
				return bad()
			}
			terms = []string{rest}
			break
		}
		terms, rest = append(terms, group[1]), rest[len(group[0]):]
	}
	var all []gcpFilter
	for _, term := range terms {
		m := filterTerm.FindStringSubmatch(strings.TrimSpace(term))
		if m == nil || !slices.Contains(fields, m[1]) && !(strings.HasPrefix(m[1], "labels.") && slices.Contains(fields, "labels")) {
			return bad()
		}
		f := gcpFilter{field: m[1], op: m[2] + m[3], value: strings.Trim(m[4], `"'`)}
		if f.op == "eq" || f.op == "ne" {
			pattern, err := regexp.Compile("^(?:" + f.value + ")$")
			if err != nil || len(terms) > 1 {
				return bad()
			}
			f.pattern = pattern
		}
		all = append(all, f)
	}
	return all, nil
}

// passes tells whether something passes the filters. field gives its fields; the
// bool is false for a label that it does not have.
func passesGCP(filters []gcpFilter, field func(string) (string, bool)) bool {
	for _, f := range filters {
		is, there := field(f.field)
		holds := false
		switch f.op {
		case "=":
			holds = there && is == f.value
		case "!=":
			holds = !there || is != f.value
		case ":":
			holds = there && (f.value == "*" || strings.Contains(is, f.value))
		case "eq":
			holds = there && f.pattern.MatchString(is)
		case "ne":
			holds = !there || !f.pattern.MatchString(is)
		}
		if !holds {
			return false
		}
	}
	return true
}
