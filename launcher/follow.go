package launcher

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher/agent"
)

// Following brings an attempt's outputs here while its work writes them, so that
// little is left to bring when it has exited and its machine can be stopped.
// Nothing is under its own name before Fetch has held it against its digest.
type Following struct {
	s       *Session
	id      string
	outputs []string
	dst     string

	stop context.CancelFunc
	done chan struct{}

	// The goroutine's until done is closed, Fetch's from then on.
	root  *os.Root // dst, once something has come
	parts map[string]*part
}

// part is a file of which a beginning is here.
type part struct {
	name string // in dst, while it is not whole
	node uint64 // of the file on the machine
	f    *os.File
	size int64
	sum  hash.Hash // of what is here
}

// maxParts bounds the files that are open at the same time. Others come at the
// end.
const maxParts = 64

// Follow begins to bring what the outputs (paths or globs, as in the attempt's
// StartRequest) match into the folder dst, which is made when the first bytes
// come. Call Fetch or Drop once; trouble on the way only means that more is left
// to Fetch.
func (s *Session) Follow(ctx context.Context, id string, outputs []string, dst string) *Following {
	ctx, stop := context.WithCancel(ctx)
	f := &Following{s: s, id: id, outputs: outputs, dst: dst, stop: stop, done: make(chan struct{}), parts: map[string]*part{}}
	go func() {
		defer close(f.done)
		if len(outputs) == 0 {
			return
		}
		err := s.do(ctx, f.receive)
		if err != nil && ctx.Err() == nil {
			s.cfg.Logger.Debug("outputs are not followed any more", "machine", s.machine, "attempt", id, "error", err)
		}
	}()
	return f
}

// Fetch brings the rest of an attempt's artifacts, as Session.Fetch does.
func (f *Following) Fetch(ctx context.Context, artifacts []cluster.Artifact) error {
	f.end()
	defer f.clear()
	if len(artifacts) == 0 {
		return nil
	}
	return f.s.fetch(ctx, f.id, artifacts, f.dst, f.parts)
}

// Drop forgets what has come.
func (f *Following) Drop() {
	f.end()
	f.clear()
}

func (f *Following) end() {
	f.stop()
	<-f.done
}

// clear removes what no artifact has taken.
func (f *Following) clear() {
	if f.root == nil {
		return
	}
	for _, p := range f.parts {
		if p.f != nil {
			p.f.Close()
		}
		_ = f.root.Remove(p.name) // gone, when it has become an artifact
	}
	f.parts = nil
	f.root.Close()
	_ = os.Remove(f.dst) // only if it is empty
}

// receive takes pieces over one connection.
func (f *Following) receive(ctx context.Context, l *link) (progress bool, err error) {
	req := agent.FollowRequest{Outputs: f.outputs}
	for name, p := range f.parts {
		req.Have = append(req.Have, agent.FollowFile{Path: name, Node: p.node, Size: p.size})
	}
	resp, err := l.send(ctx, request{method: http.MethodPost, path: callPath(f.id, "follow"), in: req, zip: true})
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	buf := make([]byte, agent.MaxFollowPiece)
	for {
		h, content, err := readPiece(resp.Body, buf)
		if errors.Is(err, io.EOF) {
			return progress, nil // the attempt has exited
		}
		if err == nil {
			err = f.take(h, content)
		}
		if err != nil {
			return progress, err
		}
		progress = true
	}
}

// readPiece reads one piece into buf. io.EOF is the end between two pieces.
func readPiece(r io.Reader, buf []byte) (agent.FollowHeader, []byte, error) {
	var h agent.FollowHeader
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return h, nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > agent.MaxFollowHeader {
		return h, nil, untrustedPiece("a header of %d bytes", n)
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(r, header); err != nil {
		return h, nil, noEOF(err)
	}
	if err := json.Unmarshal(header, &h); err != nil {
		return h, nil, untrustedPiece("a header that cannot be read: %v", err)
	}
	if h.Size < 0 || h.Size > len(buf) || h.Offset < 0 {
		return h, nil, untrustedPiece("%d bytes at %d", h.Size, h.Offset)
	}
	_, err := io.ReadFull(r, buf[:h.Size])
	return h, buf[:h.Size], noEOF(err)
}

// noEOF makes an end in the middle of a piece what it is: a connection that broke.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func untrustedPiece(format string, args ...any) error {
	return &cluster.Failure{Kind: cluster.Untrusted, What: "the machine sends outputs in a form that cannot be accepted: " + fmt.Sprintf(format, args...)}
}

// take writes a piece to the file it belongs to.
func (f *Following) take(h agent.FollowHeader, content []byte) error {
	if err := checkPath(h.Path); err != nil {
		return untrustedPiece("%v", err)
	}
	p := f.parts[h.Path]
	switch {
	case h.Offset == 0:
		var err error
		if p, err = f.begin(p, h); err != nil || p == nil {
			return err
		}
	case p == nil || p.f == nil || p.node != h.Node || p.size != h.Offset:
		return nil // of a file that is not followed
	}
	if _, err := p.f.Write(content); err != nil {
		return errLocal{err}
	}
	p.sum.Write(content)
	p.size += int64(len(content))
	return nil
}

// begin makes room for a file that comes from its beginning; nil when there are
// too many.
func (f *Following) begin(p *part, h agent.FollowHeader) (*part, error) {
	if p == nil {
		if len(f.parts) == maxParts {
			return nil, nil
		}
		if err := f.open(); err != nil {
			return nil, errLocal{err}
		}
		p = &part{name: fmt.Sprintf(".levin-follow-%d", len(f.parts))}
		f.parts[h.Path] = p
	}
	if p.f != nil {
		p.f.Close()
	}
	var err error
	p.node, p.size, p.sum = h.Node, 0, sha256.New()
	if p.f, err = f.root.OpenFile(p.name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return nil, errLocal{err}
	}
	return p, nil
}

func (f *Following) open() error {
	if f.root != nil {
		return nil
	}
	err := os.MkdirAll(f.dst, 0o755)
	if err == nil {
		f.root, err = os.OpenRoot(f.dst)
	}
	return err
}

// complete makes an artifact of a part. It reports false when the part is not its
// beginning: the work has changed what it had written before.
func (s *Session) complete(ctx context.Context, id string, a cluster.Artifact, root *os.Root, p *part) (bool, error) {
	if p.size > a.Size {
		return false, nil
	}
	got := &sink{f: p.f, sum: p.sum, left: a.Size - p.size}
	if err := s.fetchContent(ctx, id, a, got); err != nil {
		return false, err
	}
	if got.over || got.digest() != a.Digest {
		return false, nil
	}
	if err := p.f.Chmod(fs.FileMode(a.Mode) & fs.ModePerm); err != nil {
		return false, err
	}
	err := p.f.Close()
	p.f = nil
	if err != nil {
		return false, err
	}
	if dir := path.Dir(a.Path); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return false, err
		}
	}
	return true, root.Rename(p.name, a.Path)
}
