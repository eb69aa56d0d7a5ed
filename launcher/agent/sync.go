package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// folder is one work folder as serve knows it. A sync goes: ask (what is
// missing?), upload (any number, side by side), commit. Content waits in parts/,
// named by its digest, until commit moves it into place.
type folder struct {
	name   string
	layout layout

	mu      sync.Mutex // held by ask, commit and abandon
	pending *pending   // nil when no sync is on its way

	up      sync.Mutex // guards uploads, and writing for each digest
	uploads map[*upload]bool
}

// pending is a sync that was asked for and not committed.
type pending struct {
	entries []Entry
	known   []*record        // by entry: what is in place already; nil has to be put there
	shipped map[string]bool  // every path that was shipped before
	sizes   map[string]int64 // by digest (hex): all content that has to be in parts/
	arrived map[string]bool  // by digest (hex): what of it is there; guarded by folder.up
	same    bool             // everything is in place and nothing has to go
}

// parts is where content waits. What was there before the machine was last
// started is not trusted.
func (f *folder) parts() string {
	boot := sha256.Sum256([]byte(bootID()))
	return filepath.Join(f.layout.sync(f.name), "parts", fmt.Sprintf("%x", boot[:6]))
}

func (f *folder) part(hex string) string    { return filepath.Join(f.parts(), hex+".part") }
func (f *folder) content(hex string) string { return filepath.Join(f.parts(), hex) }

// ask finds out what the folder lacks. It reads the work folder and changes
// nothing in it.
func (f *folder) ask(ctx context.Context, entries []Entry) (SyncNeed, error) {
	if err := checkEntries(entries); err != nil {
		return SyncNeed{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endUploads()
	f.pending = nil
	for _, dir := range []string{f.layout.work(f.name), f.parts()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return SyncNeed{}, err
		}
	}
	root, err := os.OpenRoot(f.layout.work(f.name))
	if err != nil {
		return SyncNeed{}, err
	}
	defer root.Close()
	ix, err := readIndex(f.layout.sync(f.name))
	if err != nil {
		return SyncNeed{}, err
	}
	p := &pending{entries: entries, known: make([]*record, len(entries)), shipped: make(map[string]bool, len(ix.records)),
		sizes: make(map[string]int64), arrived: make(map[string]bool)}
	l := &looker{root: root, dir: f.layout.work(f.name), buf: make([]byte, copyBuffer), real: map[string]bool{".": true}}
	records := ix.byPath()
	for path := range records {
		p.shipped[path] = true
	}
	p.same = len(records) == len(entries)
	for i := range entries {
		if err := ctx.Err(); err != nil {
			return SyncNeed{}, err
		}
		e, have := &entries[i], records[entries[i].Path]
		known := l.look(e, have)
		p.known[i] = known
		p.same = p.same && have != nil && known != nil && !known.fresh && known.mode == e.mode()
	}
	need, err := f.missing(ctx, p, l, ix)
	if err != nil {
		return SyncNeed{}, err
	}
	f.pending = p
	return need, nil
}

// missing lists content that is neither in place nor in parts/ nor anywhere else
// in the folder; what is elsewhere in the folder is copied to parts/.
func (f *folder) missing(ctx context.Context, p *pending, l *looker, ix *index) (SyncNeed, error) {
	need := SyncNeed{Need: []Need{}}
	var elsewhere map[string]*record
	var bytes int64
	for i, e := range p.entries {
		if e.Digest == "" || p.known[i] != nil {
			continue
		}
		hex, _ := digestHex(e.Digest) // checked by checkEntries
		if size, listed := p.sizes[hex]; listed {
			if size != e.Size {
				return need, badRequest("%s is said to have both %d and %d bytes", e.Digest, size, e.Size)
			}
			continue
		}
		p.sizes[hex] = e.Size
		if info, err := os.Lstat(f.content(hex)); err == nil && info.Mode().IsRegular() && info.Size() == e.Size {
			p.arrived[hex] = true
			continue
		}
		if elsewhere == nil {
			elsewhere = make(map[string]*record)
			for j := range ix.records {
				elsewhere[ix.records[j].digest] = &ix.records[j]
			}
		}
		if have := elsewhere[e.Digest]; have != nil || e.Size == 0 {
			found, err := f.copyHere(ctx, l, have, e, hex)
			if err != nil {
				return need, err
			}
			if found {
				p.arrived[hex] = true
				continue
			}
		}
		n := Need{Index: i}
		if info, err := os.Lstat(f.part(hex)); err == nil && info.Mode().IsRegular() && info.Size() <= e.Size {
			n.Offset = info.Size()
		}
		bytes += e.Size - n.Offset
		need.Need = append(need.Need, n)
	}
	return need, f.checkRoom(bytes)
}

// copyHere puts content that lies in the work folder under another path into
// parts/. It reports false when it is not there any more.
func (f *folder) copyHere(ctx context.Context, l *looker, have *record, e Entry, hex string) (bool, error) {
	var src io.Reader = strings.NewReader("")
	if have != nil {
		if !l.realParents(have.path) {
			return false, nil
		}
		file, err := openRegular(l.root, have.path)
		if err != nil {
			return false, nil
		}
		defer file.Close()
		if info, err := file.Stat(); err != nil || info.Size() != e.Size {
			return false, nil
		}
		src = file
	}
	w := &partWriter{f: f, hex: hex, size: e.Size, buf: l.buf}
	err := w.write(ctx, 0, src)
	if e := (*Error)(nil); errors.As(err, &e) {
		return false, nil // it has been changed since it was shipped
	}
	return err == nil, err
}

// checkRoom refuses early what the disk cannot hold.
func (f *folder) checkRoom(bytes int64) error {
	var disk unix.Statfs_t
	if bytes == 0 || unix.Statfs(f.parts(), &disk) != nil {
		return nil
	}
	free := int64(disk.Bavail) * int64(disk.Bsize)
	if bytes <= free {
		return nil
	}
	return fmt.Errorf("%d MiB are to come and %d MiB are free: %w", bytes>>20, free>>20, unix.ENOSPC)
}

// looker compares entries with what is in the work folder.
type looker struct {
	root *os.Root
	dir  string
	buf  []byte
	real map[string]bool // folders known to be no links
}

// realParents reports whether every folder on the way to p is one, and none a
// link.
func (l *looker) realParents(p string) bool {
	dir := path.Dir(p)
	known, ok := l.real[dir]
	if !ok {
		known = l.realParents(dir)
		if known {
			info, err := os.Lstat(filepath.Join(l.dir, dir))
			known = err == nil && info.IsDir()
		}
		l.real[dir] = known
	}
	return known
}

// look gives the record of an entry whose content is in place, nil when it is
// not. Permissions do not count: commit sets them.
func (l *looker) look(e *Entry, have *record) *record {
	if !l.realParents(e.Path) {
		return nil
	}
	// The path is looked at only; what is read or written goes through the root.
	info, err := os.Lstat(filepath.Join(l.dir, e.Path))
	if err != nil {
		return nil
	}
	found := record{path: e.Path, digest: e.Digest, link: e.Link, dir: e.Dir, mode: info.Mode().Perm()}
	switch {
	case e.Dir:
		if info.IsDir() {
			return &found
		}
	case e.Link != "":
		found.mode = e.mode() // a link has none of its own
		if target, err := l.root.Readlink(e.Path); err == nil && target == e.Link {
			return &found
		}
	case info.Mode().IsRegular() && info.Size() == e.Size:
		found.stamp = stampOf(info)
		if have != nil && have.digest == e.Digest && have.proves(found.stamp) {
			found.seen = have.seen
			return &found
		}
		found.seen, found.fresh = time.Now().UnixNano(), true
		if digest, size, err := hashFile(l.root, e.Path, l.buf); err == nil && digest == e.Digest && size == e.Size {
			return &found
		}
	}
	return nil
}

// mode is the permissions that an entry is to have in place.
func (e *Entry) mode() fs.FileMode {
	if e.Dir {
		return fs.FileMode(e.Mode) | 0o700 // or nothing more could be put there
	}
	return fs.FileMode(e.Mode)
}

// abandon ends the sync that is on its way, if there is one: the folder is about
// to change.
func (f *folder) abandon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endUploads()
	f.pending = nil
}

// giveUp ends the sync that is on its way and removes what waits in parts/: the
// disk is full and the room is needed.
func (f *folder) giveUp() error {
	f.abandon()
	return f.dropParts()
}

func (f *folder) dropParts() error {
	return os.RemoveAll(filepath.Join(f.layout.sync(f.name), "parts"))
}
