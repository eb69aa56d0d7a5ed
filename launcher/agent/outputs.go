package agent

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/levinrun/levin/cluster"
)

// checkPattern refuses a path or glob that is malformed or leaves the folder.
func checkPattern(pattern string) error {
	clean := path.Clean(pattern)
	if clean != "." {
		if err := checkPath(clean); err != nil {
			return badRequest("output %.100q leaves the work folder or is not usable", pattern)
		}
	}
	for segment := range strings.SplitSeq(clean, "/") {
		if _, err := path.Match(segment, ""); err != nil {
			return badRequest("output %.100q is not a valid pattern", pattern)
		}
	}
	return nil
}

// found is one regular file or link that an output matched.
type found struct {
	path string
	info fs.FileInfo
	link string
}

// findOutputs gives what each pattern matches in the folder: regular files,
// links that stay inside, and all of that below a folder that is matched itself.
// "*" and the like stay within one name, "**" is any number of folders. Links
// are never followed. Patterns that matched nothing are missing.
func findOutputs(root *os.Root, patterns []string) (all []found, missing []string, err error) {
	seen := make(map[string]found)
	for _, pattern := range patterns {
		matched := false
		f := finder{root: root, file: func(name string, info fs.FileInfo) error {
			o, ok, err := asOutput(root, name, info)
			if ok {
				seen[name], matched = o, true
			}
			return err
		}}
		if err := f.find(pattern); err != nil {
			return nil, nil, err
		}
		if !matched {
			missing = append(missing, pattern)
		}
	}
	all = slices.SortedFunc(maps.Values(seen), func(a, b found) int { return strings.Compare(a.path, b.path) })
	return all, missing, nil
}

// asOutput says whether something can be an output. Sockets, devices and links
// that lead out of the folder cannot.
func asOutput(root *os.Root, name string, info fs.FileInfo) (found, bool, error) {
	switch info.Mode().Type() {
	case 0:
		return found{path: name, info: info}, true, nil
	case fs.ModeSymlink:
		target, err := root.Readlink(name)
		if err != nil {
			return found{}, false, ignoreGone(err)
		}
		return found{path: name, info: info, link: target}, linkInside(name, target), nil
	}
	return found{}, false, nil
}

// finder goes through a folder along patterns.
type finder struct {
	root *os.Root
	file func(name string, info fs.FileInfo) error // whatever is no folder and matched
	dir  func(name string)                         // a folder that matched as a whole, before its content; may be nil
}

func (f *finder) find(pattern string) error {
	var segments []string
	if clean := path.Clean(pattern); clean != "." {
		segments = strings.Split(clean, "/")
	}
	return f.match(".", segments)
}

// match goes through the folder dir with the segments that are left; none left
// means that dir itself was matched.
func (f *finder) match(dir string, segments []string) error {
	if len(segments) == 0 {
		return f.below(dir)
	}
	head, rest := segments[0], segments[1:]
	if head == "**" {
		for len(rest) > 0 && rest[0] == "**" {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			return f.below(dir)
		}
		if err := f.match(dir, rest); err != nil {
			return err
		}
		return f.each(dir, func(name string, info fs.FileInfo) error {
			if info.IsDir() {
				return f.match(name, segments)
			}
			return nil
		})
	}
	if !strings.ContainsAny(head, `*?[\`) {
		name := path.Join(dir, head)
		info, err := f.root.Lstat(name)
		if err != nil {
			return ignoreGone(err)
		}
		return f.matched(name, info, rest)
	}
	return f.each(dir, func(name string, info fs.FileInfo) error {
		if ok, _ := path.Match(head, path.Base(name)); !ok { // checked by checkPattern
			return nil
		}
		return f.matched(name, info, rest)
	})
}

func (f *finder) matched(name string, info fs.FileInfo, rest []string) error {
	switch {
	case info.IsDir():
		return f.match(name, rest)
	case len(rest) == 0:
		return f.file(name, info)
	}
	return nil
}

// below yields everything in a folder, at any depth.
func (f *finder) below(dir string) error {
	if f.dir != nil {
		f.dir(dir)
	}
	return f.each(dir, func(name string, info fs.FileInfo) error {
		if info.IsDir() {
			return f.below(name)
		}
		return f.file(name, info)
	})
}

// each calls do for every entry of a folder.
func (f *finder) each(dir string, do func(name string, info fs.FileInfo) error) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return ignoreGone(err)
	}
	infos, err := d.Readdir(-1)
	d.Close()
	if err != nil {
		return err
	}
	for _, info := range infos {
		if err := do(path.Join(dir, info.Name()), info); err != nil {
			return err
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// digester gives digest and size of a file as it is at this moment; buf is its to
// use.
type digester func(name string, buf []byte) (digest string, size int64, err error)

// describe makes artifacts of what was found, digesting each file once, two at a
// time.
func describe(outputs []found, digest digester) ([]cluster.Artifact, error) {
	artifacts := make([]cluster.Artifact, len(outputs))
	var (
		mu    sync.Mutex
		next  int
		first error
		hands sync.WaitGroup
	)
	take := func(err error) (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil && first == nil {
			first = err
		}
		next++
		return next - 1, first == nil && next <= len(outputs)
	}
	for range min(2, len(outputs)) {
		hands.Go(func() {
			buf := make([]byte, copyBuffer)
			for i, ok := take(nil); ok; {
				var err error
				artifacts[i], err = describeOne(outputs[i], digest, buf)
				i, ok = take(err)
			}
		})
	}
	hands.Wait()
	return artifacts, first
}

func describeOne(o found, digest digester, buf []byte) (cluster.Artifact, error) {
	a := cluster.Artifact{Path: o.path, Mode: uint32(o.info.Mode().Perm()), Link: o.link}
	if o.link != "" {
		sum := sha256.Sum256([]byte(o.link))
		a.Digest, a.Size = digestOf(sum[:]), int64(len(o.link))
		return a, nil
	}
	var err error
	if a.Digest, a.Size, err = digest(o.path, buf); err != nil {
		return a, fmt.Errorf("reading output %s: %w", o.path, err)
	}
	return a, nil
}

// hashFile gives digest and size of a regular file, as they are at this moment.
func hashFile(root *os.Root, name string, buf []byte) (digest string, size int64, err error) {
	f, err := openRegular(root, name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.CopyBuffer(h, struct{ io.Reader }{f}, buf)
	return digestOf(h.Sum(nil)), size, err
}

// openRegular opens a regular file and nothing else: a fifo would block, and a
// device do worse. Whatever name has become, it stays inside the root.
func openRegular(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
