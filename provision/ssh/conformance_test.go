package ssh

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/cloudtest"
	"github.com/levinrun/levin/terraform"
)

func TestConformance(t *testing.T) {
	one := configs.Host{Name: "one", Address: "192.0.2.1", User: "ann", Port: 22, HostKey: hostKey,
		Slots: 2, CPUs: 8, Memory: 32, Disk: 100, GPU: "T4", Price: 0.2}
	two := configs.Host{Name: "two", Address: "192.0.2.2", User: "ann", Port: 22, HostKey: hostKey, Arch: "arm64"}
	cloudtest.Run(t, cloudtest.Config{
		NewClaimer: func(t *testing.T, journal *cluster.Journal) provision.Cloud {
			cfg := config(t, nil, one, two)
			cfg.Journal = journal
			return mustNew(t, cfg)
		},
		Requests: []configs.Resources{{GPU: &configs.GPU{Models: []string{"T4"}, Count: 1}}, {Machine: "two"}},
		Runner:   runner(t),
		PubKey:   hostKey,
		Machines: 3,
	})
}

// runner is real Terraform, or nil where there is none.
func runner(t *testing.T) terraform.Runner {
	t.Helper()
	found := false
	for _, name := range []string{"terraform", "tofu"} {
		if _, err := exec.LookPath(name); err == nil {
			found = true
		}
	}
	if !found {
		t.Log("neither terraform nor tofu is on PATH: machines are not created")
		return nil
	}
	cache := filepath.Join(t.TempDir(), "cache")
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
