package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
)

// inputsDir is where a component finds what the components it needs produced.
const inputsDir = "inputs"

// clearBefore makes the work folder fit for another start: what matches the
// outputs or the checkpoint, and what lies in inputs/, goes, unless it was shipped.
func clearBefore(l layout, r StartRequest) error {
	root, err := os.OpenRoot(l.work(r.Folder))
	if err != nil {
		return fmt.Errorf("opening the work folder: %w", err)
	}
	defer root.Close()
	ix, err := readIndex(l.sync(r.Folder))
	if err != nil {
		return fmt.Errorf("reading what was shipped: %w", err)
	}
	shipped := ix.byPath()
	var dirs []string
	f := finder{root: root,
		dir: func(name string) { dirs = append(dirs, name) },
		file: func(name string, _ fs.FileInfo) error {
			if shipped[name] != nil {
				return nil
			}
			return removeIn(root, name)
		}}
	for _, pattern := range slices.Concat([]string{inputsDir}, r.Outputs, r.Checkpoint) {
		if err := f.find(pattern); err != nil {
			return fmt.Errorf("clearing %s: %w", pattern, err)
		}
	}
	// Folders that are empty now go too, the deepest first. Those that still hold
	// something stay, as do shipped ones.
	for _, dir := range slices.Backward(dirs) {
		if dir != "." && shipped[dir] == nil {
			_ = root.Remove(dir)
		}
	}
	return nil
}

// removeIn removes one file, also from a folder without write permission.
func removeIn(root *os.Root, name string) error {
	err := root.Remove(name)
	if errors.Is(err, fs.ErrPermission) && root.Chmod(path.Dir(name), 0o700) == nil {
		err = root.Remove(name)
	}
	return ignoreGone(err)
}
