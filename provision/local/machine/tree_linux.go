package machine

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of every descendant that loses its
// own: nothing that runs on the machine can slip out of its tree.
func adoptOrphans() error {
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
}

// signalAll sends sig to every descendant of this process.
func (p *processes) signalAll(sig syscall.Signal) {
	for _, pid := range descendants(os.Getpid()) {
		syscall.Kill(pid, sig)
	}
}

// descendants lists the processes below pid, parents first.
func descendants(pid int) []int {
	var all []int
	queue := []int{pid}
	for len(queue) > 0 {
		kids, ok := children(queue[0])
		if !ok {
			return descendantsByScan(pid)
		}
		queue = append(queue[1:], kids...)
		all = append(all, kids...)
	}
	return all
}

// children lists the children of one process from the kernel's own lists. ok is
// false on a kernel that does not keep them.
func children(pid int) (kids []int, ok bool) {
	tasks := "/proc/" + strconv.Itoa(pid) + "/task"
	threads, err := os.ReadDir(tasks)
	if err != nil {
		return nil, true // it is gone
	}
	for _, t := range threads {
		b, err := os.ReadFile(tasks + "/" + t.Name() + "/children")
		if err != nil {
			if _, gone := os.Stat(tasks + "/" + t.Name()); gone != nil {
				continue
			}
			return nil, false
		}
		for _, f := range strings.Fields(string(b)) {
			if kid, err := strconv.Atoi(f); err == nil {
				kids = append(kids, kid)
			}
		}
	}
	return kids, true
}

// descendantsByScan does the work of descendants on a kernel without lists of
// children.
func descendantsByScan(root int) []int {
	byParent := map[int][]int{}
	for _, pid := range allPIDs() {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue
		}
		// pid (name) state ppid …; the name may hold anything, also brackets.
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			byParent[parent] = append(byParent[parent], pid)
		}
	}
	var all []int
	queue := []int{root}
	for len(queue) > 0 {
		kids := byParent[queue[0]]
		queue = append(queue[1:], kids...)
		all = append(all, kids...)
	}
	return all
}

func allPIDs() []int {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// marked finds, in one pass over all processes, those that carry a machine's
// mark, by the folder of the machine. Only folders for which want answers true
// are kept. This process is never among them.
func marked(want func(dir string) bool) map[string][]int {
	found := map[string][]int{}
	for _, pid := range allPIDs() {
		if pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err != nil || !bytes.Contains(env, []byte(envDir+"=")) {
			continue
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			dir, ok := strings.CutPrefix(string(v), envDir+"=")
			if ok && want(dir) {
				found[dir] = append(found[dir], pid)
			}
		}
	}
	return found
}

// killMarked ends the processes that carry dir's mark and all that they started,
// until none is left. It is for machines whose own process is dead.
func killMarked(ctx context.Context, dir string) error {
	for {
		pids := marked(func(d string) bool { return d == dir })[dir]
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range slices.Clone(pids) {
			pids = append(pids, descendants(pid)...)
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		for _, pid := range pids {
			if err := waitExit(ctx, pid); err != nil {
				return err
			}
		}
	}
}

// waitExit waits until process pid, which may be anybody's child, has exited or
// ctx ends.
func waitExit(ctx context.Context, pid int) error {
	f, err := openProcess(pid)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer f.Close()
	return waitHandle(ctx, f)
}

// awaitStarter waits until the process that started this one is gone or ctx ends.
// As a parent that lives keeps its number, the handle is the parent's if that is
// still the parent once the handle is there.
func awaitStarter(ctx context.Context, pid int) {
	f, err := openProcess(pid)
	if err != nil {
		return
	}
	defer f.Close()
	if os.Getppid() == pid {
		waitHandle(ctx, f)
	}
}

// openProcess gives a handle on a process, readable once the process has exited.
func openProcess(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

func waitHandle(ctx context.Context, f *os.File) error {
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, _ := unix.Poll(fds, 0)
		return n > 0
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// awaitEnd waits until the machine with process id pid has exited or ctx ends.
func awaitEnd(ctx context.Context, _ *os.File, pid int) error { return waitExit(ctx, pid) }

// reapOne waits for a child's exit and takes its status, or gives up when ctx
// ends. Many such waits cost no threads.
func reapOne(ctx context.Context, child *os.Process) {
	if waitExit(ctx, child.Pid) == nil {
		child.Wait()
	} else {
		child.Release()
	}
}

// widen gives a pipe a larger buffer, so that bulk data needs fewer switches.
// Beyond what a user may have, the kernel refuses, and the pipe stays as it was.
func widen(f *os.File) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 256<<10) })
}
