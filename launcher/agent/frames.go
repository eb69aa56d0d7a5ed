package agent

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxFrameHeader bounds the JSON header of a frame; a real one has ~120 bytes.
const maxFrameHeader = 4 << 10

// maxWindow bounds the memory a peer can make the decoder use.
const maxWindow = 8 << 20

// copyBuffer is the size of the buffers that content is moved with.
const copyBuffer = 256 << 10

// FrameWriter writes the body of an upload. It is for one goroutine.
type FrameWriter struct {
	zw  *packer
	buf []byte
	err error
}

// NewFrameWriter starts a stream of frames on w. Close ends it; w stays open.
func NewFrameWriter(w io.Writer) (*FrameWriter, error) {
	// No checksum: every file is verified by its sha256. EncodeAll is all that is
	// used of it.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("starting a stream of frames: %w", err)
	}
	return &FrameWriter{zw: &packer{w: w, enc: enc}, buf: make([]byte, copyBuffer)}, nil
}

// WriteFile sends one file from f.Offset on; content starts at that offset.
// Exactly f.Size-f.Offset bytes are read of it: content that ends early is
// io.ErrUnexpectedEOF and leaves a stream that must be given up; content beyond
// is not read. After an error every further write fails.
func (w *FrameWriter) WriteFile(f FileFrame, content io.Reader) error {
	if w.err != nil {
		return w.err
	}
	w.err = w.writeFile(f, content)
	return w.err
}

func (w *FrameWriter) writeFile(f FileFrame, content io.Reader) error {
	if err := f.check(); err != nil {
		return err
	}
	header, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if len(header) > maxFrameHeader {
		return errors.New("frame header too long")
	}
	if _, err := w.zw.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(header))), header...)); err != nil {
		return err
	}
	// Hide the file's WriteTo, which would use a buffer of its own.
	src := io.LimitReader(content, f.Size-f.Offset)
	n, err := io.CopyBuffer(struct{ io.Writer }{w.zw}, struct{ io.Reader }{src}, w.buf)
	if err == nil && n < f.Size-f.Offset {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Close ends the stream. It does not close the writer below.
func (w *FrameWriter) Close() error {
	_, err := w.zw.Write(endOfFrames)
	if err == nil {
		err = w.zw.flush()
	}
	if w.err != nil {
		return w.err
	}
	w.err = errors.New("stream of frames is closed")
	return err
}

// endOfFrames ends a stream: a header of no bytes. A stream that stops without it
// was cut.
var endOfFrames = []byte{0, 0, 0, 0}

// FrameReader reads the body of an upload. It trusts nothing it reads.
type FrameReader struct {
	zr   *zstd.Decoder
	left int64 // bytes of the current file still to come
	err  error
}

// NewFrameReader reads frames from r. Close frees it; r stays open.
func NewFrameReader(r io.Reader) (*FrameReader, error) {
	zr, err := newZstdReader(r)
	if err != nil {
		return nil, fmt.Errorf("reading a stream of frames: %w", err)
	}
	return &FrameReader{zr: zr}, nil
}

func newZstdReader(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}

// Next goes to the next file, past what is left of the current one. It gives
// io.EOF at the end of a whole stream and io.ErrUnexpectedEOF when the stream
// was cut.
func (r *FrameReader) Next() (FileFrame, error) {
	if r.err != nil {
		return FileFrame{}, r.err
	}
	f, err := r.next()
	r.err = err
	return f, err
}

func (r *FrameReader) next() (FileFrame, error) {
	if _, err := io.CopyN(io.Discard, r.zr, r.left); err != nil {
		return FileFrame{}, cut(err)
	}
	r.left = 0
	var length [4]byte
	if _, err := io.ReadFull(r.zr, length[:]); err != nil {
		return FileFrame{}, cut(err)
	}
	n := binary.BigEndian.Uint32(length[:])
	if n == 0 {
		return FileFrame{}, io.EOF
	}
	if n > maxFrameHeader {
		return FileFrame{}, fmt.Errorf("frame header of %d bytes", n)
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(r.zr, header); err != nil {
		return FileFrame{}, cut(err)
	}
	var f FileFrame
	if err := json.Unmarshal(header, &f); err != nil {
		return FileFrame{}, fmt.Errorf("frame header: %w", err)
	}
	if err := f.check(); err != nil {
		return FileFrame{}, err
	}
	r.left = f.Size - f.Offset
	return f, nil
}

// Read reads the current file; io.EOF is its end.
func (r *FrameReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.zr.Read(p)
	r.left -= int64(n)
	if err != nil && r.left > 0 {
		err = cut(err)
	} else {
		err = nil
	}
	return n, err
}

// Close frees the decoder.
func (r *FrameReader) Close() { r.zr.Close() }

func (f FileFrame) check() error {
	if _, err := digestHex(f.Digest); err != nil {
		return err
	}
	if f.Size < 0 || f.Offset < 0 || f.Offset > f.Size {
		return fmt.Errorf("frame of %d bytes from offset %d", f.Size, f.Offset)
	}
	return nil
}

// cut turns an end in the middle of something into io.ErrUnexpectedEOF.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
