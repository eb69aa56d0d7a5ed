package configs

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// ExpandShell rewrites the expressions of a shell line to variables and gives
// the line and the variables by name. The line that the shell reads holds no
// value, so a value is always one word and is never read as shell text:
//
//	echo ${each}            →  echo "${LEVIN_VAR_1}"
//	echo "got ${each}"      →  echo "got ${LEVIN_VAR_1}"
//	echo 'got ${each}'      →  echo 'got '"${LEVIN_VAR_1}"''
//
// An expression after a backslash and one in a comment are left alone. Where a
// value could be split or read again — backticks, arithmetic, another ${…}, the
// body of a here-document with a quoted end — or where it cannot be told how the
// shell will read the line, an expression is an error; text without expressions
// is never refused.
func ExpandShell(line string, value func(Expr) (string, error)) (string, map[string]string, error) {
	s := &shellScanner{in: line, value: value, vars: map[string]string{}, names: map[string]string{}, stack: []shellContext{{kind: inCommand}}, wordStart: true}
	for s.at < len(s.in) {
		if err := s.step(); err != nil {
			return "", nil, err
		}
	}
	return s.out.String(), s.vars, nil
}

// plainVariable is a variable of the shell without anything done to it.
var plainVariable = regexp.MustCompile(`^\$\{[A-Za-z_][A-Za-z0-9_]*\}`)

type contextKind int

const (
	inCommand    contextKind = iota // the line itself, $( ), ( )
	inDouble                        // "…"
	inSingle                        // '…'
	inBackticks                     // `…`
	inParameter                     // ${…} of the shell
	inArithmetic                    // $((…)) and ((…))
)

type shellContext struct {
	kind   contextKind
	parens int  // open ( that are not contexts of their own
	quoted bool // an outer context is in double quotes
}

// hereDocument is one whose body begins after the end of the line.
type hereDocument struct {
	end    string
	quoted bool // the body is literal
	tabs   bool // <<-
}

type shellScanner struct {
	in    string
	at    int
	out   strings.Builder
	value func(Expr) (string, error)
	vars  map[string]string // values by variable
	names map[string]string // variables by expression

	stack     []shellContext
	wordStart bool // a word, and so a comment, may begin here
	pending   []hereDocument
	unclear   string // why expressions are refused from here on
}

func (s *shellScanner) top() *shellContext { return &s.stack[len(s.stack)-1] }
func (s *shellScanner) rest() string       { return s.in[s.at:] }

// copy passes n bytes on.
func (s *shellScanner) copy(n int) {
	n = min(n, len(s.in)-s.at)
	s.out.WriteString(s.in[s.at : s.at+n])
	s.at += n
}

// maxNested is how many contexts deep an expression may stand: each is looked at
// for each expression.
const maxNested = 50

func (s *shellScanner) push(kind contextKind) {
	if len(s.stack) > maxNested {
		s.giveUp(fmt.Sprintf("more than %d quotes, $(…) and the like inside one another", maxNested))
	}
	t := s.top()
	s.stack = append(s.stack, shellContext{kind: kind, quoted: t.quoted || t.kind == inDouble})
	s.wordStart = kind == inCommand
}

func (s *shellScanner) pop() {
	if len(s.stack) > 1 {
		s.stack = s.stack[:len(s.stack)-1]
	}
	s.wordStart = false
}

// giveUp refuses every expression from here on.
func (s *shellScanner) giveUp(why string) {
	if s.unclear == "" {
		s.unclear = why
	}
}

// step reads on by at least one byte.
func (s *shellScanner) step() error {
	if strings.HasPrefix(s.rest(), "${") {
		if done, err := s.expression(); done || err != nil {
			return err
		}
	}
	if c := s.in[s.at]; c == '\n' && len(s.pending) > 0 {
		if s.top().kind == inCommand {
			s.copy(1)
			s.wordStart = true
			return s.bodies()
		}
		s.giveUp("a here-document that begins before a quote is closed")
	}
	switch s.top().kind {
	case inSingle:
		s.single()
	case inDouble:
		s.double()
	case inBackticks:
		s.backticks()
	case inParameter:
		s.parameter()
	case inArithmetic:
		s.arithmetic()
	default:
		s.command()
	}
	return nil
}

// expression rewrites the expression that begins here, if one does.
func (s *shellScanner) expression() (bool, error) {
	e, n, err := expressionAt(s.rest(), s.top().kind == inSingle)
	if err != nil {
		return false, err
	}
	if n == 0 {
		return false, nil
	}
	for _, c := range s.stack {
		switch c.kind {
		case inBackticks:
			return false, refused(e, "inside backticks; use $(…)")
		case inParameter:
			return false, refused(e, "inside another ${…}")
		case inArithmetic:
			return false, refused(e, "inside arithmetic, where the shell would read its value again")
		}
	}
	if s.unclear != "" {
		return false, refused(e, "after "+s.unclear)
	}
	name, err := s.variable(e)
	if err != nil {
		return false, err
	}
	switch s.top().kind {
	case inDouble:
		s.out.WriteString("${" + name + "}")
	case inSingle:
		s.out.WriteString(`'"${` + name + `}"'`)
	default:
		s.out.WriteString(`"${` + name + `}"`)
	}
	s.at += n
	s.wordStart = false
	return true, nil
}

func refused(e Expr, where string) error {
	return fmt.Errorf("%s cannot be used %s; put it into env and use that variable", e, where)
}

// variable gives the variable that holds the value of an expression.
func (s *shellScanner) variable(e Expr) (string, error) {
	if name, ok := s.names[e.String()]; ok {
		return name, nil
	}
	v, err := s.value(e)
	if err != nil {
		return "", err
	}
	if strings.ContainsRune(v, 0) {
		return "", fmt.Errorf("the value of %s holds a zero byte", e)
	}
	name := "LEVIN_VAR_" + strconv.Itoa(len(s.vars)+1)
	s.names[e.String()], s.vars[name] = name, v
	return name, nil
}

func (s *shellScanner) single() {
	if s.in[s.at] == '\'' {
		s.pop()
	}
	s.copy(1)
}

func (s *shellScanner) double() {
	switch {
	case s.in[s.at] == '"':
		s.pop()
		s.copy(1)
	case s.in[s.at] == '\\':
		s.copy(2)
	default:
		s.dollarOrPlain()
	}
}

func (s *shellScanner) backticks() {
	switch s.in[s.at] {
	case '`':
		s.pop()
		s.copy(1)
	case '\\':
		s.copy(2)
	default:
		s.copy(1)
	}
}

// parameter is in a ${…} of the shell. How quotes count in there differs between
// shells when it is itself in double quotes.
func (s *shellScanner) parameter() {
	switch c := s.in[s.at]; c {
	case '}':
		s.pop()
		s.copy(1)
	case '\\':
		s.copy(2)
	case '\'', '"':
		if s.top().quoted {
			s.giveUp("a quote inside ${…} inside double quotes")
			s.copy(1)
			return
		}
		s.quote(c)
	default:
		s.dollarOrPlain()
	}
}

func (s *shellScanner) arithmetic() {
	t := s.top()
	switch c := s.in[s.at]; {
	case c == '(':
		t.parens++
		s.copy(1)
	case c == ')' && t.parens > 0:
		t.parens--
		s.copy(1)
	case strings.HasPrefix(s.rest(), "))"):
		s.pop()
		s.copy(2)
	case c == ')':
		s.giveUp("(( that is not closed by ))")
		s.pop()
		s.copy(1)
	case c == '\\':
		s.copy(2)
	case c == '\'', c == '"', c == '#', strings.HasPrefix(s.rest(), "<<"):
		s.giveUp("a quote, # or << inside arithmetic")
		s.copy(1)
	default:
		s.dollarOrPlain()
	}
}

// quote opens a quoted part.
func (s *shellScanner) quote(c byte) {
	if c == '"' {
		s.push(inDouble)
	} else {
		s.push(inSingle)
	}
	s.copy(1)
}

// dollarOrPlain opens what $ and ` open, and passes on anything else.
func (s *shellScanner) dollarOrPlain() {
	rest := s.rest()
	s.wordStart = false
	switch {
	case strings.HasPrefix(rest, "$(("):
		s.push(inArithmetic)
		s.copy(3)
	case strings.HasPrefix(rest, "$("):
		s.push(inCommand)
		s.copy(2)
	case strings.HasPrefix(rest, "${"):
		s.push(inParameter)
		s.copy(2)
		if strings.HasPrefix(s.rest(), "#") || strings.HasPrefix(s.rest(), "!") {
			s.copy(1)
		}
	case strings.HasPrefix(rest, "$["):
		s.giveUp("$[, which some shells read as arithmetic")
		s.copy(2)
	case strings.HasPrefix(rest, "$$"):
		s.copy(2) // the process id; what follows is text
	case rest[0] == '`':
		s.push(inBackticks)
		s.copy(1)
	default:
		s.copy(1)
	}
}

// command is outside all quotes.
func (s *shellScanner) command() {
	rest, c, nested := s.rest(), s.in[s.at], len(s.stack) > 1
	switch {
	case strings.HasPrefix(rest, "\\\n"):
		s.copy(2) // as if it were not there: wordStart stays
		return
	case c == '\\':
		s.copy(2)
	case c == '\'' || c == '"':
		s.quote(c)
		return
	case strings.HasPrefix(rest, "$'"):
		s.giveUp("$'…', which shells read differently")
		s.copy(1)
	case c == '#' && s.wordStart:
		s.comment()
		return
	case c == '\n' || c == ' ' || c == '\t' || c == ';' || c == '&' || c == '|':
		s.copy(1)
		s.wordStart = true
		return
	case strings.HasPrefix(rest, "(("):
		s.push(inArithmetic)
		s.copy(2)
		return
	case c == '(':
		s.top().parens++
		s.copy(1)
		s.wordStart = true
		return
	case c == ')':
		s.closeParen(nested)
		return
	case strings.HasPrefix(rest, "<<<"):
		s.copy(3)
	case strings.HasPrefix(rest, "<<"):
		s.hereDocument()
	case c == '<' || c == '>':
		s.copy(1)
		if strings.HasPrefix(s.rest(), "#") {
			s.giveUp("a # after " + string(c))
		}
	case nested && s.wordStart && (strings.HasPrefix(rest, "case") || strings.HasPrefix(rest, "[[")):
		s.giveUp("a case or a [[ ]] inside $(…), where it cannot be told which ) is the last")
		s.copy(2)
	default:
		s.dollarOrPlain()
		return
	}
	s.wordStart = false
}

func (s *shellScanner) closeParen(nested bool) {
	if t := s.top(); t.parens > 0 {
		t.parens--
		s.copy(1)
		s.wordStart = true
		return
	} else if !nested {
		s.copy(1) // the end of a pattern of case, or an error of the user's
		s.wordStart = true
		return
	}
	if len(s.pending) > 0 {
		s.giveUp("a here-document that begins inside $(…)")
		s.pending = nil
	}
	s.pop()
	s.copy(1)
}

func (s *shellScanner) comment() {
	end := strings.IndexByte(s.rest(), '\n')
	if end < 0 {
		end = len(s.rest())
	}
	s.copy(end)
}

// hereDocument reads << or <<- and the word after it.
func (s *shellScanner) hereDocument() {
	s.copy(2)
	h := hereDocument{}
	if strings.HasPrefix(s.rest(), "-") {
		h.tabs = true
		s.copy(1)
	}
	for strings.HasPrefix(s.rest(), " ") || strings.HasPrefix(s.rest(), "\t") {
		s.copy(1)
	}
	word, end, err := hereWord(s.rest())
	if err != nil {
		s.giveUp("a here-document whose end cannot be told")
		return
	}
	h.end, h.quoted = word, end != len(word)
	s.copy(end)
	s.pending = append(s.pending, h)
}

// hereWord reads the word that ends a here-document: a plain word, or one that
// is quoted as a whole. n is its length as written.
func hereWord(s string) (word string, n int, err error) {
	bad := errors.New("not a plain word")
	if s == "" {
		return "", 0, bad
	}
	plain := func(s string) int {
		return len(s) - len(strings.TrimLeft(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.!"))
	}
	start, close := 0, ""
	if s[0] == '\'' || s[0] == '"' {
		start, close = 1, s[:1]
	}
	end := start + plain(s[start:])
	word, n = s[start:end], end+len(close)
	if word == "" || !strings.HasPrefix(s[end:], close) {
		return "", 0, bad
	}
	if n < len(s) && !strings.ContainsRune(" \t\n;&|)<>", rune(s[n])) {
		return "", 0, bad
	}
	return word, n, nil
}

// bodies passes on the bodies of the here-documents that begin at this line.
func (s *shellScanner) bodies() error {
	for len(s.pending) > 0 {
		h := s.pending[0]
		s.pending = s.pending[1:]
		unclear := ""
		if h.quoted {
			unclear = "a here-document whose end is quoted"
		}
		for s.at < len(s.in) {
			line, _, more := strings.Cut(s.rest(), "\n")
			n := len(line)
			if more {
				n++
			}
			compare := line
			if h.tabs {
				compare = strings.TrimLeft(line, "\t")
			}
			if compare == h.end {
				s.copy(n)
				break
			}
			if !h.quoted && strings.HasSuffix(line, `\`) {
				// The next line may be joined to this one, so its end may not be seen.
				s.giveUp("a line of a here-document that ends with a backslash")
			}
			if err := s.bodyLine(s.at+n, &unclear); err != nil {
				return err
			}
		}
	}
	return nil
}

// bodyLine passes on one line of a body. In there quotes are plain text and a
// value is neither split nor read again.
func (s *shellScanner) bodyLine(end int, unclear *string) error {
	for s.at < end {
		rest := s.in[s.at:end]
		switch {
		case strings.HasPrefix(rest, "${"):
			e, n, err := expressionAt(rest, *unclear != "")
			switch {
			case *unclear == "" && err != nil:
				return err
			case plainVariable.MatchString(rest) && n == 0:
				s.copy(2)
				continue
			case n == 0:
				*unclear = "${…} in a here-document"
				s.copy(2)
				continue
			case *unclear != "" || s.unclear != "":
				return refused(e, "after "+firstText(s.unclear, *unclear))
			}
			name, err := s.variable(e)
			if err != nil {
				return err
			}
			s.out.WriteString("${" + name + "}")
			s.at += n
		case rest[0] == '\\':
			s.copy(min(2, len(rest)))
		case rest[0] == '`' || strings.HasPrefix(rest, "$("):
			*unclear = "a command in a here-document"
			s.copy(1)
		case strings.HasPrefix(rest, "$$"):
			s.copy(2)
		default:
			s.copy(1)
		}
	}
	return nil
}

func firstText(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
