package reattach

import (
	"fmt"
	"os"
	"path/filepath"
)

const maxSocketPath = 107 // bytes, without the closing zero

// shortPath gives a name for dir/name that fits a socket's address. A folder that
// is too deep is reached through a descriptor, which stays open until release.
func shortPath(dir, name string) (path string, release func(), err error) {
	path = filepath.Join(dir, name)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	through := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
	return filepath.Join(through, name), func() { f.Close() }, nil
}
