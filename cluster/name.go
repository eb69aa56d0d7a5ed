package cluster

import (
	"crypto/rand"
	"crypto/sha256"
	"strings"
)

const (
	maxLabel  = 63 // bytes in a DNS label (RFC 1123)
	maxRunApp = 32 // bytes of the app's name in a run ID, so that machine names stay readable
)

// letters is Crockford's base 32 in lower case: no i, l, o or u, so that an ID
// read aloud or copied by hand comes through.
const letters = "0123456789abcdefghjkmnpqrstvwxyz"

// Name joins parts with dashes into one DNS label: lower case letters, digits
// and dashes, at most 63 bytes. The same parts always give the same name. When
// the text had to be changed or cut, a digest of the parts is put at its end, so
// that names which were different stay different.
func Name(parts ...string) string {
	plain := strings.Join(parts, "-")
	label := toLabel(plain)
	if label != "" && label == plain && len(label) <= maxLabel {
		return label
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	suffix := encode(sum[:8])
	label = cut(label, maxLabel-len(suffix)-1)
	if label == "" {
		return suffix
	}
	return label + "-" + suffix
}

// NewRunID gives a new ID for a run of an app: the app's name, cut to 32 bytes,
// and six random characters.
func NewRunID(app string) string {
	var b [6]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	app = cut(toLabel(app), maxRunApp)
	if app == "" {
		app = "run"
	}
	return app + "-" + encode(b[:])
}

// toLabel lowers s and turns each run of characters that a DNS label cannot hold
// into one dash; dashes at either end are dropped. The result may be too long.
func toLabel(s string) string {
	var b strings.Builder
	gap := false
	for _, r := range strings.ToLower(s) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			if gap {
				b.WriteByte('-')
				gap = false
			}
			b.WriteRune(r)
		default:
			gap = true
		}
	}
	return strings.Trim(b.String(), "-")
}

// cut shortens a label to at most n bytes without leaving a dash at its end.
func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.TrimRight(s, "-")
}

// encode writes one character for the low five bits of each byte.
func encode(p []byte) string {
	out := make([]byte, len(p))
	for i, c := range p {
		out[i] = letters[c&31]
	}
	return string(out)
}
