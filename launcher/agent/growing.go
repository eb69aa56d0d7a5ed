package agent

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"
)

// growBlock is the unit in which a growing file is digested ahead. What does not
// fill one is left to the end of the work.
const growBlock = 1 << 20

// growing digests large outputs while the work still writes them, so that their
// digests are ready soon after it has ended: a machine is not stopped before they
// are.
//
// Work may change what was digested already. So each block is also remembered by
// a fast hash, and at the end a file that has changed since is read once more and
// held against those, which takes a fraction of the time of its digest. A block
// that differs means that the digest is made anew.
type growing struct {
	root     *os.Root
	patterns []string
	seed     maphash.Seed
	buf      []byte
	files    map[string]*grown

	stop chan struct{}
	done sync.WaitGroup
}

// grown is a file of which whole blocks have been digested.
type grown struct {
	node   uint64
	sum    hash.Hash
	blocks []uint64 // the fast hash of each
	// settled is how the file was when it was last read to its end, if it had not
	// been written to for a while then: a file that still is so has not changed.
	settled fs.FileInfo
	resets  int
}

// settleTime is how old a change must be for the next one to show in the file's
// time: file systems count in steps of up to two seconds.
const settleTime = 3 * time.Second

// startGrowing begins to digest what the patterns match in root.
func startGrowing(root *os.Root, patterns []string) *growing {
	g := &growing{
		root: root, patterns: patterns, seed: maphash.MakeSeed(),
		files: map[string]*grown{}, stop: make(chan struct{}),
	}
	g.done.Go(g.run)
	return g
}

// finish stops looking. Then digest may be used.
func (g *growing) finish() {
	close(g.stop)
	g.done.Wait()
}

func (g *growing) stopped() bool {
	select {
	case <-g.stop:
		return true
	default:
		return false
	}
}

func (g *growing) run() {
	pause := followPause
	for {
		timer := time.NewTimer(pause)
		select {
		case <-g.stop:
			timer.Stop()
			return
		case <-timer.C:
		}
		began := time.Now()
		outputs, _, err := findOutputs(g.root, g.patterns)
		looked := time.Since(began)
		if err == nil {
			for _, o := range outputs {
				g.look(o)
			}
		}
		pause = max(followPause, followShare*looked)
	}
}

// look digests the whole blocks that were added to a file. Trouble is left to the
// end, when the file is read in any case.
func (g *growing) look(o found) {
	stat, ok := o.info.Sys().(*syscall.Stat_t)
	if !ok || o.link != "" || o.info.Size() < followMin {
		return
	}
	file := g.files[o.path]
	switch {
	case file == nil && len(g.files) == followFiles:
		return
	case file == nil:
		file = &grown{node: stat.Ino, sum: sha256.New()}
		g.files[o.path] = file
	case file.node != stat.Ino || o.info.Size() < int64(len(file.blocks))*growBlock:
		if file.resets++; file.resets > followRestarts {
			file.reset(0) // no file's inode: it is digested at the end
			return
		}
		file.reset(stat.Ino)
	}
	content, err := openRegular(g.root, o.path)
	if err != nil {
		return
	}
	defer content.Close()
	if g.buf == nil {
		g.buf = make([]byte, growBlock)
	}
	for !g.stopped() {
		n, err := content.ReadAt(g.buf, int64(len(file.blocks))*growBlock)
		if n < growBlock || err != nil && !errors.Is(err, io.EOF) {
			break
		}
		file.add(g.buf, g.seed)
	}
	file.settled = nil
	if info, err := content.Stat(); err == nil && time.Since(info.ModTime()) > settleTime && info.Size() < int64(len(file.blocks)+1)*growBlock {
		file.settled = info
	}
}

func (f *grown) reset(node uint64) {
	f.node, f.sum, f.blocks, f.settled = node, sha256.New(), nil, nil
}

func (f *grown) add(block []byte, seed maphash.Seed) {
	f.sum.Write(block)
	f.blocks = append(f.blocks, maphash.Bytes(seed, block))
}

// digest gives digest and size of a file as it is now, using what was digested
// ahead of it. finish comes before.
func (g *growing) digest(name string, buf []byte) (string, int64, error) {
	file := g.files[name]
	if file == nil || len(file.blocks) == 0 {
		return hashFile(g.root, name, buf)
	}
	content, err := openRegular(g.root, name)
	if err != nil {
		return "", 0, err
	}
	defer content.Close()
	info, err := content.Stat()
	if err != nil {
		return "", 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Ino != file.node {
		return hashFile(g.root, name, buf)
	}
	if !file.unchanged(info) {
		same, err := g.verify(content, file)
		if err != nil {
			return "", 0, err
		}
		if !same {
			return hashFile(g.root, name, buf)
		}
	}
	ahead := int64(len(file.blocks)) * growBlock
	if _, err := content.Seek(ahead, io.SeekStart); err != nil {
		return "", 0, err
	}
	rest, err := io.CopyBuffer(file.sum, struct{ io.Reader }{content}, buf)
	return digestOf(file.sum.Sum(nil)), ahead + rest, err
}

func (f *grown) unchanged(now fs.FileInfo) bool {
	return f.settled != nil && os.SameFile(f.settled, now) && f.settled.Size() == now.Size() && f.settled.ModTime().Equal(now.ModTime())
}

// verify holds a file's blocks against the fast hashes of what was digested.
func (g *growing) verify(content *os.File, file *grown) (bool, error) {
	block := make([]byte, growBlock)
	for i, want := range file.blocks {
		n, err := content.ReadAt(block, int64(i)*growBlock)
		if n < growBlock {
			if err != nil && !errors.Is(err, io.EOF) {
				return false, fmt.Errorf("reading it again: %w", err)
			}
			return false, nil // it has become shorter
		}
		if maphash.Bytes(g.seed, block) != want {
			return false, nil
		}
	}
	return true, nil
}
