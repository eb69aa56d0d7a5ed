package cluster

import (
	"fmt"
	"slices"
)

// allowed reports whether a table of moves permits from → to. Staying put is
// always permitted.
func allowed[S comparable](moves map[S][]S, from, to S) bool {
	return from == to || slices.Contains(moves[from], to)
}

// TransitionError is what a Store answers when a change would move something
// along an arrow that does not exist.
type TransitionError struct {
	What string // "run", "group", "machine" or "call"
	ID   string
	From string // "" when the row is new
	To   string
}

// Error names the thing and both states.
func (e *TransitionError) Error() string {
	if e.From == "" {
		return fmt.Sprintf("%s %s cannot begin as %q", e.What, e.ID, e.To)
	}
	return fmt.Sprintf("%s %s cannot go from %s to %q", e.What, e.ID, e.From, e.To)
}
