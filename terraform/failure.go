package terraform

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/levinrun/levin/cluster"
)

// Diagnostic is one thing that Terraform, or a provider through it, has to say.
type Diagnostic struct {
	Severity string `json:"severity"` // "error" or "warning"
	Summary  string `json:"summary"`
	Detail   string `json:"detail"`
	// Address is the resource it is about, module.machines.levin_machine.machine["web"];
	// empty when Terraform does not say.
	Address string `json:"address"`
}

// Machine is the name of the machine the diagnostic is about, or "" when
// Terraform does not say: the key of the last for_each in the address.
func (d Diagnostic) Machine() string {
	_, key := splitKey(d.Address)
	return key
}

// String is one line: address, summary, detail.
func (d Diagnostic) String() string {
	var parts []string
	for _, s := range []string{d.Address, d.Summary, d.Detail} {
		if s = strings.Join(strings.Fields(s), " "); s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// ApplyError is a Terraform command that did not succeed: what it said, so that
// a cloud's table can tell what kind of failure it was.
type ApplyError struct {
	Command     string // "init", "apply", "destroy", "plan", "show", "state pull" or "state push"
	Diagnostics []Diagnostic
	Output      string // what it wrote that is not a diagnostic; may be empty
	Err         error  // how the process ended
}

// Error gives Terraform's own words; of errors only, if there are any.
func (e *ApplyError) Error() string {
	var lines []string
	for _, d := range e.Diagnostics {
		if d.Severity == "error" {
			lines = append(lines, d.String())
		}
	}
	switch {
	case len(lines) > 0:
		return strings.Join(lines, "\n")
	case e.Output != "":
		return e.Output
	case e.Err != nil:
		return strings.TrimSpace(e.Err.Error())
	}
	return e.Command + " failed"
}

// Unwrap gives how the process ended.
func (e *ApplyError) Unwrap() error { return e.Err }

// Failure makes of what a command said the error that a Runner returns. The
// context is the one the command ran under: when it has ended, so has the
// command because of it.
func (e *ApplyError) Failure(ctx context.Context, dir string) error {
	f := &cluster.Failure{
		Kind:  cluster.Provisioning,
		What:  fmt.Sprintf("terraform %s failed in %s", e.Command, dir),
		Words: e.Error(),
		Err:   e,
	}
	if err := ctx.Err(); err != nil {
		f.What = fmt.Sprintf("terraform %s was interrupted in %s", e.Command, dir)
		f.Err = errors.Join(err, e)
		if errors.Is(err, context.Canceled) {
			f.Kind = cluster.Interrupted
		}
	}
	return f
}
