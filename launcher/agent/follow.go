package agent

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Outputs are sent while the work still writes them, so that little is left to
// send when it ends and the machine can be stopped. What is sent so is a guess:
// whoever receives it keeps it only if the digest of the exit says so.
const (
	// followMin is the size from which on an output is followed. A smaller one is
	// sent in no time when the work has ended.
	followMin = 1 << 20
	// followPause is how long a look at the outputs waits for the next one, at least;
	// files tell nobody that they grow.
	followPause = 250 * time.Millisecond
	// followShare bounds the time that looking takes to a twentieth.
	followShare = 20
	// followRestarts is how often a file may be replaced by another of the same name
	// before it is left to the end of the work: it would be sent again and again.
	followRestarts = 1
	// followFiles bounds how many files are followed at the same time.
	followFiles = 64
)

// FollowRequest asks for outputs as they grow.
type FollowRequest struct {
	Outputs []string     `json:"outputs"`        // paths or globs, as in StartRequest
	Have    []FollowFile `json:"have,omitempty"` // what has come before the connection broke
}

// FollowFile is how much of a file there is.
type FollowFile struct {
	Path string `json:"path"`
	Node uint64 `json:"node"` // inode: another one is another file
	Size int64  `json:"size"`
}

// FollowHeader comes before each piece of content: four bytes, big endian, with
// the length of its JSON, the JSON, the content.
type FollowHeader struct {
	Path   string `json:"path"`
	Node   uint64 `json:"node"`
	Offset int64  `json:"offset"` // 0 begins anew; else what is there already
	Size   int    `json:"size"`   // bytes of content
}

// MaxFollowHeader and MaxFollowPiece bound what a receiver has to hold.
const (
	MaxFollowHeader = 32 << 10
	MaxFollowPiece  = copyBuffer
)

// postFollow sends outputs as they grow, until the attempt has exited.
func (s *server) postFollow(w http.ResponseWriter, r *http.Request) error {
	c, err := s.call(r)
	if err != nil {
		return err
	}
	var req FollowRequest
	if err := readBody(w, r, &req); err != nil {
		return err
	}
	for _, pattern := range req.Outputs {
		if err := checkPattern(pattern); err != nil {
			return err
		}
	}
	root, err := os.OpenRoot(s.layout.work(c.folder))
	if err != nil {
		return err
	}
	defer root.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Encoding", "zstd")
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return err
	}
	f := &follower{root: root, out: &packer{w: w, enc: enc}, buf: make([]byte, MaxFollowPiece), files: map[string]*followed{}}
	for _, have := range req.Have {
		f.files[have.Path] = &followed{node: have.Node, size: have.Size}
	}
	control := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	for {
		if err := control.Flush(); err != nil {
			return err
		}
		exit, changed := c.state()
		if exit != nil {
			return nil // the rest is asked for by its digest
		}
		began := time.Now()
		if err := f.look(req.Outputs); err != nil {
			return err
		}
		if err := control.Flush(); err != nil {
			return err
		}
		timer := time.NewTimer(max(followPause, followShare*f.looking(began)))
		for waiting := true; waiting; {
			select {
			case <-timer.C:
				waiting = false
			case <-changed:
				exit, changed = c.state()
				waiting = exit == nil // a line of its log says nothing about its outputs
			case <-r.Context().Done():
				timer.Stop()
				return r.Context().Err()
			case <-s.stopping:
				timer.Stop()
				return errors.New("the agent is shutting down")
			}
		}
		timer.Stop()
	}
}

// follower sends what is new in files that grow.
type follower struct {
	root  *os.Root
	out   *packer
	buf   []byte
	files map[string]*followed
	spent time.Duration // sending, since the last look began
}

// followed is a file of which something was sent.
type followed struct {
	node     uint64
	size     int64 // how much was sent
	restarts int
}

// looking is how long the last look took without the sending.
func (f *follower) looking(began time.Time) time.Duration { return time.Since(began) - f.spent }

// look sends what has been added since the last look.
func (f *follower) look(patterns []string) error {
	f.spent = 0
	outputs, _, err := findOutputs(f.root, patterns)
	if err != nil {
		return err
	}
	for _, o := range outputs {
		stat, ok := o.info.Sys().(*syscall.Stat_t)
		if !ok || o.link != "" || o.info.Size() < followMin {
			continue
		}
		file := f.files[o.path]
		switch {
		case file == nil && len(f.files) == followFiles:
			continue
		case file == nil:
			file = &followed{node: stat.Ino}
			f.files[o.path] = file
		case file.node != stat.Ino || o.info.Size() < file.size:
			if file.restarts++; file.restarts > followRestarts {
				continue
			}
			file.node, file.size = stat.Ino, 0
		case o.info.Size() == file.size:
			continue
		}
		began := time.Now()
		if err := f.send(o.path, file); err != nil {
			return err
		}
		f.spent += time.Since(began)
	}
	return nil
}

// send sends a file from where it was left off to its present end. A file that
// has gone meanwhile, or is another one now, is left to the next look.
func (f *follower) send(name string, file *followed) error {
	content, err := openRegular(f.root, name)
	if err != nil {
		return ignoreGone(err)
	}
	defer content.Close()
	info, err := content.Stat()
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Ino != file.node {
		return nil
	}
	for left := info.Size() - file.size; left > 0; {
		n, err := content.ReadAt(f.buf[:min(left, int64(len(f.buf)))], file.size)
		if n > 0 {
			if err := f.piece(FollowHeader{Path: name, Node: file.node, Offset: file.size, Size: n}, f.buf[:n]); err != nil {
				return err
			}
			file.size += int64(n)
			left -= int64(n)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading output %s: %w", name, err)
		}
	}
	return f.out.flush()
}

func (f *follower) piece(h FollowHeader, content []byte) error {
	header, err := json.Marshal(h)
	if err != nil {
		return err
	}
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(header)))
	for _, b := range [][]byte{size[:], header, content} {
		if _, err := f.out.Write(b); err != nil {
			return err
		}
	}
	return nil
}
