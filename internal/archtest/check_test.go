package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// check gives every place in a module's tree that breaks a rule, and every rule
// that nothing in the tree has to do with any more, sorted.
func (h house) check(tree fs.FS) ([]string, error) {
	c := checker{house: h, rooms: map[string]bool{}, uses: map[[2]string]bool{}}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && skipped(tree, name):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		return c.file(name, text)
	})
	if err != nil {
		return nil, err
	}
	c.stale()
	slices.Sort(c.found)
	return slices.Compact(c.found), nil
}

// skipped says which folders hold no packages of this module.
func skipped(tree fs.FS, dir string) bool {
	base := path.Base(dir)
	if base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return true
	}
	_, err := fs.Stat(tree, path.Join(dir, "go.mod"))
	return err == nil
}

type checker struct {
	house
	found []string
	rooms map[string]bool    // rooms that hold a package
	uses  map[[2]string]bool // sealed folder, folder that imports it
}

func (c *checker) report(format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf(format, args...))
}

func (c *checker) file(name string, text []byte) error {
	for word, why := range c.banned {
		if bytes.Contains(text, []byte(word)) {
			c.report("%s: %s: %s", name, word, why)
		}
	}
	f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir := path.Dir(name)
	if pkg := strings.TrimSuffix(f.Name.Name, "_test"); slices.Contains(c.drawers, pkg) || slices.Contains(c.drawers, path.Base(dir)) {
		c.report("%s: package %s in %s: name it for what is inside", name, pkg, dir)
	}
	if !strings.HasSuffix(name, "_test.go") {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				c.report("%s: func init(): registries are values that are built in one visible place", name)
			}
		}
	}
	room, ok := longest(maps.Keys(c.house.rooms), dir)
	if !ok {
		c.report("%s: %s belongs to no room: add it to the rules", name, dir)
		return nil
	}
	c.rooms[room] = true
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if imported, ours := strings.CutPrefix(imported, c.module+"/"); ours {
			c.imports(name, room, imported)
		}
	}
	return nil
}

// imports checks one import of one of the module's own packages.
func (c *checker) imports(name, room, imported string) {
	if _, ok := longest(slices.Values(append([]string{room}, c.house.rooms[room]...)), imported); !ok {
		c.report("%s: %s may not import %s", name, room, imported)
	}
	for folder, allowed := range c.sealed {
		dir := path.Dir(name)
		if !within(folder, imported) || within(folder, dir) {
			continue
		}
		by, ok := longest(slices.Values(allowed), dir)
		if !ok {
			c.report("%s: only %s may import %s", name, strings.Join(allowed, " and "), folder)
			continue
		}
		c.uses[[2]string{folder, by}] = true
	}
}

// stale reports rules that nothing in the tree has to do with.
func (c *checker) stale() {
	for room := range c.house.rooms {
		if !c.rooms[room] {
			c.report("rules: there is no package in %s", room)
		}
	}
	for folder, allowed := range c.sealed {
		for _, by := range allowed {
			if !c.uses[[2]string{folder, by}] {
				c.report("rules: %s may import %s, and does not", by, folder)
			}
		}
	}
}

// longest gives the longest folder that dir lies within.
func longest(folders iter.Seq[string], dir string) (string, bool) {
	best, found := "", false
	for folder := range folders {
		if within(folder, dir) && (!found || len(folder) > len(best)) {
			best, found = folder, true
		}
	}
	return best, found
}

func within(folder, dir string) bool {
	return dir == folder || strings.HasPrefix(dir, folder+"/")
}
