package terraform

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// stateFile is where Terraform's local backend keeps a root's state.
const stateFile = "terraform.tfstate"

// DecodeMachines reads the output "machines" of a root: one MachineOutput by
// machine name. A root without that output has no machines; null fields are
// empty ones.
func DecodeMachines(o Outputs) (map[string]MachineOutput, error) {
	raw, ok := o["machines"]
	if !ok {
		return map[string]MachineOutput{}, nil
	}
	var machines map[string]*MachineOutput
	if err := json.Unmarshal(raw, &machines); err != nil {
		return nil, fmt.Errorf("the module's output \"machines\" is not a map of machines: %w", err)
	}
	decoded := map[string]MachineOutput{}
	for name, m := range machines {
		if m == nil {
			continue
		}
		if m.Port < 0 || m.Port > 65535 {
			return nil, fmt.Errorf("the module's output gives machine %q the port %d", name, m.Port)
		}
		decoded[name] = *m
	}
	return decoded, nil
}

// Resources gives the addresses of what is in the state of the root in dir,
// without starting Terraform. A root that was never applied has none.
func Resources(dir string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var state struct {
		Resources []struct {
			Module, Mode, Type, Name string
			Instances                []struct {
				IndexKey any `json:"index_key"`
			}
		}
	}
	if err := json.Unmarshal(b, &state); err != nil {
		return nil, fmt.Errorf("reading the state in %s: %w", dir, err)
	}
	var addresses []string
	for _, r := range state.Resources {
		if r.Mode == "data" {
			continue
		}
		address := r.Type + "." + r.Name
		if r.Module != "" {
			address = r.Module + "." + address
		}
		for _, i := range r.Instances {
			key := ""
			switch k := i.IndexKey.(type) {
			case string:
				key = fmt.Sprintf("[%q]", k)
			case float64:
				key = fmt.Sprintf("[%d]", int(k))
			}
			addresses = append(addresses, address+key)
		}
	}
	return addresses, nil
}
