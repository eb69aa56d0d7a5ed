//go:build !linux

package agent

import (
	"io/fs"
	"syscall"
)

// stampOf gives what changes when a file's content does.
func stampOf(info fs.FileInfo) stamp {
	s := stamp{size: info.Size(), mtime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode, s.ctime = st.Ino, st.Ctimespec.Nano()
	}
	return s
}
