package emulator

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/levinrun/levin/terraform"
)

// moduleRoot writes the root of a module as Levin does.
func moduleRoot(t *testing.T, e *Emulator, m terraform.Module, client key, machines map[string]terraform.MachineInput, ttl int) *root {
	t.Helper()
	r := newRoot(t, e, "")
	err := terraform.Root{
		Run: "run-1", Group: "run-1-g1", Module: m, Machines: machines, SSHPublicKey: client.public,
		IngressCIDRs: []string{"192.0.2.7/32", "2001:db8::/64"}, TTL: ttl,
		Tags: map[string]string{"levin-run": "run-1", "levin-owner": "tester", "levin-expires": "1790000000"},
	}.Write(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *root) machines() map[string]terraform.MachineOutput {
	r.t.Helper()
	var machines map[string]terraform.MachineOutput
	if err := json.Unmarshal(r.apply()["machines"], &machines); err != nil {
		r.t.Fatal(err)
	}
	return machines
}

// Levin's modules work here as they are: machines of each kind are reached with
// the host key that they were given, and nothing is left of them.
func TestModules(t *testing.T) {
	aws, gcp := terraform.AWSModule(), terraform.GCPModule()
	aws.ProviderConfig = map[string]map[string]any{"aws": {"region": "us-east-1", "max_retries": 5}}
	gcp.ProviderConfig = map[string]map[string]any{"google": {"region": "us-central1", "project": Project}}
	for _, tt := range []struct {
		module   terraform.Module
		machines map[string]terraform.MachineInput
	}{
		{aws, map[string]terraform.MachineInput{
			"cpu":  {Type: "t3.micro", Extra: map[string]any{"component": "train"}},
			"arm":  {Type: "m7g.large", Zone: "use1-az2", Extra: map[string]any{"arch": "arm64"}},
			"gpu":  {Type: "g4dn.xlarge", Zone: "use1-az1", Spot: true, Disk: 200, Ports: []int{22, 8000, 80}, Extra: map[string]any{"gpu": "T4"}},
			"near": {Type: "g5.xlarge", Zone: "use1-az1", Extra: map[string]any{"gpu": "A10G", "component": "train", "nodes": 2}},
		}},
		{gcp, map[string]terraform.MachineInput{
			"cpu":  {Type: "e2-small", Extra: map[string]any{"component": "train"}},
			"arm":  {Type: "t2a-standard-1", Zone: "us-central1-b", Extra: map[string]any{"arch": "arm64"}},
			"gpu":  {Type: "n1-standard-8", Zone: "us-central1-f", Spot: true, Disk: 200, Ports: []int{22, 8000, 80}, Extra: map[string]any{"gpu": "T4", "gpus": 1}},
			"near": {Type: "a2-highgpu-1g", Zone: "us-central1-a", Extra: map[string]any{"gpu": "A100", "component": "train", "nodes": 2}},
		}},
	} {
		t.Run(tt.module.Name, func(t *testing.T) {
			e := start(t, nil)
			client, hosts := newKey(t), map[string]key{}
			for name, m := range tt.machines {
				hosts[name] = newKey(t)
				m.Extra["host_key"], m.Extra["host_key_public"] = hosts[name].private, hosts[name].public
				m.Extra["unreached_seconds"] = 1500
			}
			r := moduleRoot(t, e, tt.module, client, tt.machines, 3600)
			machines := r.machines()
			for name := range tt.machines {
				m := machines[name]
				if m.HostKey != hosts[name].public || m.Port != 22 || m.CloudID == "" {
					t.Errorf("%s: %+v", name, m)
				}
				if got := say(t, m.Address, client, hosts[name], "echo up"); got != "up" {
					t.Errorf("%s says %q", name, got)
				}
			}
			before := len(e.Left())
			if again := r.machines(); again["cpu"] != machines["cpu"] || len(e.Left()) != before {
				t.Errorf("a second apply changes something: %+v, %+v", machines, again)
			}
			for _, thing := range e.Left() {
				if strings.HasSuffix(thing.Kind, "_firewall") || strings.HasSuffix(thing.Kind, "_policy") {
					continue // they have no labels
				}
				if thing.Tags["levin-run"] != "run-1" || thing.Tags["levin-owner"] != "tester" || thing.Tags["levin-expires"] == "" {
					t.Errorf("%s %s has tags %v", thing.Kind, thing.ID, thing.Tags)
				}
			}
			r.destroy()
			if left := e.Left(); len(left) > 0 {
				t.Errorf("left: %+v", left)
			}
		})
	}
}
