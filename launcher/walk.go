package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher/agent"
)

// Tree is a part of what is shipped.
type Tree struct {
	Root   string   // a folder
	Files  []string // files and folders below Root, slash-separated; empty: all of it. A file that is named is shipped even when it is ignored
	At     string   // where Root lies in the work folder; "" is its top
	Ignore bool     // leave out what .gitignore and .levinignore say, also those of the Git repository that Root lies in
}

// item is one entry of a work folder and where it comes from.
type item struct {
	entry agent.Entry
	root  *os.Root // of its tree
	name  string   // below root, slash-separated
	id    fileID   // of a file, as it was seen
}

// sources holds the trees of one ship open. Close it.
type sources struct {
	items []item // sorted by path, each path once
	roots []*os.Root
}

func (s *sources) Close() {
	for _, r := range s.roots {
		r.Close()
	}
}

// walk lists what the trees hold. Where two trees have the same path the later
// tree counts. Files have no digest yet.
func walk(ctx context.Context, trees []Tree, warn func(string)) (*sources, error) {
	s := &sources{}
	byPath := map[string]item{}
	for _, t := range trees {
		if err := s.addTree(ctx, t, byPath, warn); err != nil {
			s.Close()
			return nil, err
		}
	}
	s.items = make([]item, 0, len(byPath))
	for _, it := range byPath {
		s.items = append(s.items, it)
	}
	slices.SortFunc(s.items, func(a, b item) int { return strings.Compare(a.entry.Path, b.entry.Path) })
	if err := s.check(byPath); err != nil {
		s.Close()
		return nil, err
	}
	s.items = slices.DeleteFunc(s.items, func(it item) bool { return it.entry.Dir && byPath[it.entry.Path].entry.Mode == notEmpty })
	return s, nil
}

// notEmpty marks, while trees are put together, a folder that something lies in.
const notEmpty = ^uint32(0)

// check refuses a file where another tree needs a folder, and marks folders that
// need no entry of their own.
func (s *sources) check(byPath map[string]item) error {
	for _, it := range s.items {
		for p := path.Dir(it.entry.Path); p != "."; p = path.Dir(p) {
			above, ok := byPath[p]
			if !ok {
				continue
			}
			if !above.entry.Dir {
				return &cluster.Failure{Kind: cluster.BadInput,
					What: fmt.Sprintf("%s would have to lie in %s, which is no folder", it.entry.Path, p)}
			}
			if above.entry.Mode == notEmpty {
				break // and so are the ones above it
			}
			above.entry.Mode = notEmpty
			byPath[p] = above
		}
	}
	return nil
}

func (s *sources) addTree(ctx context.Context, t Tree, byPath map[string]item, warn func(string)) error {
	dir, err := filepath.Abs(t.Root)
	if err != nil {
		return fmt.Errorf("finding a folder to ship: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("opening a folder to ship: %w", err)
	}
	s.roots = append(s.roots, root)
	if t.At != "" {
		if err := checkPath(t.At); err != nil {
			return &cluster.Failure{Kind: cluster.BadInput, What: "a folder cannot be shipped there", Err: err}
		}
	}
	w := &walker{ctx: ctx, dir: dir, root: root, at: t.At, byPath: byPath, warn: warn}
	rules, err := w.outerRules(t.Ignore)
	if err != nil {
		return err
	}
	files := t.Files
	if len(files) == 0 {
		files = []string{"."}
	}
	for _, name := range files {
		if err := w.named(name, rules); err != nil {
			return err
		}
	}
	return nil
}

// walker goes through one tree.
type walker struct {
	ctx    context.Context
	dir    string // of the tree, as the operating system knows it
	root   *os.Root
	at     string
	prefix string // of paths in rules: where the tree lies in its Git repository
	byPath map[string]item
	warn   func(string)
}

// outerRules are those of the folders above the tree, up to the top of the Git
// repository that it lies in.
func (w *walker) outerRules(ignore bool) (*ignorer, error) {
	if !ignore {
		return nil, nil
	}
	var above []string // from the tree outwards
	for dir := w.dir; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			above = nil // not in a repository
			break
		}
		above = append(above, filepath.Dir(dir))
	}
	rules := &ignorer{}
	for _, dir := range slices.Backward(above) {
		top := above[len(above)-1]
		var err error
		if rules, err = rules.enter(dir, relative(top, dir)); err != nil {
			return nil, err
		}
	}
	if len(above) > 0 {
		w.prefix = relative(above[len(above)-1], w.dir)
	}
	return rules, nil
}

// relative gives dir as a slash-separated path below top, "" for top itself.
func relative(top, dir string) string {
	rel, err := filepath.Rel(top, dir)
	if err != nil || rel == "." {
		return ""
	}
	return filepath.ToSlash(rel)
}

// named adds what the user named, and all that is in it.
func (w *walker) named(name string, rules *ignorer) error {
	name = path.Clean(name)
	if !fs.ValidPath(name) {
		return &cluster.Failure{Kind: cluster.BadInput, What: fmt.Sprintf("%q is not a path below the folder that is shipped", name)}
	}
	info, err := w.root.Lstat(filepath.FromSlash(name))
	if errors.Is(err, fs.ErrNotExist) {
		return &cluster.Failure{Kind: cluster.BadInput, What: fmt.Sprintf("there is no %s in %s to ship", name, w.dir)}
	}
	if err != nil {
		return fmt.Errorf("looking at %s in %s: %w", name, w.dir, err)
	}
	// The rules of the folders on the way count for what is in it.
	for dir := range prefixes(name) {
		if rules, err = rules.enter(w.local(dir), path.Join(w.prefix, dir)); err != nil {
			return err
		}
	}
	return w.add(name, info, rules)
}

// prefixes gives the folders above name, outermost first: "", "a", "a/b".
func prefixes(name string) func(func(string) bool) {
	return func(yield func(string) bool) {
		if name == "." || !yield("") {
			return
		}
		for i := range name {
			if name[i] == '/' && !yield(name[:i]) {
				return
			}
		}
	}
}

func (w *walker) local(name string) string { return filepath.Join(w.dir, filepath.FromSlash(name)) }

func (w *walker) add(name string, info fs.FileInfo, rules *ignorer) error {
	entry := agent.Entry{Path: path.Join(w.at, name), Mode: uint32(info.Mode().Perm())}
	switch info.Mode().Type() {
	case fs.ModeDir:
		if name != "." {
			entry.Dir = true
			w.put(item{entry: entry, root: w.root, name: name})
		}
		return w.folder(name, rules)
	case 0:
		entry.Size = info.Size()
		w.put(item{entry: entry, root: w.root, name: name, id: identify(info)})
	case fs.ModeSymlink:
		target, err := w.root.Readlink(filepath.FromSlash(name))
		if err != nil {
			return fmt.Errorf("reading the link %s: %w", w.local(name), err)
		}
		if entry.Link = filepath.ToSlash(target); !linkInside(name, entry.Link) {
			return &cluster.Failure{Kind: cluster.BadInput,
				What: fmt.Sprintf("%s is a symbolic link to %s, which is outside of what is shipped", w.local(name), target),
				Next: "Leave it out with a line in .levinignore, or put a copy in its place.",
			}
		}
		entry.Mode = 0o777 // links have no mode of their own
		w.put(item{entry: entry, root: w.root, name: name})
	default:
		w.warn(fmt.Sprintf("%s is not shipped: it is neither a file, a folder nor a link", w.local(name)))
	}
	return nil
}

func (w *walker) put(it item) { w.byPath[it.entry.Path] = it }

func (w *walker) folder(name string, rules *ignorer) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	inRules := path.Join(w.prefix, name)
	if inRules == "." {
		inRules = ""
	}
	dir := w.local(name)
	rules, err := rules.enter(dir, inRules)
	if err != nil {
		return err
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("reading a folder to ship: %w", err)
	}
	for _, d := range list {
		child := path.Join(name, d.Name())
		if d.Name() == ".git" || rules.ignores(path.Join(w.prefix, child), d.IsDir()) {
			continue
		}
		if d.Name() == "pyvenv.cfg" {
			w.warn(fmt.Sprintf("%s is a Python environment and is shipped; it seldom works on another machine: make it in setup, and put it into .levinignore", dir))
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was listed
		}
		if err != nil {
			return fmt.Errorf("looking at a file to ship: %w", err)
		}
		if err := w.add(child, info, rules); err != nil {
			return err
		}
	}
	return nil
}
