package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
)

// upload is one stream of frames on its way in.
type upload struct {
	interrupt func() // makes reads of the stream fail; called only before done is closed
	done      chan struct{}
	writing   string // digest (hex) of the part it has open; guarded by folder.up
}

// receive takes a stream of frames. interrupt has to make reads of body fail.
func (f *folder) receive(ctx context.Context, body io.Reader, interrupt func()) error {
	u := &upload{interrupt: interrupt, done: make(chan struct{})}
	p, err := f.beginUpload(u)
	if err != nil {
		return err
	}
	defer f.endUpload(u)
	frames, err := NewFrameReader(body)
	if err != nil {
		return err
	}
	defer frames.Close()
	buf := make([]byte, copyBuffer)
	for {
		frame, err := frames.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return badStream(err)
		}
		hex, _ := digestHex(frame.Digest) // checked by the reader
		if size, wanted := p.sizes[hex]; !wanted || size != frame.Size {
			return badRequest("%s of %d bytes was not asked for", frame.Digest, frame.Size)
		}
		there, err := f.claim(u, p, hex)
		if err != nil {
			return err
		}
		if there {
			continue
		}
		w := &partWriter{f: f, hex: hex, size: frame.Size, buf: buf}
		err = w.write(ctx, frame.Offset, frames)
		f.unclaim(u, p, hex, err == nil)
		if err != nil {
			return err
		}
	}
}

// badStream says of what kind an error of the stream itself is: one that was cut
// may be sent again.
func badStream(err error) error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, os.ErrDeadlineExceeded):
		return conflict("the upload was cut: %v", err)
	}
	return badRequest("the upload is not a stream of frames: %v", err)
}

func (f *folder) beginUpload(u *upload) (*pending, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending == nil {
		return nil, conflict("folder %s has no sync on its way: ask again", f.name)
	}
	f.up.Lock()
	defer f.up.Unlock()
	f.uploads[u] = true
	return f.pending, nil
}

func (f *folder) endUpload(u *upload) {
	f.up.Lock()
	defer f.up.Unlock()
	delete(f.uploads, u)
	close(u.done)
}

// endUploads cuts every upload and waits for it: they belong to an older sync,
// most likely of a connection that is broken.
func (f *folder) endUploads() {
	f.up.Lock()
	running := slices.Collect(maps.Keys(f.uploads))
	for _, u := range running {
		u.interrupt()
	}
	f.up.Unlock()
	for _, u := range running {
		<-u.done
	}
}

// claim makes u the only one to write a content; there says that another upload
// has brought it.
func (f *folder) claim(u *upload, p *pending, hex string) (there bool, err error) {
	f.up.Lock()
	defer f.up.Unlock()
	if p.arrived[hex] {
		return true, nil
	}
	for other := range f.uploads {
		if other.writing == hex {
			return false, conflict("sha256:%s is being uploaded already", hex)
		}
	}
	u.writing = hex
	return false, nil
}

func (f *folder) unclaim(u *upload, p *pending, hex string, arrived bool) {
	f.up.Lock()
	defer f.up.Unlock()
	u.writing = ""
	p.arrived[hex] = p.arrived[hex] || arrived
}

// partWriter writes one content into parts/, hashing it on the way.
type partWriter struct {
	f    *folder
	hex  string
	size int64
	buf  []byte
}

// write takes the content from offset on. What arrives before src breaks stays,
// so that the transfer can go on there; content that is not what its digest says
// does not.
func (w *partWriter) write(ctx context.Context, offset int64, src io.Reader) error {
	if offset == 0 && w.size <= int64(len(w.buf)) {
		return w.writeSmall(src)
	}
	part := w.f.part(w.hex)
	file, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = w.fill(ctx, file, offset, src)
		if cerr := file.Close(); err == nil {
			err = cerr
		}
	}
	if err == nil {
		return os.Rename(part, w.f.content(w.hex))
	}
	if e := (*Error)(nil); errors.As(err, &e) && e.Kind == KindUntrusted {
		os.Remove(part)
	}
	return err
}

// writeSmall takes content that fits into the buffer: it is verified before it
// is written, and written at once.
func (w *partWriter) writeSmall(src io.Reader) error {
	content := w.buf[:w.size]
	if _, err := io.ReadFull(src, content); err != nil {
		return badStream(cut(err))
	}
	sum := sha256.Sum256(content)
	if err := w.verify(sum[:]); err != nil {
		return err
	}
	path := w.f.content(w.hex)
	err := os.WriteFile(path, content, 0o600)
	if err != nil {
		os.Remove(path)
	}
	return err
}

func (w *partWriter) verify(sum []byte) error {
	if got := digestOf(sum); got != "sha256:"+w.hex {
		return untrusted("content that should have sha256:%s has %s", w.hex, got)
	}
	return nil
}

func (w *partWriter) fill(ctx context.Context, file *os.File, offset int64, src io.Reader) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < offset {
		return conflict("sha256:%s has %d bytes here and cannot go on at %d: ask again", w.hex, info.Size(), offset)
	}
	if err := file.Truncate(offset); err != nil {
		return err
	}
	h := sha256.New()
	if offset > 0 {
		if _, err := io.CopyBuffer(h, io.LimitReader(file, offset), w.buf); err != nil {
			return err
		}
	}
	if err := w.copy(ctx, file, h, src, w.size-offset); err != nil {
		return err
	}
	return w.verify(h.Sum(nil))
}

// copy writes n bytes of src to file and h: it is hashed while the next piece is
// read and written.
func (w *partWriter) copy(ctx context.Context, file *os.File, h hash.Hash, src io.Reader, n int64) error {
	free, full := make(chan []byte, 2), make(chan []byte, 2)
	free <- w.buf
	free <- make([]byte, len(w.buf))
	var hasher sync.WaitGroup
	hasher.Go(func() {
		for piece := range full {
			h.Write(piece)
			free <- piece[:cap(piece)]
		}
	})
	defer hasher.Wait()
	defer close(full)
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := <-free
		piece = piece[:min(n, int64(len(piece)))]
		got, err := io.ReadFull(src, piece)
		if _, werr := file.Write(piece[:got]); werr != nil {
			return werr
		}
		if err != nil {
			return badStream(cut(err))
		}
		n -= int64(got)
		full <- piece
	}
	return nil
}
