package agent

import (
	"bytes"
	"io"
	"slices"
)

// Values shorter than this are not masked: masking "1" or "yes" would hide the
// log and not the secret.
const minSecret = 4

// Lines of a secret of several lines (a private key) are masked one by one too,
// when they are at least this long: programs print them one by one.
const minSecretLine = 8

const mask = "***"

// redactor masks every secret in what is written through it, wherever the
// writes are cut. It holds back no more than the start of a possible secret, so
// that a live log stays live; Flush gives that away at the end.
//
// What overlapping or adjoining secrets cover becomes one mask, and the output
// does not depend on how the input is cut.
type redactor struct {
	out     io.Writer
	byFirst [256][][]byte // secrets by first byte, longest first
	longest int

	held    []byte // input not written yet: a proper prefix of a secret, or covered
	covered int    // how many bytes of held a written mask already stands for
	open    bool   // the last thing written is a mask that can grow
	buf     []byte // scratch for output
}

func newRedactor(out io.Writer, secrets map[string]string) *redactor {
	r := &redactor{out: out}
	var patterns [][]byte
	for _, value := range secrets {
		v := []byte(value)
		if len(v) >= minSecret {
			patterns = append(patterns, v)
		}
		lines := bytes.Split(v, []byte("\n"))
		for _, line := range lines {
			line = bytes.TrimSpace(line)
			if len(line) >= minSecretLine || (len(line) >= minSecret && len(bytes.TrimSpace(v)) == len(line)) {
				patterns = append(patterns, line)
			}
		}
	}
	slices.SortFunc(patterns, func(a, b []byte) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return bytes.Compare(a, b)
	})
	for _, p := range slices.CompactFunc(patterns, bytes.Equal) {
		r.byFirst[p[0]] = append(r.byFirst[p[0]], p)
		r.longest = max(r.longest, len(p))
	}
	return r
}

// Write takes all of p; its error is the output's.
func (r *redactor) Write(p []byte) (int, error) {
	if r.longest == 0 {
		return r.out.Write(p)
	}
	r.held = append(r.held, p...)
	if err := r.advance(r.holdFrom()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush writes what was held back. No secret can be complete in it.
func (r *redactor) Flush() error { return r.advance(len(r.held)) }

// holdFrom finds the first byte from which on the input could still become a
// secret.
func (r *redactor) holdFrom() int {
	for i := max(0, len(r.held)-r.longest+1); i < len(r.held); i++ {
		for _, s := range r.byFirst[r.held[i]] {
			if rest := r.held[i:]; len(rest) < len(s) && bytes.HasPrefix(s, rest) {
				return i
			}
		}
	}
	return len(r.held)
}

// advance writes the first n held bytes, masked.
func (r *redactor) advance(n int) error {
	out := r.buf[:0]
	end := r.covered // the input is covered up to here
	plain := 0       // start of the plain bytes not yet copied
	for i := range n {
		for _, s := range r.byFirst[r.held[i]] {
			if bytes.HasPrefix(r.held[i:], s) {
				if i >= end {
					out = append(out, r.held[plain:i]...)
					plain = i
				}
				end = max(end, i+len(s))
				break
			}
		}
		if i >= end {
			r.open = false
			continue
		}
		if !r.open {
			out = append(out, mask...)
			r.open = true
		}
		plain = i + 1
	}
	out = append(out, r.held[plain:n]...)
	r.covered = max(0, end-n)
	r.held = append(r.held[:0], r.held[n:]...)
	r.buf = out
	if len(out) == 0 {
		return nil
	}
	_, err := r.out.Write(out)
	return err
}
