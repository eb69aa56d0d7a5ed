package local

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// lookAround finds out what this host has. What cannot be found out stays zero.
func lookAround(home string) hardware {
	h := hardware{cpus: float64(runtime.NumCPU()), disk: freeDisk(home), gpus: nvidia("/proc/driver/nvidia/gpus")}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		h.memory = wholeGiB(float64(info.Totalram) * float64(info.Unit))
	}
	return h
}
