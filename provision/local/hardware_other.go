//go:build !linux

package local

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// lookAround finds out what this host has. What cannot be found out stays zero.
func lookAround(home string) hardware {
	h := hardware{cpus: float64(runtime.NumCPU()), disk: freeDisk(home)}
	if total, err := unix.SysctlUint64("hw.memsize"); err == nil {
		h.memory = wholeGiB(float64(total))
	}
	return h
}
