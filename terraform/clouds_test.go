package terraform_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/terraform"
)

func awsRoot() terraform.Root {
	module := terraform.AWSModule()
	module.ProviderConfig = map[string]map[string]any{"aws": {
		"region": "us-east-1", "max_retries": 5,
		"endpoints": map[string]any{"ec2": "http://127.0.0.1:1/aws", "ssm": "http://127.0.0.1:1/aws"},
	}}
	return terraform.Root{
		Run: "demo-abc123", Group: "demo-abc123-g1", Module: module,
		Machines: map[string]terraform.MachineInput{
			"demo-abc123-train-1": {
				Type: "g4dn.xlarge", Zone: "use1-az1", Disk: 200, Spot: true,
				Extra: map[string]any{
					"component": "train", "arch": "amd64", "gpu": "T4", "gpus": 1,
					"host_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "host_key_public": "ssh-ed25519 BBBB", "unreached_seconds": 1500,
				},
			},
			"demo-abc123-serve-1": {Type: "c7g.large", Ports: []int{8000}, Extra: map[string]any{"component": "serve", "arch": "arm64"}},
		},
		SSHPublicKey: "ssh-ed25519 AAAA levin", IngressCIDRs: []string{"192.0.2.1/32"},
		Tags: map[string]string{"levin-run": "demo-abc123", "levin-owner": "me", "levin-expires": "1800000000"}, TTL: 86400,
		Extra: map[string]any{"network": "", "subnets": []string{}, "private": false, "role": "", "disk_type": ""},
	}
}

func gcpRoot() terraform.Root {
	root := awsRoot()
	root.Group = "demo-abc123-g2"
	root.Module = terraform.GCPModule()
	root.Module.ProviderConfig = map[string]map[string]any{"google": {"project": "my-project", "region": "us-central1"}}
	root.Machines = map[string]terraform.MachineInput{
		"demo-abc123-train-2": {Type: "n1-standard-8", Zone: "us-central1-a", Spot: true, Extra: map[string]any{"component": "train", "gpu": "T4", "gpus": 1}},
	}
	root.Extra = nil
	root.Backend = &terraform.Backend{Type: "gcs", Config: map[string]any{"bucket": "my-states", "prefix": "levin/${run}/${group}"}}
	return root
}

func TestCloudRootsGolden(t *testing.T) {
	for name, root := range map[string]terraform.Root{"aws": awsRoot(), "gcp": gcpRoot()} {
		files, err := root.Files()
		if err != nil {
			t.Fatal(err)
		}
		checkGolden(t, name+".tf.golden", files["main.tf"])
	}
}

func checkGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	golden := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
}
