package terraform

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// killStrays kills the processes that carry the mark in their environment: what
// a Terraform that had to be killed has started and left behind, its providers
// above all.
func killStrays(mark string) {
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return
	}
	want := []byte(mark)
	for _, path := range environs {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		// The descriptor holds on to the process: its number may be another's by now.
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if environ, err := os.ReadFile(path); err == nil {
			for kv := range bytes.SplitSeq(environ, []byte{0}) {
				if bytes.Equal(kv, want) {
					unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
					break
				}
			}
		}
		unix.Close(fd)
	}
}
