package terraform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/levinrun/levin/cluster"
)

// Diagnostic is one error or warning of Terraform or a provider.
type Diagnostic struct {
	Severity string `json:"severity"` // "error" or "warning"
	Summary  string `json:"summary"`
	Detail   string `json:"detail"`
	// Address of the resource it is about: module.machines.levin_machine.machine["x"].
	Address string `json:"address"`
}

// ApplyError holds every error that Terraform reported.
type ApplyError struct {
	Diagnostics []Diagnostic // errors only, in Terraform's order
	Stderr      string       // what it wrote beside its JSON; may be empty
	Err         error        // how the process ended
}

// Error gives Terraform's words.
func (e *ApplyError) Error() string {
	var parts []string
	for _, d := range e.Diagnostics {
		text := d.Summary
		if d.Detail != "" {
			text += ": " + d.Detail
		}
		if d.Address != "" {
			text += " (" + d.Address + ")"
		}
		parts = append(parts, strings.TrimSpace(text))
	}
	if len(parts) == 0 && strings.TrimSpace(e.Stderr) != "" {
		parts = append(parts, strings.TrimSpace(e.Stderr))
	}
	if len(parts) == 0 {
		return e.Err.Error()
	}
	return strings.Join(parts, "\n")
}

// Unwrap gives how the process ended.
func (e *ApplyError) Unwrap() error { return e.Err }

// failure puts the error into words for people.
func (e *ApplyError) failure(doing, dir string) error {
	return &cluster.Failure{
		Kind: cluster.Provisioning, What: "Terraform could not " + doing, Words: e.Error(), Err: e,
		Next: "its root and state are in " + dir,
	}
}

// stream reads the JSON lines of `terraform apply -json` and `destroy -json`.
// Lines that are not JSON (the warning about a missing CLI configuration file)
// are left out.
type stream struct {
	rest        []byte
	outputs     Outputs
	diagnostics []Diagnostic
	progress    func(line string)
}

// Write takes a piece of the stream, with or without whole lines.
func (s *stream) Write(p []byte) (int, error) {
	s.rest = append(s.rest, p...)
	for {
		line, rest, ok := bytes.Cut(s.rest, []byte{'\n'})
		if !ok {
			return len(p), nil
		}
		s.line(line)
		s.rest = rest
	}
}

func (s *stream) line(line []byte) {
	var m struct {
		Type       string
		Message    string     `json:"@message"`
		Diagnostic Diagnostic `json:"diagnostic"`
		Outputs    map[string]struct {
			Value json.RawMessage
		} `json:"outputs"`
	}
	if json.Unmarshal(line, &m) != nil {
		return
	}
	switch m.Type {
	case "diagnostic":
		if m.Diagnostic.Severity == "error" {
			s.diagnostics = append(s.diagnostics, m.Diagnostic)
		}
	case "outputs":
		s.outputs = Outputs{}
		for name, o := range m.Outputs {
			if o.Value != nil { // the plan announces outputs without their values
				s.outputs[name] = o.Value
			}
		}
	}
	if s.progress != nil && m.Message != "" {
		s.progress(fmt.Sprintf("%s: %s", m.Type, m.Message))
	}
}
