package terraform

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The state files of a root. Terraform leaves the second when it could not write
// the first; what it holds exists as well.
const (
	stateFile   = "terraform.tfstate"
	erroredFile = "errored.tfstate"
)

// Resources gives the addresses of everything that the state of the root in dir
// says exists, sorted, without starting Terraform. A folder that is not there,
// has no state or has an empty one holds nothing. A root whose state is kept
// elsewhere is an error: Exec.Resources reads that.
func Resources(dir string) ([]string, error) {
	remote, err := readBackend(dir)
	if err != nil {
		return nil, fmt.Errorf("reading a Terraform root: %w", err)
	}
	if remote != "" {
		return nil, fmt.Errorf("the state of %s is kept in a backend, and only Terraform can read it", dir)
	}
	var all []string
	for _, name := range []string{stateFile, erroredFile} {
		addresses, err := readState(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		all = append(all, addresses...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

func readState(path string) ([]string, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Terraform's state: %w", err)
	}
	addresses, err := stateAddresses(content)
	if err != nil {
		return nil, fmt.Errorf("reading Terraform's state %s: %w", path, err)
	}
	return addresses, nil
}

// stateAddresses reads a state file of format 4, which all versions since 0.12
// write.
func stateAddresses(content []byte) ([]string, error) {
	if len(strings.TrimSpace(string(content))) == 0 {
		return nil, nil
	}
	var state struct {
		Version   int `json:"version"`
		Resources []struct {
			Module    string `json:"module"`
			Mode      string `json:"mode"`
			Type      string `json:"type"`
			Name      string `json:"name"`
			Instances []struct {
				Key     json.RawMessage `json:"index_key"`
				Deposed string          `json:"deposed"`
			} `json:"instances"`
		} `json:"resources"`
	}
	if err := json.Unmarshal(content, &state); err != nil {
		return nil, err
	}
	if state.Version != 4 {
		return nil, fmt.Errorf("its format is %d, and only 4 is known", state.Version)
	}
	var addresses []string
	for _, r := range state.Resources {
		if r.Mode != "managed" {
			continue
		}
		address := r.Type + "." + r.Name
		if r.Module != "" {
			address = r.Module + "." + address
		}
		for _, i := range r.Instances {
			full := address
			if len(i.Key) > 0 && string(i.Key) != "null" {
				full += "[" + string(i.Key) + "]"
			}
			if i.Deposed != "" {
				full += " (deposed " + i.Deposed + ")"
			}
			addresses = append(addresses, full)
		}
	}
	return addresses, nil
}

// splitKey takes the for_each key from the end of an address. The key is empty
// when there is none, and for count, whose keys are numbers.
func splitKey(address string) (rest, key string) {
	if !strings.HasSuffix(address, "]") {
		return address, ""
	}
	// A key may hold brackets itself: the last [" that makes the rest one quoted
	// string is where it starts.
	for from := len(address); ; {
		at := strings.LastIndex(address[:from], "[\"")
		if at < 0 {
			return address, ""
		}
		if key, err := strconv.Unquote(address[at+1 : len(address)-1]); err == nil {
			return address[:at], key
		}
		from = at
	}
}
