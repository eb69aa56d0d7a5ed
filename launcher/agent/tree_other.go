//go:build !linux

package agent

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// treeIsComplete is false: there is no subreaper, only process groups.
const treeIsComplete = false

func becomeSubreaper() error { return nil }

// workAttr puts the work into a session of its own.
func workAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// killTree sends the signal to the process groups of the work and says how many
// there were.
func killTree(sig syscall.Signal, groups []int) int {
	n := 0
	for _, group := range groups {
		if unix.Kill(-group, sig) == nil {
			n++
		}
	}
	return n
}

// sweepMarked cannot read the environment of other processes here.
func sweepMarked(string) {}

// selfCommand starts this very binary again.
func selfCommand(args ...string) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding the agent's own binary: %w", err)
	}
	return exec.Command(exe, args...), nil
}

// bootID changes when the machine starts again.
func bootID() string {
	boot, err := unix.SysctlTimeval("kern.boottime")
	if err != nil {
		return ""
	}
	return fmt.Sprint(boot.Sec)
}
