package launcher

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"
)

// fileID is what a file looks like from outside. As long as it stays the same, so
// does the content, provided that the file is not younger than the clock is fine.
type fileID struct {
	size, modified, changed int64 // bytes; Unix nanoseconds
	inode                   uint64
}

func identify(info fs.FileInfo) fileID {
	id := fileID{size: info.Size(), modified: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.inode, id.changed = uint64(st.Ino), changeTime(st)
	}
	return id
}

// settled is how long a file must have been left alone before its digest is
// remembered: a change within the clock's step would not show.
const settled = 2 * time.Second

// forgetAfter is how long a digest that nobody asks for is kept.
const forgetAfter = 30 // days

type known struct {
	id     fileID
	digest [sha256.Size]byte
	day    int64 // when it was last asked for, in days since 1970
}

// digestAll puts the digest of every file into its item. Those that the file at
// cache knows are not read.
func digestAll(ctx context.Context, items []item, cache string) error {
	m := loadDigests(cache)
	missing := m.fill(items)
	if len(missing) == 0 {
		m.save(cache)
		return nil
	}
	if cache != "" {
		// Many sessions ship the same folder at the same moment: let one of them read it.
		if err := os.MkdirAll(filepath.Dir(cache), 0o755); err != nil {
			return fmt.Errorf("making the folder for digests: %w", err)
		}
		lock := flock.New(cache + ".lock")
		if _, err := lock.TryLockContext(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("waiting for the file of digests: %w", err)
		}
		defer lock.Unlock()
		m = loadDigests(cache)
		missing = m.fill(items)
	}
	if err := m.read(ctx, items, missing); err != nil {
		return err
	}
	m.save(cache)
	return nil
}

// digests remembers digests of files by their absolute path.
type digests struct {
	mu      sync.Mutex
	files   map[string]known
	today   int64
	changed bool
}

// fill gives the items that are known their digests, and the indexes of the rest.
func (m *digests) fill(items []item) (missing []int) {
	for i := range items {
		it := &items[i]
		if it.entry.Dir || it.entry.Link != "" {
			continue
		}
		key := it.local()
		k, ok := m.files[key]
		if !ok || k.id != it.id {
			missing = append(missing, i)
			continue
		}
		it.entry.Digest = formatDigest(k.digest[:])
		if k.day < m.today-forgetAfter/4 {
			k.day = m.today
			m.files[key] = k
			m.changed = true
		}
	}
	return missing
}

// read computes the digests of the missing items, one file a core.
func (m *digests) read(ctx context.Context, items []item, missing []int) error {
	group, ctx := errgroup.WithContext(ctx)
	workers := min(runtime.GOMAXPROCS(0), len(missing))
	next := make(chan int)
	group.Go(func() error {
		defer close(next)
		for _, i := range missing {
			select {
			case next <- i:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for range workers {
		group.Go(func() error {
			buf := make([]byte, 256<<10)
			for i := range next {
				if err := m.readOne(ctx, &items[i], buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (m *digests) readOne(ctx context.Context, it *item, buf []byte) error {
	f, err := it.open()
	if errors.Is(err, fs.ErrNotExist) {
		return &errChanged{it.local()}
	}
	if err != nil {
		return fmt.Errorf("reading a file to ship: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	var size int64
	for {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		size += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading a file to ship: %w", err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	sum := h.Sum(nil)
	it.entry.Size, it.entry.Digest = size, formatDigest(sum)
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("reading a file to ship: %w", err)
	}
	id := identify(info)
	youngest := max(id.modified, id.changed)
	if id != it.id || id.size != size || time.Since(time.Unix(0, youngest)) < settled {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[it.local()] = known{id: id, digest: [sha256.Size]byte(sum), day: m.today}
	m.changed = true
	return nil
}

func (it *item) local() string {
	return filepath.Join(it.root.Name(), filepath.FromSlash(it.name))
}

// open opens the item's file. It never leaves the tree, whatever has become a
// link since the walk.
func (it *item) open() (*os.File, error) {
	return it.root.Open(filepath.FromSlash(it.name))
}

func formatDigest(sum []byte) string { return "sha256:" + hex.EncodeToString(sum) }

// digestsMark heads the file; the number changes with its form.
const digestsMark = "levin digests 1\n"

// loadDigests reads the file. One that is missing or damaged is an empty one:
// everything in it can be computed again.
func loadDigests(name string) *digests {
	m := &digests{files: map[string]known{}, today: time.Now().Unix() / 86400}
	if name == "" {
		return m
	}
	data, err := os.ReadFile(name)
	if err == nil {
		m.files = parseDigests(data)
	}
	return m
}

func parseDigests(data []byte) map[string]known {
	files := map[string]known{}
	if len(data) < len(digestsMark)+sha256.Size || string(data[:len(digestsMark)]) != digestsMark {
		return files
	}
	body, sum := data[len(digestsMark):len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if sha256.Sum256(body) != [sha256.Size]byte(sum) {
		return files
	}
	for len(body) > 0 {
		var k known
		n, used := binary.Uvarint(body)
		if used <= 0 || n > uint64(len(body)-used) {
			return files
		}
		name := string(body[used : used+int(n)])
		body = body[used+int(n):]
		for _, v := range []*int64{&k.id.size, &k.id.modified, &k.id.changed, &k.day} {
			x, used := binary.Varint(body)
			if used <= 0 {
				return files
			}
			*v, body = x, body[used:]
		}
		inode, used := binary.Uvarint(body)
		if used <= 0 || len(body)-used < sha256.Size {
			return files
		}
		k.id.inode = inode
		copy(k.digest[:], body[used:])
		body = body[used+sha256.Size:]
		files[name] = k
	}
	return files
}

// save writes the file if something changed. A file that cannot be written costs
// time at the next ship and nothing else; one that is cut by a crash is noticed
// when it is read.
func (m *digests) save(name string) {
	if name == "" || !m.changed {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".new-*")
	if err != nil {
		return
	}
	defer os.Remove(f.Name())
	w := bufio.NewWriterSize(f, 64<<10)
	if errors.Join(m.encode(w), w.Flush(), f.Close()) == nil {
		_ = os.Rename(f.Name(), name)
	}
}

func (m *digests) encode(w io.Writer) error {
	sum := sha256.New()
	if _, err := io.WriteString(w, digestsMark); err != nil {
		return err
	}
	var rec []byte
	for name, k := range m.files {
		if k.day < m.today-forgetAfter {
			continue
		}
		rec = binary.AppendUvarint(rec[:0], uint64(len(name)))
		rec = append(rec, name...)
		for _, v := range []int64{k.id.size, k.id.modified, k.id.changed, k.day} {
			rec = binary.AppendVarint(rec, v)
		}
		rec = binary.AppendUvarint(rec, k.id.inode)
		rec = append(rec, k.digest[:]...)
		sum.Write(rec)
		if _, err := w.Write(rec); err != nil {
			return err
		}
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}
