package agent

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// commit makes the folder what the pending sync asked for: everything shipped
// before and not any more goes, everything asked for is put in place.
func (f *folder) commit() (SyncDone, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pending
	if p == nil {
		return SyncDone{}, conflict("folder %s has no sync on its way: ask again", f.name)
	}
	f.endUploads() // of content that has arrived another way
	for hex := range p.sizes {
		if !p.arrived[hex] {
			return SyncDone{}, conflict("sha256:%s has not arrived", hex)
		}
	}
	done := SyncDone{Digest: ManifestDigest(p.entries)}
	if p.same {
		f.pending = nil
		return done, f.dropParts()
	}
	root, err := os.OpenRoot(f.layout.work(f.name))
	if err != nil {
		return SyncDone{}, err
	}
	defer root.Close()
	c := &committer{f: f, root: root, p: p, digest: done.Digest, dirs: map[string]bool{".": true}, wanted: make(map[string]bool, len(p.entries))}
	defer c.leave()
	if err := c.commit(); err != nil {
		return SyncDone{}, fmt.Errorf("putting folder %s in place: %w", f.name, err)
	}
	f.pending = nil
	return done, f.dropParts()
}

// committer changes one work folder. Whatever the manifest says, and whatever
// the work has made of the folder meanwhile, it goes through root, and never
// through a link.
type committer struct {
	f       *folder
	root    *os.Root
	p       *pending
	digest  string          // of the manifest
	wanted  map[string]bool // paths of the manifest, and the folders on their way
	dirs    map[string]bool // folders known to be there and to be no links
	left    map[string]int  // by digest (hex): entries that still take it from parts/
	changed bool            // the index has to be written

	here     string   // the folder that is open, "" when none is: files come folder by folder
	hereRoot *os.Root // the folder itself
	hereFile *os.File // the same, for its descriptor
}

func (c *committer) commit() error {
	for _, e := range c.p.entries {
		for p := e.Path; p != "." && !c.wanted[p]; p = path.Dir(p) {
			c.wanted[p] = true
		}
	}
	if err := c.announce(); err != nil {
		return err
	}
	c.removeGone()
	order := make([]int, len(c.p.entries))
	c.left = make(map[string]int)
	for i, e := range c.p.entries {
		order[i] = i
		if e.Digest != "" && c.p.known[i] == nil {
			hex, _ := digestHex(e.Digest)
			c.left[hex]++
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(c.p.entries[a].Path, c.p.entries[b].Path) })
	for _, i := range order {
		if err := c.place(i); err != nil {
			return fmt.Errorf("%s: %w", c.p.entries[i].Path, err)
		}
	}
	if !c.changed {
		return nil
	}
	return c.index(order).write(c.f.layout.sync(c.f.name))
}

// announce writes, before the folder changes, an index of all paths old and new:
// if this process is killed in the middle, the next sync still knows what was
// shipped.
func (c *committer) announce() error {
	ix := &index{boot: bootID()}
	for i, e := range c.p.entries {
		if known := c.p.known[i]; known != nil {
			ix.records = append(ix.records, *known)
			c.changed = c.changed || known.fresh
		} else {
			ix.records = append(ix.records, record{path: e.Path, dir: e.Dir, link: e.Link, digest: e.Digest})
			c.changed = true
		}
		if !c.p.shipped[e.Path] {
			c.changed = true
		}
	}
	for p := range c.p.shipped {
		if !c.wanted[p] {
			ix.records = append(ix.records, record{path: p})
			c.changed = true
		}
	}
	if !c.changed {
		return nil
	}
	return ix.write(c.f.layout.sync(c.f.name))
}

// index is what the folder holds once everything is in place. No work runs in
// the folder meanwhile, so that what was stamped at any time during the commit
// is as good as seen at its end.
func (c *committer) index(order []int) *index {
	ix := &index{boot: bootID(), manifest: c.digest, records: make([]record, 0, len(order))}
	now := time.Now().UnixNano()
	for _, i := range order {
		r := *c.p.known[i]
		if r.seen == 0 {
			r.seen = now
		}
		r.want = c.p.entries[i].mode()
		ix.records = append(ix.records, r)
	}
	return ix
}

// removeGone removes what was shipped and is not wanted any more, and the
// folders that this leaves empty. The work may have removed it, or put something
// else there: what cannot be removed is not shipped content.
func (c *committer) removeGone() {
	gone := make([]string, 0, len(c.p.shipped))
	for p := range c.p.shipped {
		if !c.wanted[p] {
			gone = append(gone, p)
		}
	}
	slices.SortFunc(gone, func(a, b string) int { return cmp.Compare(b, a) }) // what is inside before its folder
	for _, p := range gone {
		if !c.real(path.Dir(p)) {
			continue
		}
		_ = removeIn(c.root, p)
		for dir := path.Dir(p); dir != "." && !c.wanted[dir]; dir = path.Dir(dir) {
			if c.root.Remove(dir) != nil {
				break
			}
			delete(c.dirs, dir)
		}
	}
}

// real reports whether dir is a folder and reached without a link.
func (c *committer) real(dir string) bool {
	if c.dirs[dir] {
		return true
	}
	if !c.real(path.Dir(dir)) {
		return false
	}
	info, err := c.root.Lstat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	c.dirs[dir] = true
	return true
}

// makeDir makes dir a real folder, whatever is in its place.
func (c *committer) makeDir(dir string) error {
	if c.real(dir) {
		return nil
	}
	if err := c.makeDir(path.Dir(dir)); err != nil {
		return err
	}
	if err := c.clear(dir); err != nil {
		return err
	}
	if err := c.root.Mkdir(dir, 0o755); err != nil {
		return err
	}
	c.dirs[dir] = true
	return nil
}

// clear removes what is at p, a whole folder if need be.
func (c *committer) clear(p string) error {
	info, err := c.root.Lstat(p)
	switch {
	case err != nil:
		return ignoreGone(err)
	case info.IsDir():
		return removeTree(c.root, p)
	}
	return removeIn(c.root, p)
}

// place puts one entry where it belongs, with its permissions.
func (c *committer) place(i int) error {
	e, known := &c.p.entries[i], c.p.known[i]
	if known != nil && known.mode == e.mode() {
		return nil // no work has run since this was found
	}
	if err := c.makeDir(path.Dir(e.Path)); err != nil {
		return err
	}
	c.changed = true
	switch {
	case e.Dir:
		if err := c.makeDir(e.Path); err != nil {
			return err
		}
		c.p.known[i] = &record{path: e.Path, dir: true}
		return c.root.Chmod(e.Path, e.mode())
	case e.Link != "":
		if err := c.clear(e.Path); err != nil {
			return err
		}
		c.p.known[i] = &record{path: e.Path, link: e.Link}
		return c.root.Symlink(e.Link, e.Path)
	}
	if err := c.enter(path.Dir(e.Path)); err != nil {
		return err
	}
	name := path.Base(e.Path)
	var err error
	if known != nil {
		err = c.hereRoot.Chmod(name, e.mode())
	} else {
		err = c.move(e, name)
	}
	if err != nil {
		return err
	}
	info, err := c.hereRoot.Lstat(name)
	if err != nil {
		return err
	}
	c.p.known[i] = &record{path: e.Path, digest: e.Digest, stamp: stampOf(info)}
	return nil
}

// move takes a file from parts/ to its name in the folder that is open.
func (c *committer) move(e *Entry, name string) error {
	hex, err := digestHex(e.Digest)
	if err != nil {
		return err
	}
	src := c.f.content(hex)
	if c.left[hex]--; c.left[hex] > 0 { // another entry needs the same content
		if src, err = c.duplicate(src); err != nil {
			return err
		}
	}
	if err := os.Chmod(src, e.mode()); err != nil {
		return err
	}
	// A rename replaces a link instead of following it. It does not replace a
	// folder.
	rename := func() error { return unix.Renameat(unix.AT_FDCWD, src, int(c.hereFile.Fd()), name) }
	if err = rename(); err != nil {
		if cerr := c.clear(e.Path); cerr != nil {
			return errors.Join(err, cerr)
		}
		err = rename()
	}
	return err
}

// enter opens a folder that is known to be real.
func (c *committer) enter(dir string) (err error) {
	if c.here == dir {
		return nil
	}
	c.leave()
	if c.hereRoot, err = c.root.OpenRoot(dir); err != nil {
		return err
	}
	if c.hereFile, err = c.hereRoot.Open("."); err != nil {
		c.hereRoot.Close()
		return err
	}
	c.here = dir
	return nil
}

func (c *committer) leave() {
	if c.here != "" {
		c.hereFile.Close()
		c.hereRoot.Close()
		c.here = ""
	}
}

func (c *committer) duplicate(src string) (string, error) {
	in, err := os.Open(src)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.OpenFile(src+".copy", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	_, err = out.ReadFrom(in)
	if err := errors.Join(err, out.Close()); err != nil {
		os.Remove(out.Name())
		return "", err
	}
	return out.Name(), nil
}

// removeTree removes a folder, also through folders without write permission.
func removeTree(root *os.Root, dir string) error {
	err := root.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	f := finder{root: root, dir: func(name string) { _ = root.Chmod(name, 0o700) }, file: func(string, fs.FileInfo) error { return nil }}
	if err := f.below(dir); err != nil {
		return err
	}
	return root.RemoveAll(dir)
}
