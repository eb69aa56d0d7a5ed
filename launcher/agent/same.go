package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// same reports whether the folder holds exactly the manifest with this digest.
// It looks at every shipped file and into none: what only a look inside could
// tell is reported as not the same, and the sync that follows finds out. The
// caller keeps the folder free of work.
func (f *folder) same(digest string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ix, err := readIndex(f.layout.sync(f.name))
	if err != nil {
		return false, err
	}
	if ix.manifest == "" || ix.manifest != digest {
		return false, nil
	}
	dir, err := os.Open(f.layout.work(f.name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking at folder %s: %w", f.name, err)
	}
	defer dir.Close()
	l := &looker{dir: f.layout.work(f.name), real: map[string]bool{".": true}}
	for i := range ix.records {
		r := &ix.records[i]
		if !l.realParents(r.path) || !r.untouched(int(dir.Fd())) {
			return false, nil
		}
	}
	// As after a commit: a sync that was on its way has been overtaken.
	f.endUploads()
	f.pending = nil
	return true, f.dropParts()
}

// untouched reports whether what lies at the record's path in the folder dir is
// sure to be what was put there. The folders on the way are no links.
func (r *record) untouched(dir int) bool {
	var st unix.Stat_t
	if unix.Fstatat(dir, r.path, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	kind, mode := uint32(st.Mode)&unix.S_IFMT, fs.FileMode(st.Mode)&fs.ModePerm
	switch {
	case r.dir:
		return kind == unix.S_IFDIR && mode == r.want
	case r.link != "":
		buf := make([]byte, len(r.link)+1)
		n, err := unix.Readlinkat(dir, r.path, buf)
		return err == nil && string(buf[:n]) == r.link
	}
	now := stamp{size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(), inode: st.Ino}
	return kind == unix.S_IFREG && mode == r.want && r.proves(now)
}
