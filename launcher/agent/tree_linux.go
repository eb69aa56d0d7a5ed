package agent

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// treeIsComplete says that descendants finds every process of the work: with
// this process as subreaper none can leave the tree.
const treeIsComplete = true

// becomeSubreaper makes orphans among the descendants children of this process.
func becomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming the reaper of the work: %w", err)
	}
	return nil
}

// workAttr puts the work into a session of its own; it does not outlive the
// thread that starts it.
func workAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// killTree sends the signal to every living descendant of this process and says
// how many there were.
func killTree(sig syscall.Signal, _ []int) int {
	children := make(map[int][]int)
	for _, pid := range processes() {
		if parent, state := parentOf(pid); parent > 0 && state != 'Z' && state != 'X' {
			children[parent] = append(children[parent], pid)
		} else if parent > 0 {
			// A zombie's children have gone to the reaper, but threads of it may
			// still be their parent for a moment.
			children[parent] = append(children[parent], -pid)
		}
	}
	n := 0
	queue := []int{os.Getpid()}
	for len(queue) > 0 {
		for _, pid := range children[queue[0]] {
			if pid > 0 {
				if unix.Kill(pid, sig) == nil {
					n++
				}
			} else {
				pid = -pid
			}
			queue = append(queue, pid)
		}
		queue = queue[1:]
	}
	return n
}

// sweepMarked kills every process whose environment carries the entry, until
// there is none: what is left of an attempt whose supervisor was killed.
func sweepMarked(entry string) {
	for range 100 { // a fork bomb does not keep the agent for ever
		found := false
		for _, pid := range processes() {
			if pid == os.Getpid() {
				continue
			}
			environ, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
			if err != nil || !hasEntry(environ, entry) {
				continue
			}
			found = found || killAndWait(pid)
		}
		if !found {
			return
		}
	}
}

// killAndWait kills one process and waits until it is gone, for a second at the
// most. It reports whether there was one.
func killAndWait(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return unix.Kill(pid, unix.SIGKILL) == nil
	}
	defer unix.Close(fd)
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
		return false
	}
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000)
	return true
}

func hasEntry(environ []byte, entry string) bool {
	for field := range bytes.SplitSeq(environ, []byte{0}) {
		if string(field) == entry {
			return true
		}
	}
	return false
}

func processes() []int {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentOf reads the parent and the state of a process from its stat line,
// "pid (name) state ppid …", where the name may hold anything.
func parentOf(pid int) (parent int, state byte) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0
	}
	end := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[end+1:])
	if end < 0 || len(fields) < 2 {
		return 0, 0
	}
	parent, err = strconv.Atoi(string(fields[1]))
	if err != nil {
		return 0, 0
	}
	return parent, fields[0][0]
}

// selfCommand starts this very binary again, also when its file is gone.
func selfCommand(args ...string) (*exec.Cmd, error) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "levin-agent" // for people who look at the processes
	return cmd, nil
}

// bootID changes when the machine starts again: what the page cache had not
// written then may be lost without a trace in sizes and times.
func bootID() string { return readBootID() }

// readBootID reads it once: a process does not outlive its machine's boot.
var readBootID = sync.OnceValue(func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(id))
})
