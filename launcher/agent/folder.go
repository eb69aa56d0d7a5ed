package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The agent's folder for one Levin machine, <home>/machines/<machine>:
//
//	agent.sock          where serve answers (named relative to the folder: a
//	                    socket's path may have no more than about 100 bytes)
//	agent.lock          held by serve as long as it lives
//	start.lock          held by start while it looks and starts
//	agent.log           what serve has to say
//	hostkey.json        HostKey, once one was asked for
//	work/<folder>/      a work folder: nothing but shipped files and the work's own
//	sync/<folder>/      what is known about a work folder: index, setup, parts/
//	calls/<id>/         one attempt, see callDir
const (
	socketName    = "agent.sock"
	agentLockName = "agent.lock"
	startLockName = "start.lock"
	agentLogName  = "agent.log"
	hostKeyName   = "hostkey.json"
	workDirName   = "work"
	syncDirName   = "sync"
	callsDirName  = "calls"
)

// layout knows where everything lies. All paths are absolute.
type layout struct {
	machine string
	dir     string // <home>/machines/<machine>
}

func newLayout(home, machine string) (layout, error) {
	if err := checkLabel("machine", machine); err != nil {
		return layout{}, err
	}
	if home == "" {
		var err error
		if home, err = defaultHome(); err != nil {
			return layout{}, err
		}
	}
	home, err := filepath.Abs(home)
	if err != nil {
		return layout{}, fmt.Errorf("finding the agent's folder: %w", err)
	}
	return layout{machine: machine, dir: filepath.Join(home, "machines", machine)}, nil
}

// defaultHome is where the binary lies, when it lies at <home>/bin/<hex>, and
// ~/.levin-agent otherwise.
func defaultHome() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding the agent's own binary: %w", err)
	}
	bin := filepath.Dir(exe)
	if _, err := digestHex("sha256:" + filepath.Base(exe)); err == nil && filepath.Base(bin) == "bin" {
		return filepath.Dir(bin), nil
	}
	user, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the home folder: %w", err)
	}
	return filepath.Join(user, ".levin-agent"), nil
}

func (l layout) path(elem ...string) string {
	return filepath.Join(append([]string{l.dir}, elem...)...)
}

func (l layout) work(folder string) string { return l.path(workDirName, folder) }
func (l layout) sync(folder string) string { return l.path(syncDirName, folder) }
func (l layout) call(id string) callDir    { return callDir(l.path(callsDirName, id)) }

// callDir is the folder of one attempt:
//
//	lock         held by supervise as long as it lives
//	started.json phase and start, there once supervise has begun
//	events       fifo: supervise tells serve that something happened
//	control      fifo: serve tells supervise to stop the work
//	log          output of the work, redacted
//	result.json  $LEVIN_RESULT
//	exit.json    Exit, there once the attempt is over
//	reserve      room on the disk for exit.json
//	preempted.json until when the work may save what it has, once the machine is taken back
//	call.json    what serve has to know when it takes the attempt over
type callDir string

func (d callDir) file(name string) string { return filepath.Join(string(d), name) }
func (d callDir) lock() string            { return d.file("lock") }
func (d callDir) started() string         { return d.file("started.json") }
func (d callDir) events() string          { return d.file("events") }
func (d callDir) control() string         { return d.file("control") }
func (d callDir) log() string             { return d.file("log") }
func (d callDir) result() string          { return d.file("result.json") }
func (d callDir) exit() string            { return d.file("exit.json") }
func (d callDir) preempted() string       { return d.file("preempted.json") }
func (d callDir) reserve() string         { return d.file("reserve") }

// flock opens path and takes its lock. With wait false a lock that somebody
// holds is an errLocked at once. The lock belongs to the open file: a process
// that inherits the file holds it too.
func flock(path string, wait bool) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := flockFile(f, wait); err != nil {
			f.Close()
			return nil, err
		}
		// The one who held it may have removed it: then what we hold is nobody's.
		held, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(held, there) {
			return f, nil
		}
		f.Close()
		if err2 != nil {
			return nil, err2
		}
	}
}

var errLocked = errors.New("locked by another process")

func flockFile(f *os.File, wait bool) error {
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		err := unix.Flock(int(f.Fd()), how)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return errLocked
		default:
			return fmt.Errorf("locking %s: %w", f.Name(), err)
		}
	}
}

// writeJSON puts v at path as a whole or not at all.
func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeWhole(path, data)
}

func writeWhole(path string, data []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, path)
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// removeAll is os.RemoveAll that also gets through folders without write
// permission, which package managers like to make.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	// Links are not followed: WalkDir does not, and only folders are changed.
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && err == nil {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
