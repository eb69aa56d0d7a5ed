// Package machine is a local machine: a detached process with a folder of its
// own and an SSH server on loopback. It is linked into the agent's binary (verb
// machine) and used by the local cloud to start and end such processes.
//
// The folder holds
//
//	lock         held with flock for as long as the machine lives; its process id
//	ready.json   Info, from the moment the machine answers until it begins to end
//	hostkey      the SSH host key, when it was given: OpenSSH PEM; read again on SIGHUP
//	machine.log  what the process had to say
//	home/        HOME of everything that runs there
//	tmp/         TMPDIR
//
// Two locks keep the life of a machine in order. The lock file says that the
// machine lives: it is locked before the process is spawned and handed down to
// it, so there is no moment at which a machine exists unlocked. The folder itself
// is locked by whoever starts or stops the machine, so that these never overlap.
//
// It imports little on purpose: it is part of a program that must stay small.
package machine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"
)

// Names inside a machine's folder.
const (
	lockName  = "lock"
	readyName = "ready.json"
	keyName   = "hostkey"
	logName   = "machine.log"
	homeName  = "home"
	tmpName   = "tmp"
)

// Variables that every process on a machine has. The second one marks processes
// as the machine's own, so that they can be found when the machine is dead.
const (
	envPID = "LEVIN_MACHINE_PID"
	envDir = "LEVIN_MACHINE_DIR"
)

// Info says how a machine is reached.
type Info struct {
	Name    string `json:"name"`
	Run     string `json:"run,omitempty"`
	Address string `json:"address"`
	Port    int    `json:"port"`
	User    string `json:"user"`
	HostKey string `json:"host_key"` // authorized_keys form
	PID     int    `json:"pid"`
}

// Options describe the machine to start.
type Options struct {
	Dir   string        // its folder; made if needed, removed when the machine ends
	Name  string        // for people
	Run   string        // the run it belongs to, for people
	Key   string        // the only client key that is let in, authorized_keys form
	Lease time.Duration // how long it lives without a connection and without a process

	// HostKey is the private SSH host key, OpenSSH PEM; empty makes a fresh one. It
	// goes through a file of the folder, which only this user can read.
	HostKey string
	Listen  string   // address and port of its SSH server, on loopback; empty: 127.0.0.1 and any port
	Env     []string // further variables of every process on it
	// Tied machines end as soon as the process that started them is gone. (Known on
	// Linux only.)
	Tied bool

	Agent string // path of the levin-agent binary, which is the machine's process
	// AgentDigest is the SHA-256 of Agent in hex. When it is set, the binary is also
	// placed where the launcher looks for it, as a machine image would have it.
	AgentDigest string
}

// Read gives the Info of the machine that lives in dir. When none lives there,
// or it does not answer yet or is ending, the error wraps fs.ErrNotExist.
func Read(dir string) (Info, error) {
	var info Info
	if !Alive(dir) {
		return info, &os.PathError{Op: "machine", Path: dir, Err: os.ErrNotExist}
	}
	b, err := os.ReadFile(filepath.Join(dir, readyName))
	if err != nil {
		return info, err
	}
	err = json.Unmarshal(b, &info)
	return info, err
}
