package agent

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// racyWindow is how close to its check a file may have been changed for its
// times to prove nothing: file systems stamp with the clock of the last tick.
const racyWindow = 20 * time.Millisecond

// index is what is known about a work folder: what was shipped there, and how
// each file looked when its content was last known. It lets an unchanged folder
// be recognised by looking at its files, not into them.
type index struct {
	boot     string // bootID when it was written
	manifest string // digest of the manifest that the folder holds; "" while it is not known to hold one
	records  []record
}

// record is one shipped path. A file without a stamp has to be hashed.
type record struct {
	path   string
	digest string
	link   string
	dir    bool
	stamp  stamp
	seen   int64       // when the stamp was taken, Unix ns
	want   fs.FileMode // permissions that it was given; of no meaning for a link

	mode  fs.FileMode // as found just now; not kept
	fresh bool        // found out just now: the index on disk does not have it
}

// stamp is what changes when a file's content does.
type stamp struct {
	size  int64
	mtime int64 // Unix ns
	ctime int64 // Unix ns
	inode uint64
}

// proves reports whether a file that looks like now still has the content that
// the record says.
func (r *record) proves(now stamp) bool {
	return r.stamp == now && r.seen-max(now.ctime, now.mtime) > int64(racyWindow)
}

func indexPath(syncDir string) string { return filepath.Join(syncDir, "index") }

// readIndex gives the folder's index; none, or one that cannot be understood, is
// an empty one. After a restart of the machine no stamp proves anything: content
// may have been lost that was only in the page cache.
func readIndex(syncDir string) (*index, error) {
	ix := &index{}
	data, err := os.ReadFile(indexPath(syncDir))
	if ignoreGone(err) != nil {
		return nil, err
	}
	if ix.unmarshal(data) != nil {
		ix = &index{}
	}
	if boot := bootID(); ix.boot != boot {
		ix.boot, ix.manifest = boot, ""
		for i := range ix.records {
			ix.records[i].stamp, ix.records[i].seen = stamp{}, 0
		}
	}
	return ix, nil
}

func (ix *index) write(syncDir string) error {
	if err := os.MkdirAll(syncDir, 0o700); err != nil {
		return err
	}
	return writeWhole(indexPath(syncDir), ix.marshal())
}

func (ix *index) byPath() map[string]*record {
	m := make(map[string]*record, len(ix.records))
	for i := range ix.records {
		m[ix.records[i].path] = &ix.records[i]
	}
	return m
}

// On disk the index is not JSON: it is read at every sync, and decoding 10,000
// records as JSON would take longer than looking at the files. It is a version,
// then texts (length and bytes) and numbers, all numbers as varints.
const indexVersion = "levin index 2"

// recordSize is about how many bytes a file's record has on disk.
const recordSize = 100

func (ix *index) marshal() []byte {
	b := make([]byte, 0, 64+160*len(ix.records))
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	text(indexVersion)
	text(ix.boot)
	text(ix.manifest)
	for i := range ix.records {
		r := &ix.records[i]
		text(r.path)
		text(r.digest)
		text(r.link)
		var dir uint64
		if r.dir {
			dir = 1
		}
		for _, n := range [...]uint64{dir, uint64(r.stamp.size), uint64(r.stamp.mtime), uint64(r.stamp.ctime), r.stamp.inode, uint64(r.seen), uint64(r.want)} {
			b = binary.AppendUvarint(b, n)
		}
	}
	return b
}

var errIndex = errors.New("not an index")

func (ix *index) unmarshal(data []byte) error {
	all := string(data) // records share it
	rest := data
	ok := true
	number := func() uint64 {
		n, size := binary.Uvarint(rest)
		if size <= 0 {
			ok = false
			return 0
		}
		rest = rest[size:]
		return n
	}
	text := func() string {
		n := number()
		if !ok || n > uint64(len(rest)) {
			ok = false
			return ""
		}
		at := len(data) - len(rest)
		rest = rest[n:]
		return all[at : at+int(n)]
	}
	if text() != indexVersion {
		return errIndex
	}
	ix.boot, ix.manifest = text(), text()
	ix.records = make([]record, 0, len(data)/recordSize)
	for ok && len(rest) > 0 {
		r := record{path: text(), digest: text(), link: text(), dir: number() == 1}
		r.stamp = stamp{size: int64(number()), mtime: int64(number()), ctime: int64(number()), inode: number()}
		r.seen, r.want = int64(number()), fs.FileMode(number())
		ix.records = append(ix.records, r)
	}
	if !ok {
		return errIndex
	}
	return nil
}
