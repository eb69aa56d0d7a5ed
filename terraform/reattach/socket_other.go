//go:build !linux

package reattach

import (
	"os"
	"path/filepath"
)

const maxSocketPath = 103 // bytes, without the closing zero

// shortPath gives a name for dir/name that fits a socket's address. A folder that
// is too deep is reached through a link in the folder for temporary files, which
// is removed by release.
func shortPath(dir, name string) (path string, release func(), err error) {
	path = filepath.Join(dir, name)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	short, err := os.MkdirTemp("", "levin")
	if err != nil {
		return "", nil, err
	}
	link := filepath.Join(short, "p")
	if err := os.Symlink(dir, link); err != nil {
		os.Remove(short)
		return "", nil, err
	}
	return filepath.Join(link, name), func() { os.RemoveAll(short) }, nil
}
