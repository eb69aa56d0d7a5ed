package gcp

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/cloudtest"
	"github.com/levinrun/levin/provision/cloudtest/emulator"
	"github.com/levinrun/levin/terraform"
)

func TestMain(m *testing.M) {
	// What the machine that runs the tests is signed in to is none of their business.
	for _, kv := range os.Environ() {
		k, _, _ := strings.Cut(kv, "=")
		for _, prefix := range []string{"GOOGLE_", "CLOUDSDK_", "GCLOUD_", "GCE_"} {
			if strings.HasPrefix(k, prefix) {
				os.Unsetenv(k)
			}
		}
	}
	goleak.VerifyTestMain(m)
}

const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMk1jBkUUCJ3tTfJ2Ph0RJc6Zb1m1c7yB3kqXkU2n8sF"

func newCloud(t *testing.T, e *emulator.Emulator, settings configs.CloudSettings) *Cloud {
	t.Helper()
	settings.Endpoint = e.Endpoint(emulator.GCP)
	c, err := New(Config{Settings: settings, CacheDir: t.TempDir(), Env: e.Env(), Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	c.poll, c.settle = 10*time.Millisecond, 50*time.Millisecond
	return c
}

// The whole way: real Terraform over the real module, the emulator's provider, and
// the SDK at the emulator's API.
func TestConformance(t *testing.T) {
	e := emulator.Start(t, nil)
	alive := func(m cluster.Machine) bool {
		for _, thing := range e.Things(emulator.GCP, "google_compute_instance") {
			if thing.Name == m.Name && thing.State != emulator.Terminated {
				return true
			}
		}
		return false
	}
	cloudtest.Run(t, cloudtest.Config{
		New: func(t *testing.T) provision.Cloud {
			return newCloud(t, e, configs.CloudSettings{Regions: []string{"us-central1", "us-west1"}})
		},
		Requests: []configs.Resources{
			{GPU: &configs.GPU{Models: []string{"T4"}, Count: 1}}, {Machine: "n2-standard-4"}, {Spot: configs.SpotOnly}, {Spot: configs.SpotAuto}, {Regions: []string{"us-west1"}},
		},
		Runner: runner(t, e.Env()),
		PubKey: hostKey,
		Alive:  alive,
		Words: map[string]provision.Verdict{
			"googleapi: Error 503: no, ZONE_RESOURCE_POOL_EXHAUSTED": {Kind: cluster.Capacity, Scope: provision.ScopeZone},
			"google: could not find default credentials":             {Kind: cluster.Auth, Scope: provision.ScopeAccount},
		},
	})
	if left := e.Left(); len(left) > 0 {
		t.Errorf("left are %+v", left)
	}
}

// runner is real Terraform, or nil where there is none.
func runner(t *testing.T, env []string) terraform.Runner {
	t.Helper()
	_, noTerraform := exec.LookPath("terraform")
	_, noTofu := exec.LookPath("tofu")
	if noTerraform != nil && noTofu != nil {
		t.Log("neither terraform nor tofu is on PATH: machines are not created")
		return nil
	}
	env = append(os.Environ(), env...)
	cache := t.TempDir()
	binary, err := terraform.Find(t.Context(), terraform.FindOptions{CacheDir: cache, Env: env})
	if err != nil {
		t.Fatal(err)
	}
	r, err := terraform.NewRunner(terraform.Config{Binary: binary, CacheDir: cache, TempDir: t.TempDir(), Env: env})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
