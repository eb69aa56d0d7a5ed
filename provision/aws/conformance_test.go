package aws

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/cloudtest"
	"github.com/levinrun/levin/provision/cloudtest/emulator"
	"github.com/levinrun/levin/terraform"
)

// The whole way: real Terraform over the real module, the emulator's provider, and
// the SDK at the emulator's API.
func TestConformance(t *testing.T) {
	e := emulator.Start(t, nil)
	alive := func(m cluster.Machine) bool {
		for _, thing := range e.Things(emulator.AWS, "aws_instance") {
			if thing.ID == m.CloudID {
				return thing.State != emulator.Terminated
			}
		}
		return false
	}
	cloudtest.Run(t, cloudtest.Config{
		New: func(t *testing.T) provision.Cloud {
			c, err := New(Config{
				Settings: configs.CloudSettings{Endpoint: e.Endpoint(emulator.AWS), Regions: []string{"us-east-1", "us-west-2"}},
				Env:      e.Env(), Home: t.TempDir(),
			})
			if err != nil {
				t.Fatal(err)
			}
			c.poll, c.settle = 10*time.Millisecond, 50*time.Millisecond
			return c
		},
		Requests: []configs.Resources{
			{GPU: &configs.GPU{Models: []string{"T4"}, Count: 1}}, {Machine: "m7g.large"}, {Spot: configs.SpotOnly}, {Spot: configs.SpotAuto}, {Regions: []string{"us-west-2"}},
		},
		Runner: runner(t, e.Env()),
		PubKey: hostKey,
		Alive:  alive,
		Words: map[string]provision.Verdict{
			"creating EC2 Instance: InsufficientInstanceCapacity: no": {Kind: cluster.Capacity, Scope: provision.ScopeZone},
			"No valid credential sources found":                       {Kind: cluster.Auth, Scope: provision.ScopeAccount},
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
