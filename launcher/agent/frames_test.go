package agent

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func frameOf(content string, offset int64) FileFrame {
	return FileFrame{Digest: digestText(content), Size: int64(len(content)), Offset: offset}
}

func TestFrames(t *testing.T) {
	random := make([]byte, 3<<20)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	contents := []string{"first", "", string(random), strings.Repeat("again and again ", 100_000), "last"}
	var stream bytes.Buffer
	w, err := NewFrameWriter(&stream)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, c := range contents {
		offset := int64(len(c) / 3)
		total += len(c) - int(offset)
		if err := w.WriteFile(frameOf(c, offset), strings.NewReader(c[offset:]+"not sent")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if max := total + 10_000; stream.Len() > max {
		t.Errorf("stream of %d bytes, want less than %d", stream.Len(), max)
	}
	whole := stream.Bytes()
	r, err := NewFrameReader(&stream)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i, c := range contents {
		f, err := r.Next()
		if err != nil || f != frameOf(c, int64(len(c)/3)) {
			t.Fatalf("frame %d: %+v, %v", i, f, err)
		}
		if i == 3 {
			continue // Next goes past what was not read
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != c[len(c)/3:] {
			t.Errorf("frame %d: %d bytes, %v", i, len(got), err)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last frame: %v", err)
	}

	// However it is cut, it does not look whole.
	for _, n := range []int{0, 1, 5, 100, len(whole) / 2, len(whole) - 5, len(whole) - 1} {
		r, err := NewFrameReader(bytes.NewReader(whole[:n]))
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = r.Next()
		}
		if errors.Is(err, io.EOF) {
			t.Errorf("cut after %d of %d bytes it reads as whole", n, len(whole))
		}
		r.Close()
	}
}

// A chunk is compressed when that is quicker than sending what it saves.
func TestPacking(t *testing.T) {
	text := []byte(strings.Repeat("again and again ", packChunk/16))
	for _, c := range []struct {
		name                        string
		compressing, sending, ratio float64
		want                        bool // compressed
	}{
		{"nothing is known", 0, 0, 0, true},
		{"a slow line", 1e-9, 1e-7, 0.3, true},
		{"a line faster than the compressor", 3e-9, 1e-9, 0.3, false},
		{"content that does not shrink", 1e-9, 1e-7, 1, false},
	} {
		w, err := NewFrameWriter(io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		p := w.zw
		p.compressing, p.sending, p.ratio = c.compressing, c.sending, c.ratio
		p.chunk = text
		p.pack()
		if got := len(p.out) < len(text); got != c.want {
			t.Errorf("%s: compressed is %v", c.name, got)
		}
		back, err := w.decode(p.out)
		if err != nil || !bytes.Equal(back, text) {
			t.Errorf("%s: %d bytes came back, %v", c.name, len(back), err)
		}
	}
}

// decode reads one packed chunk.
func (w *FrameWriter) decode(packed []byte) ([]byte, error) {
	zr, err := newZstdReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	defer zr.Close()
	return io.ReadAll(zr)
}

func TestFrameWriterRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		frame   FileFrame
		content string
		want    error
	}{
		"short content": {frameOf("abc", 0), "ab", io.ErrUnexpectedEOF},
		"bad digest":    {FileFrame{Digest: "x"}, "", nil},
		"bad offset":    {frameOf("abc", 4), "", nil},
		"negative size": {FileFrame{Digest: digestText(""), Size: -1}, "", nil},
	} {
		w, err := NewFrameWriter(io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		err = w.WriteFile(tt.frame, strings.NewReader(tt.content))
		if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) {
			t.Errorf("%s: %v", name, err)
		}
		if again := w.WriteFile(frameOf("abc", 0), strings.NewReader("abc")); again == nil {
			t.Errorf("%s: the stream went on", name)
		}
		if w.Close() == nil {
			t.Errorf("%s: the stream was closed well", name)
		}
	}
}

func compress(t testing.TB, raw []byte) []byte {
	t.Helper()
	zw, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer zw.Close()
	return zw.EncodeAll(raw, nil)
}

func header(text string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
}

// hostileStreams are uploads that must fail, compressed.
func hostileStreams(t testing.TB) map[string][]byte {
	good := header(`{"digest":"` + digestText("abc") + `","size":3}`)
	whole := compress(t, append(good, "abc"...))
	return map[string][]byte{
		"not zstd":          []byte("plain text, no zstd"),
		"cut anywhere":      whole[:len(whole)-3],
		"cut length":        compress(t, []byte{0, 0}),
		"cut header":        compress(t, good[:20]),
		"cut content":       compress(t, append(good, "ab"...)),
		"no content":        compress(t, good),
		"huge header":       compress(t, []byte{0xff, 0xff, 0xff, 0xff, '{', '}'}),
		"no JSON":           compress(t, header("hello")),
		"empty header":      compress(t, header("{}")),
		"negative size":     compress(t, header(`{"digest":"`+digestText("")+`","size":-1}`)),
		"offset after size": compress(t, header(`{"digest":"`+digestText("abc")+`","size":3,"offset":4}`)),
		"negative offset":   compress(t, header(`{"digest":"`+digestText("abc")+`","size":3,"offset":-1}`)),
		"size overflows":    compress(t, header(`{"digest":"`+digestText("abc")+`","size":99999999999999999999}`)),
		"digest is a path":  compress(t, header(`{"digest":"sha256:../../x","size":3}`)),
	}
}

func TestHostileFrames(t *testing.T) {
	for name, stream := range hostileStreams(t) {
		r, err := NewFrameReader(bytes.NewReader(stream))
		if err != nil {
			continue
		}
		for err == nil {
			if _, err = r.Next(); err == nil {
				_, err = io.Copy(io.Discard, r)
			}
		}
		if errors.Is(err, io.EOF) {
			t.Errorf("%s was read to its end", name)
		}
		r.Close()
	}
}

// FuzzFrameReader: whatever comes, reading ends, and every frame that is
// accepted is sound and has exactly its bytes.
func FuzzFrameReader(f *testing.F) {
	for _, stream := range hostileStreams(f) {
		f.Add(stream, false)
	}
	f.Add(append(header(`{"digest":"`+digestText("abc")+`","size":3}`), "abc"...), true)
	f.Fuzz(func(t *testing.T, data []byte, raw bool) {
		if raw {
			data = compress(t, data)
		}
		r, err := NewFrameReader(bytes.NewReader(data))
		if err != nil {
			return
		}
		defer r.Close()
		for range 1000 {
			frame, err := r.Next()
			if err != nil {
				return
			}
			if err := frame.check(); err != nil {
				t.Fatalf("accepted %+v: %v", frame, err)
			}
			n, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			if want := frame.Size - frame.Offset; err == nil && n < 1<<20 && n != want {
				t.Fatalf("%d bytes of a frame of %d", n, want)
			}
		}
	})
}
