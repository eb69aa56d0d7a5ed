package local

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/cloudtest"
	"github.com/levinrun/levin/provision/local/machine"
	"github.com/levinrun/levin/terraform"
)

func TestConformance(t *testing.T) {
	home := t.TempDir()
	_, key := newKey(t)
	cloudtest.Run(t, cloudtest.Config{
		New:      func(t *testing.T) provision.Cloud { return newCloud(t, home) },
		Runner:   runner(t),
		PubKey:   key,
		Machines: 3,
		Alive: func(m cluster.Machine) bool {
			return machine.Alive(filepath.Join(home, machinesDir, m.Name))
		},
	})
}

// runner is real Terraform, or nil where there is none.
func runner(t *testing.T) terraform.Runner {
	t.Helper()
	bin := terraformBinary()
	if bin == "" {
		t.Log("neither terraform nor tofu is on PATH: machines are not created")
		return nil
	}
	cache := t.TempDir()
	binary, err := terraform.Find(t.Context(), terraform.FindOptions{CacheDir: cache, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	r, err := terraform.NewRunner(terraform.Config{Binary: binary, CacheDir: cache, TempDir: t.TempDir(), Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
