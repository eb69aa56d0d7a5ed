package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What needs root on a machine is a verb of its own, which the agent runs in
// itself when it is root, and through sudo when it is not:
//
//	levin-agent root stage-host-key       reads a private key in OpenSSH's form from stdin
//	levin-agent root use-host-key PUBLIC  makes the SSH server show it
//	levin-agent root expire SECONDS       powers the machine off after so long, and not earlier
//
// A local machine is nobody's but its user's: nothing on it needs root.

// rootLimit bounds one of these.
const rootLimit = 30 * time.Second

// The two names that the timer of a machine's expiry has by turns: the machine's
// user data makes the first one when it boots.
const (
	expiryUnit      = "levin-expiry"
	expiryUnitMoved = "levin-expiry-moved"
)

// asRoot runs a verb as root.
func asRoot(ctx context.Context, stdin []byte, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, rootLimit)
	defer cancel()
	if os.Geteuid() == 0 {
		return newHost().verb(ctx, args, bytes.NewReader(stdin))
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the agent's own binary: %w", err)
	}
	return output(ctx, stdin, "sudo", append([]string{"-n", self, "root"}, args...)...)
}

// output runs a command; what it prints becomes part of the error.
func output(ctx context.Context, stdin []byte, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.WaitDelay = time.Second
	said, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w: %.500s", strings.Join(append([]string{filepath.Base(name)}, args...), " "), err, bytes.TrimSpace(said))
}

// host is the machine as root sees it.
type host struct {
	key string // the private half of its SSH server's ed25519 host key
}

func newHost() host { return host{key: "/etc/ssh/ssh_host_ed25519_key"} }

// staged is where the next host key waits.
func (h host) staged() string { return h.key + ".levin" }

func (h host) verb(ctx context.Context, args []string, stdin io.Reader) error {
	switch {
	case len(args) == 1 && args[0] == "stage-host-key":
		return h.stageKey(stdin)
	case len(args) == 2 && args[0] == "use-host-key":
		return h.useKey(ctx, args[1])
	case len(args) == 2 && args[0] == "expire":
		seconds, err := strconv.ParseInt(args[1], 10, 32)
		if err != nil || seconds <= 0 {
			return fmt.Errorf("%q is no number of seconds", args[1])
		}
		return h.expire(ctx, seconds)
	}
	return fmt.Errorf("unknown verb %q", args)
}

func (h host) stageKey(stdin io.Reader) error {
	private, err := io.ReadAll(io.LimitReader(stdin, 64<<10))
	if err != nil {
		return err
	}
	return writeWhole(h.staged(), private)
}

// useKey puts the key that waits in place of the one before, and has the SSH
// server read it. Doing it again is no error.
func (h host) useKey(ctx context.Context, public string) error {
	if err := ignoreGone(os.Rename(h.staged(), h.key)); err != nil {
		return err
	}
	tmp := h.key + ".pub.levin"
	if err := os.WriteFile(tmp, []byte(public+"\n"), 0o644); err != nil {
		return err
	}
	if err := os.Rename(tmp, h.key+".pub"); err != nil {
		return err
	}
	// Debian and its kin call the service ssh, the others sshd.
	var failed []error
	for _, service := range []string{"ssh", "sshd"} {
		err := output(ctx, nil, "systemctl", "reload", service)
		if err == nil {
			return nil
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// expire moves the timer that powers the machine off. The new one is armed
// before the old one is stopped, so that there always is one; they have two names
// for that. Where both are armed, an earlier move was cut short.
func (h host) expire(ctx context.Context, seconds int64) error {
	armed := func(unit string) bool {
		return exec.CommandContext(ctx, "systemctl", "is-active", "--quiet", unit+".timer").Run() == nil
	}
	stop := func(unit string) error { return output(ctx, nil, "systemctl", "stop", unit+".timer") }
	old, next := expiryUnit, expiryUnitMoved
	oldArmed := armed(old)
	if armed(next) {
		if oldArmed {
			if err := stop(old); err != nil {
				return err
			}
		}
		old, next, oldArmed = next, old, true
	}
	// What is left of a unit that failed would be in the way.
	_ = exec.CommandContext(ctx, "systemctl", "reset-failed", next+".timer", next+".service").Run()
	err := output(ctx, nil, "systemd-run", "--unit="+next, "--collect", fmt.Sprintf("--on-active=%ds", seconds), "systemctl", "poweroff")
	if err == nil && oldArmed {
		err = stop(old)
	}
	return err
}

// localMachine gives the folder of the local machine that the agent serves, "" when it
// serves a real one.
func localMachine() string { return os.Getenv("LEVIN_MACHINE_DIR") }

// sudo is a command line as root runs it.
func sudo(args ...string) []string {
	if os.Geteuid() == 0 {
		return args
	}
	return slices.Concat([]string{"sudo", "-n"}, args)
}
