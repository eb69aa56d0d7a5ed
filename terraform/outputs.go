package terraform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/levinrun/levin/cluster"
)

// machinesOutput is the one output that every module has.
const machinesOutput = "machines"

// DecodeMachines gives the output "machines" of a root. It is strict, because a
// misspelt host_key would be a host key that nobody checks: an attribute that is
// not part of the interface, or of another type, is an error. A null attribute is
// a zero one, a null machine is none, and a root without that output has no
// machines.
func DecodeMachines(o Outputs) (map[string]MachineOutput, error) {
	raw, ok := o[machinesOutput]
	if !ok {
		return map[string]MachineOutput{}, nil
	}
	var byName map[string]json.RawMessage
	if err := decodeStrict(raw, &byName); err != nil {
		return nil, badOutput(err)
	}
	machines := make(map[string]MachineOutput, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		var m *MachineOutput
		if err := decodeStrict(byName[name], &m); err != nil {
			return nil, badOutput(fmt.Errorf("machine %q: %w", name, err))
		}
		if m == nil {
			continue
		}
		if m.Port < 0 || m.Port > 65535 {
			return nil, badOutput(fmt.Errorf("machine %q: port %d is not a TCP port", name, m.Port))
		}
		machines[name] = *m
	}
	return machines, nil
}

func badOutput(err error) error {
	return &cluster.Failure{
		Kind: cluster.BadRequest,
		What: "the module's output \"machines\" is not understood",
		Next: "it must map each machine's name to address, private_address, port, user, host_key and cloud_id",
		Err:  err,
	}
}

// decodeStrict decodes exactly one JSON value, of which every field is known.
func decodeStrict(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}
