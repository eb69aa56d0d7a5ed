package flow

import (
	"bytes"
	"unicode/utf8"
)

// maxLine bounds one call.log event, in bytes. A longer line comes in pieces.
const maxLine = 16 << 10

// splitter cuts what a process prints into lines, whatever the chunks are it
// comes in. A carriage return takes back what stood before it on the line, as on
// a terminal, so that of a progress bar the last state is told; one before the
// newline belongs to the newline. The zero value is at offset 0.
type splitter struct {
	next    int64  // offset of the next byte to come
	line    []byte // the line so far, less than maxLine bytes
	start   int64  // offset of its first byte
	returns bool   // a carriage return has come after it
	cut     bool   // part of the line has been told already
}

// write takes bytes and tells of each line that they complete. text is good
// until tell returns; offset is that of its first byte.
func (s *splitter) write(p []byte, tell func(offset int64, text []byte)) {
	for len(p) > 0 {
		switch p[0] {
		case '\n':
			if len(s.line) > 0 || !s.cut {
				s.tell(tell)
			}
			s.cut, s.returns = false, false
			s.next++
			p = p[1:]
		case '\r':
			s.returns = true
			s.next++
			p = p[1:]
		default:
			p = s.text(p, tell)
		}
	}
}

// text takes bytes up to the end of the line, or as many as there is room for.
func (s *splitter) text(p []byte, tell func(int64, []byte)) (rest []byte) {
	if s.returns {
		s.line, s.returns, s.cut = s.line[:0], false, false
	}
	if len(s.line) == 0 {
		s.start = s.next
	}
	n := min(len(p), maxLine-len(s.line))
	if i := bytes.IndexByte(p[:n], '\n'); i >= 0 {
		n = i
	}
	if i := bytes.IndexByte(p[:n], '\r'); i >= 0 {
		n = i
	}
	s.line = append(s.line, p[:n]...)
	s.next += int64(n)
	if len(s.line) == maxLine {
		whole := maxLine - partialRune(s.line)
		tell(s.start, s.line[:whole])
		s.line = append(s.line[:0], s.line[whole:]...)
		s.start += int64(whole)
		s.cut = true
	}
	return p[n:]
}

// tell tells of the line so far.
func (s *splitter) tell(tell func(int64, []byte)) {
	start := s.start
	if len(s.line) == 0 {
		start = s.next
	}
	tell(start, s.line)
	s.line = s.line[:0]
}

// flush tells of a line without a newline, if there is one.
func (s *splitter) flush(tell func(int64, []byte)) {
	if len(s.line) > 0 {
		s.tell(tell)
	}
	s.returns, s.cut = false, false
}

// partialRune counts the bytes at the end of p that begin a character which is
// not complete.
func partialRune(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if c := p[len(p)-n]; utf8.RuneStart(c) {
			if utf8.FullRune(p[len(p)-n:]) {
				return 0
			}
			return n
		}
	}
	return 0
}
