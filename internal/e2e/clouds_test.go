package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision/cloudtest/emulator"
)

// sky is an emulated AWS and GCP, and a person who is set up to use them.
type sky struct {
	*person
	*emulator.Emulator
}

// newSky starts the clouds. more is put below the settings of each cloud.
func newSky(t *testing.T, cfg emulator.Config, settings string) *sky {
	t.Helper()
	u := newUser(t)
	cfg.Dir, cfg.Agent = filepath.Join(filepath.Dir(u.home), "sky"), filepath.Join(filepath.Dir(built.levin), "levin-agent")
	e, err := emulator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &sky{u, e}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("closing the emulated clouds: %v", err)
		}
	})
	u.env = append(u.env, e.Env()...)
	u.settings(fmt.Sprintf(`
cloud: aws
ingress: [127.0.0.1/32]
clouds:
  aws: {endpoint: %q, regions: [us-east-1, us-west-2]}
  # gcp %q
%s`, e.Endpoint("aws"), e.Endpoint("gcp"), settings))
	return s
}

// checkGone is checkClean, and nothing is left in the clouds.
func (s *sky) checkGone() {
	s.t.Helper()
	for _, thing := range s.Left() {
		s.t.Errorf("left in the cloud: %s %s %s (%s) %v", thing.Cloud, thing.Kind, thing.ID, thing.State, thing.Tags)
	}
	s.checkClean()
}

// checkNoSecret looks for words that must be nowhere: credentials of the clouds.
func (s *sky) checkNoSecret(words ...string) {
	s.t.Helper()
	filepath.WalkDir(s.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			s.t.Error(err)
		}
		for _, word := range words {
			if strings.Contains(string(data), word) {
				s.t.Errorf("%s holds %.20s", path, word)
			}
		}
		return nil
	})
}

const twoClouds = `
name: two
components:
  train:
    resources: {gpu: T4, cloud: aws}
    run: echo weights > model; echo '{"loss":0.5}' > "$LEVIN_RESULT"
    outputs: [model]
  report:
    needs: [train]
    resources: {cpus: 2.., cloud: aws}
    run: 'echo "loss ${train.result.loss}"; cat inputs/train/model'
`

// TestClouds runs one app over both clouds, by real Terraform over the real
// modules: the machines that the plan said, at their prices, and nothing left.
func TestClouds(t *testing.T) {
	t.Parallel()
	s := newSky(t, emulator.Config{}, "")
	o := s.run(0, s.app(twoClouds, nil))
	if got := o.logs("report"); got != "loss 0.5\nweights" {
		t.Errorf("report printed %q", got)
	}
	clouds := map[string]string{}
	for _, e := range o.find(cluster.EventMachineReady) {
		clouds[e.Component] = e.Cloud
		if e.PricePerHour <= 0 {
			t.Errorf("machine %s costs nothing", e.Machine)
		}
	}
	if clouds["train"] != "aws" || clouds["report"] != "aws" {
		t.Errorf("machines were on %v", clouds)
	}
	s.checkGone()
	s.checkNoSecret("LEVINTESTSECRET")
}
