package flow

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

type told struct {
	Offset int64
	Text   string
}

// split gives what a splitter tells of p when it comes in chunks.
func split(p []byte, chunk func(left int) int) []told {
	var s splitter
	var lines []told
	tell := func(offset int64, text []byte) { lines = append(lines, told{offset, string(text)}) }
	for len(p) > 0 {
		n := chunk(len(p))
		s.write(p[:n], tell)
		p = p[n:]
	}
	s.flush(tell)
	return lines
}

func whole(left int) int { return left }
func single(int) int     { return 1 }

func TestSplitter(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	tests := []struct {
		name string
		in   string
		want []told
	}{
		{"nothing", "", nil},
		{"lines", "a\nbb\n", []told{{0, "a"}, {2, "bb"}}},
		{"no newline at the end", "a\nb", []told{{0, "a"}, {2, "b"}}},
		{"empty lines", "\n\na\n\n", []told{{0, ""}, {1, ""}, {2, "a"}, {4, ""}}},
		{"CRLF", "a\r\nb\r\n", []told{{0, "a"}, {3, "b"}}},
		{"progress bar", "10%\r20%\r100%\ndone\n", []told{{8, "100%"}, {13, "done"}}},
		{"progress bar with return at the end", "10%\r20%\r\nx", []told{{4, "20%"}, {9, "x"}}},
		{"progress bar cut off", "10%\r20%\r", []told{{4, "20%"}}},
		{"return only", "\r\n", []told{{1, ""}}},
		{"long", long + "y\nz\n", []told{{0, long}, {maxLine, "y"}, {maxLine + 2, "z"}}},
		{"exactly as long", long + "\nz\n", []told{{0, long}, {maxLine + 1, "z"}}},
		{"characters are not cut", strings.Repeat("x", maxLine-1) + "é\n", []told{{0, strings.Repeat("x", maxLine-1)}, {maxLine - 1, "é"}}},
		{"binary", "\x00\xff\xfe\n", []told{{0, "\x00\xff\xfe"}}},
		{"escapes stay", "\x1b[31mred\x1b[0m\n", []told{{0, "\x1b[31mred\x1b[0m"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, chunk := range []func(int) int{whole, single} {
				if diff := cmp.Diff(tt.want, split([]byte(tt.in), chunk)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// FuzzSplitter holds lines to what was printed: the same lines whatever the
// chunks, each found at its offset, and, where nothing was taken back by a
// carriage return, all of the bytes.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte("a\nb\r\nc\rd\n\xe2\x82"), uint64(1))
	f.Add([]byte("\r\n\n\r\r x"), uint64(2))
	f.Add([]byte("\x00"), uint64(3))
	f.Fuzz(func(t *testing.T, p []byte, seed uint64) {
		// A zero stands for a stretch as long as a line may be, so that short inputs
		// reach the places where lines are cut.
		p = bytes.ReplaceAll(p, []byte{0}, bytes.Repeat([]byte("x"), maxLine-2))
		rng := rand.New(rand.NewPCG(seed, 0))
		lines := split(p, whole)
		if other := split(p, func(left int) int { return 1 + rng.IntN(left) }); !slices.Equal(lines, other) {
			t.Fatalf("in one piece %+v, in several %+v", lines, other)
		}
		rebuilt := bytes.Repeat([]byte{'\n'}, len(p))
		for _, l := range lines {
			if len(l.Text) > maxLine {
				t.Fatalf("a line of %d bytes", len(l.Text))
			}
			if strings.ContainsAny(l.Text, "\r\n") {
				t.Fatalf("not one line: %q", l.Text)
			}
			if utf8.Valid(p) && !utf8.ValidString(l.Text) {
				t.Fatalf("a character was cut: %q", l.Text)
			}
			if got := p[l.Offset : l.Offset+int64(len(l.Text))]; string(got) != l.Text {
				t.Fatalf("%q is not what stands at %d: %q", l.Text, l.Offset, got)
			}
			copy(rebuilt[l.Offset:], l.Text)
		}
		if !bytes.ContainsRune(p, '\r') && !bytes.Equal(rebuilt, p) {
			t.Fatalf("%q became %q", p, rebuilt)
		}
		if newlines := bytes.Count(p, []byte("\n")); len(lines) < newlines {
			t.Fatalf("%d lines of %d", len(lines), newlines)
		}
	})
}
