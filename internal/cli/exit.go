package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/internal/ui"
)

// Exit codes of every command (docs/cli.md lists them for users).
const (
	ExitOK           = 0
	ExitWorkFailed   = 1   // the user's program failed
	ExitBadInput     = 2   // bad usage, app file or settings
	ExitProvisioning = 3   // no machine could be had or reached
	ExitUnclean      = 4   // something could not be cleaned up
	ExitInterrupted  = 130 // Ctrl-C
)

// exitError carries an exit code whose reason has been shown already, or is not
// an error of Levin's (`levin ssh` passes on the remote command's code).
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit %d", e.code) }

// usageError marks an error of the command line itself.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitCode is the one table from errors to exit codes.
func exitCode(ctx context.Context, err error) int {
	var exit exitError
	var usage usageError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage):
		return ExitBadInput
	}
	switch cluster.KindOf(err) {
	case cluster.Unclean:
		return ExitUnclean
	case cluster.Interrupted:
		return ExitInterrupted
	case cluster.BadInput:
		return ExitBadInput
	case cluster.Provisioning, cluster.Capacity, cluster.Quota, cluster.Auth, cluster.BadRequest,
		cluster.Throttled, cluster.Price, cluster.Transient, cluster.Untrusted:
		return ExitProvisioning
	}
	if wasInterrupted(ctx) {
		return ExitInterrupted
	}
	return ExitWorkFailed
}

// report prints an error for people, or its twin for programs.
func report(w io.Writer, asJSON bool, err error, code int) {
	var exit exitError
	if errors.As(err, &exit) {
		return
	}
	if asJSON {
		json.NewEncoder(w).Encode(map[string]any{
			"type": "error", "error": err.Error(), "kind": cluster.KindOf(err), "exit_code": code,
		})
		return
	}
	fmt.Fprintln(w, "levin: "+ui.CleanLines(err.Error()))
}
