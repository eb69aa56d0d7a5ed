package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/levinrun/levin/cluster"
)

// Error is one thing that is wrong in a file or in what was put over it.
type Error struct {
	File         string // as the reader named it; for a flag or a variable, its name: "--set retries=x", "LEVIN_LEASE"
	Line, Column int    // from 1; 0 when the text is not in a file
	Text         string // the offending text, as it was written; may be empty
	Message      string // what is wrong with it
	Suggestion   string // what was probably meant; may be empty
}

// Error gives the position, the message and the suggestion on one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": " + e.Message)
	if e.Suggestion != "" {
		fmt.Fprintf(&b, "; did you mean %s?", e.Suggestion)
	}
	return b.String()
}

// Errors are all the errors of a file, in the order of their positions.
type Errors []*Error

// Error gives each error on a line of its own.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives every error.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// failure is what a caller gets: every error, in the order of the file; what
// came by flags and variables goes last.
func (es Errors) failure(what string) error {
	if len(es) == 0 {
		return nil
	}
	slices.SortStableFunc(es, func(a, b *Error) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	words := strings.ReplaceAll(es.Error(), "\n", "\n  ")
	return &cluster.Failure{Kind: cluster.BadInput, What: what, Words: "\n  " + words, Err: es}
}

// quote shows text of unknown origin: short, on one line, without control
// characters.
func quote(s string) string { return fmt.Sprintf("%q", cut(s)) }

// cut shortens text for an error.
func cut(s string) string {
	const most = 60
	if r := []rune(s[:min(len(s), 4*(most+1))]); len(r) > most { // so many bytes are enough for so many letters
		return string(r[:most]) + "…"
	}
	return s
}

// What nearest looks at, so that a hostile file costs little.
const (
	maxCandidates = 500
	maxCompared   = 64 // bytes of a word
)

// nearest gives the candidate closest to s by edit distance, or "" when none is
// close enough to be what was meant. Of several, the one that begins most like s.
// It looks at the first maxCandidates.
func nearest(s string, candidates []string) string {
	if len(s) > maxCompared {
		return ""
	}
	best, least := "", 1+max(1, len(s)/3)
	lower := strings.ToLower(s)
	for _, c := range candidates[:min(len(candidates), maxCandidates)] {
		if apart := len(s) - len(c); len(c) > maxCompared || max(apart, -apart) > least {
			continue // further away than the best without a look
		}
		d := distance(lower, strings.ToLower(c))
		if d < least || d == least && best != "" && begin(lower, c) > begin(lower, best) {
			best, least = c, d
		}
	}
	return best
}

// begin counts the bytes that a and b have in common at their beginning.
func begin(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// distance is the number of letters to insert, remove, replace or swap with
// their neighbour to get from a to b.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
