package terraform

import (
	"bytes"
	"encoding/json"
	"fmt"
)

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
		s.diagnostics = append(s.diagnostics, m.Diagnostic)
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
