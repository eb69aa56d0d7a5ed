package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// powerOff ends the machine: the process that a local machine is, or else the
// whole host.
func powerOff() error {
	if text := os.Getenv("LEVIN_MACHINE_PID"); text != "" {
		pid, err := strconv.Atoi(text)
		if err != nil || pid <= 1 {
			return fmt.Errorf("ending the machine: LEVIN_MACHINE_PID is %q", text)
		}
		return syscall.Kill(pid, syscall.SIGTERM)
	}
	commands := [][]string{{"systemctl", "poweroff"}, {"shutdown", "-h", "now"}}
	if os.Geteuid() != 0 {
		for _, args := range slices.Clone(commands) {
			commands = append(commands, append([]string{"sudo", "-n"}, args...))
		}
	}
	var failed []error
	for _, args := range commands {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		cancel()
		if err == nil {
			return nil
		}
		failed = append(failed, fmt.Errorf("%v: %w: %s", args, err, out))
	}
	return fmt.Errorf("the machine could not be powered off: %w", errors.Join(failed...))
}
