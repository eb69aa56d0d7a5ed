package launcher

import (
	"slices"
	"strings"
)

// glob reports whether a pattern, in the form of .gitignore, matches the whole of
// name. "*", "?" and "[…]" never match a slash; "**" as a whole component matches
// any number of components. A pattern that is not well formed matches nothing.
func glob(pattern, name string) bool {
	if !strings.ContainsAny(pattern, `*?[\`) {
		return pattern == name
	}
	m := globber{pattern: pattern, name: name}
	return m.match(0, 0)
}

// globber remembers from where a match has failed, so that many stars take no
// more than len(pattern) × len(name) steps.
type globber struct {
	pattern, name string
	failed        map[[2]int]bool
}

func (m *globber) match(p, n int) bool {
	for p < len(m.pattern) {
		c := m.pattern[p]
		if c == '*' {
			return m.star(p, n)
		}
		if n == len(m.name) {
			return false
		}
		switch c {
		case '?':
			if m.name[n] == '/' {
				return false
			}
			p++
		case '[':
			matched, next, ok := class(m.pattern, p, m.name[n])
			if !ok || !matched || m.name[n] == '/' {
				return false
			}
			p = next
		case '\\':
			p++
			if p == len(m.pattern) {
				return false
			}
			c = m.pattern[p]
			fallthrough
		default:
			if c != m.name[n] {
				return false
			}
			p++
		}
		n++
	}
	return n == len(m.name)
}

// star matches from the star at p on. It tries every length that the stars can
// have.
func (m *globber) star(p, n int) bool {
	key := [2]int{p, n}
	if m.failed[key] {
		return false
	}
	rest := p
	for rest < len(m.pattern) && m.pattern[rest] == '*' {
		rest++
	}
	after := m.pattern[rest:]
	whole := rest-p > 1 && (p == 0 || m.pattern[p-1] == '/') &&
		(after == "" || after[0] == '/' || strings.HasPrefix(after, `\/`))
	if whole && strings.HasPrefix(after, "/") && m.match(rest+1, n) {
		return true // no component at all
	}
	for i := n; i <= len(m.name); i++ {
		if m.match(rest, i) {
			return true
		}
		if !whole && i < len(m.name) && m.name[i] == '/' {
			break
		}
	}
	if m.failed == nil {
		m.failed = map[[2]int]bool{}
	}
	m.failed[key] = true
	return false
}

// class matches one byte against the bracket expression at p. It gives where the
// pattern goes on; ok is false when the bracket is never closed.
func class(pattern string, p int, b byte) (matched bool, next int, ok bool) {
	p++ // past "["
	negate := false
	if p < len(pattern) && (pattern[p] == '!' || pattern[p] == '^') {
		negate = true
		p++
	}
	for first := true; ; first = false {
		if p >= len(pattern) {
			return false, 0, false
		}
		c := pattern[p]
		if c == ']' && !first {
			return matched != negate, p + 1, true
		}
		if c == '[' && strings.HasPrefix(pattern[p:], "[:") {
			if name, after, found := strings.Cut(pattern[p+2:], "]"); found && strings.HasSuffix(name, ":") {
				in, known := classes[strings.TrimSuffix(name, ":")]
				if !known {
					return false, 0, false
				}
				matched = matched || in(b)
				p = len(pattern) - len(after)
				continue
			}
		}
		low, p1, ok := classByte(pattern, p)
		if !ok {
			return false, 0, false
		}
		p = p1
		high := low
		if p+1 < len(pattern) && pattern[p] == '-' && pattern[p+1] != ']' {
			if high, p, ok = classByte(pattern, p+1); !ok {
				return false, 0, false
			}
		}
		matched = matched || low <= b && b <= high
	}
}

// classByte reads one, perhaps escaped, byte of a bracket expression.
func classByte(pattern string, p int) (c byte, next int, ok bool) {
	if pattern[p] == '\\' {
		p++
	}
	if p >= len(pattern) {
		return 0, 0, false
	}
	return pattern[p], p + 1, true
}

// classes are the named classes of bracket expressions, for ASCII.
var classes = map[string]func(byte) bool{
	"alnum":  func(b byte) bool { return isAlpha(b) || isDigit(b) },
	"alpha":  isAlpha,
	"blank":  func(b byte) bool { return b == ' ' || b == '\t' },
	"cntrl":  func(b byte) bool { return b < ' ' || b == 0x7f },
	"digit":  isDigit,
	"graph":  func(b byte) bool { return b > ' ' && b < 0x7f },
	"lower":  func(b byte) bool { return 'a' <= b && b <= 'z' },
	"print":  func(b byte) bool { return b >= ' ' && b < 0x7f },
	"punct":  func(b byte) bool { return b > ' ' && b < 0x7f && !isAlpha(b) && !isDigit(b) },
	"space":  func(b byte) bool { return slices.Contains([]byte(" \t\n\v\f\r"), b) },
	"upper":  func(b byte) bool { return 'A' <= b && b <= 'Z' },
	"xdigit": func(b byte) bool { return isDigit(b) || 'a' <= b|0x20 && b|0x20 <= 'f' },
}

func isAlpha(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }
func isDigit(b byte) bool { return '0' <= b && b <= '9' }
