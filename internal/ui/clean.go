package ui

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// Clean makes text from a machine safe for a terminal: escape sequences are
// removed and other control characters become U+FFFD, so that a log line cannot
// move the cursor, set the title or answer for the user. Log files keep the
// bytes as they came.
func Clean(s string) string {
	plain := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 && c != '\t' || c >= 0x7f {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	s = ansi.Strip(strings.ToValidUTF8(s, "\uFFFD"))
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return r
		case r < 0x20, r >= 0x7f && r < 0xa0, // C0, DEL, C1
			r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069: // bidirectional overrides
			return '\uFFFD'
		}
		return r
	}, s)
}
