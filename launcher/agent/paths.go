package agent

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

const (
	maxPath   = 4096 - 256 // leaves room for where the folder lies
	maxName   = 255
	maxLabel  = 63
	permMask  = 0o777
	hashBytes = sha256.Size
)

// checkLabel refuses anything but a DNS label, so that a name is always one
// harmless path component.
func checkLabel(what, s string) error {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return badRequest("%s %q is not a DNS label", what, s)
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return badRequest("%s %q is not a DNS label", what, s)
		}
	}
	return nil
}

// digestHex gives the 64 hexadecimal digits of "sha256:<hex>".
func digestHex(d string) (string, error) {
	h, ok := strings.CutPrefix(d, "sha256:")
	if !ok || len(h) != 2*hashBytes || strings.Trim(h, "0123456789abcdef") != "" {
		return "", badRequest("%q is not a sha256 digest", d)
	}
	return h, nil
}

func digestOf(sum []byte) string { return "sha256:" + hex.EncodeToString(sum) }

// checkPath refuses every path that is not plainly inside its folder.
func checkPath(p string) error {
	switch {
	case p == "" || p == "." || len(p) > maxPath || strings.ContainsRune(p, 0):
		return badRequest("path %.100q is not usable", p)
	case path.IsAbs(p) || path.Clean(p) != p || !filepath.IsLocal(filepath.FromSlash(p)):
		return badRequest("path %.100q leaves its folder or is not clean", p)
	}
	for name := range strings.SplitSeq(p, "/") {
		if len(name) > maxName {
			return badRequest("path %.100q has a name that is too long", p)
		}
	}
	return nil
}

// linkInside reports whether a link at p with this target stays inside the
// folder. Only leading ".." are accepted: further in, they could climb out of
// what another link points to.
func linkInside(p, target string) bool {
	if target == "" || len(target) > maxPath || path.IsAbs(target) || strings.ContainsRune(target, 0) {
		return false
	}
	rest := target
	depth := strings.Count(p, "/")
	for rest == ".." || strings.HasPrefix(rest, "../") {
		if depth--; depth < 0 {
			return false
		}
		rest = strings.TrimPrefix(strings.TrimPrefix(rest, ".."), "/")
	}
	return !slices.Contains(strings.Split(rest, "/"), "..")
}

// checkEntries refuses a manifest that could not be, or that could make anything
// appear outside its folder.
func checkEntries(entries []Entry) error {
	kinds := make(map[string]bool, len(entries)) // path → is it a folder
	var total int64
	for i := range entries {
		e := &entries[i]
		if err := e.check(); err != nil {
			return err
		}
		if total > math.MaxInt64-e.Size {
			return badRequest("the sizes of the manifest add up to more than any disk holds")
		}
		total += e.Size
		key := foldCase(e.Path)
		if _, twice := kinds[key]; twice {
			return badRequest("path %.100q is there twice", e.Path)
		}
		kinds[key] = e.Dir
	}
	for i := range entries {
		for p := path.Dir(entries[i].Path); p != "."; p = path.Dir(p) {
			dir, listed := kinds[foldCase(p)]
			if listed && !dir {
				return badRequest("path %.100q goes through %.100q, which is no folder", entries[i].Path, p)
			}
		}
	}
	return nil
}

func (e *Entry) check() error {
	if err := checkPath(e.Path); err != nil {
		return err
	}
	if e.Mode&^permMask != 0 {
		return badRequest("mode %o of %.100q has more than permission bits", e.Mode, e.Path)
	}
	switch {
	case e.Dir && e.Link == "" && e.Digest == "" && e.Size == 0:
		return nil
	case !e.Dir && e.Link != "" && e.Digest == "" && e.Size == 0:
		if !linkInside(e.Path, e.Link) {
			return badRequest("link %.100q → %.100q points out of its folder", e.Path, e.Link)
		}
		return nil
	case !e.Dir && e.Link == "" && e.Size >= 0:
		_, err := digestHex(e.Digest)
		return err
	}
	return badRequest("entry %.100q is not one of file, link and folder", e.Path)
}

// foldCase makes names equal that a file system without case takes for one.
func foldCase(p string) string {
	if runtime.GOOS == "darwin" {
		return strings.ToLower(p)
	}
	return p
}

// ManifestDigest is the digest of a whole folder's entries, whatever their
// order: what SyncDone answers with.
func ManifestDigest(entries []Entry) string {
	byPath := func(a, b Entry) int { return strings.Compare(a.Path, b.Path) }
	if !slices.IsSortedFunc(entries, byPath) {
		entries = slices.Clone(entries)
		slices.SortFunc(entries, byPath)
	}
	h := sha256.New()
	var b []byte
	for i := range entries {
		e := &entries[i]
		b = b[:0]
		for _, text := range [...]string{e.Path, e.Digest, e.Link} {
			b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
		}
		b = binary.AppendUvarint(b, uint64(e.Mode))
		b = binary.AppendVarint(b, e.Size)
		h.Write(strconv.AppendBool(b, e.Dir))
	}
	return digestOf(h.Sum(nil))
}
