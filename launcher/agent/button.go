package agent

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
)

// button keeps the machine up when its power button is pressed. Google presses
// it at the moment it takes a machine back, and the system's answer, ending every
// service at once, would take the SSH server away before anything is saved. With
// the button held the machine goes on to the end of the notice. It is held only
// while there is something to save, so that a machine without work ends as fast
// as ever.
type button struct {
	mu    sync.Mutex
	stdin io.Closer // of what holds it; nil: not held
	wg    sync.WaitGroup
}

// keep holds the button or lets go of it, as wanted says.
func (b *button) keep(wanted func() bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if wanted() {
		b.hold()
	} else {
		b.release()
	}
}

// hold takes the button. Where there is no systemd, or no right to ask it, work
// that is taken back is lost: the agent's log says so.
func (b *button) hold() {
	if b.stdin != nil || localMachine() != "" {
		return
	}
	// It is held until cat ends, which it does with the agent at the latest.
	args := sudo("systemd-inhibit", "--what=handle-power-key", "--mode=block", "--who=levin-agent",
		"--why=work is saved when the machine is taken back", "cat")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "the power button cannot be held: %v\n", err)
		return
	}
	b.stdin = stdin
	b.wg.Go(func() {
		_ = cmd.Wait() // what it had to say is in the log
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.stdin == stdin {
			b.stdin = nil
		}
	})
}

// release lets go of the button.
func (b *button) release() {
	if b.stdin != nil {
		_ = b.stdin.Close()
		b.stdin = nil
	}
}

// end lets go of the button and waits for that.
func (b *button) end() {
	b.keep(func() bool { return false })
	b.wg.Wait()
}
