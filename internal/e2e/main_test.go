package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// built holds the binaries under test, built once for all tests.
var built struct{ levin, cache string }

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "levin-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		for _, name := range []string{"levin", "levin-agent"} { // the agent is found beside levin
			cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), "../../cmd/"+name)
			if out, err := cmd.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "building %s: %v\n%s", name, err, out)
				return 1
			}
		}
		built.levin = filepath.Join(dir, "levin")
		built.cache = filepath.Join(dir, "cache")
		return m.Run()
	}())
}
