package cloudtest_test

import (
	"crypto/ed25519"
	"crypto/sha1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/provision/cloudtest/emulator"
	"github.com/levinrun/levin/provision/local/machine"
	"github.com/levinrun/levin/terraform"
)

// TestMain makes the test binary double as the agent's binary: `machine …` is the
// process of an instance.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "machine" {
		syscall.Exit(machine.Main(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// start gives emulated clouds whose instances are this test binary.
func start(t *testing.T) *emulator.Emulator {
	t.Helper()
	return emulator.Start(t, func(c *emulator.Config) {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		c.Agent = self
	})
}

func newExec(t *testing.T, e *emulator.Emulator) (*terraform.Exec, terraform.Binary) {
	t.Helper()
	env := append(os.Environ(), e.Env()...)
	binary, err := terraform.Find(t.Context(), terraform.FindOptions{CacheDir: t.TempDir(), Env: env})
	if err != nil {
		t.Skipf("no Terraform here: %v", err)
	}
	x, err := terraform.NewRunner(terraform.Config{Binary: binary, CacheDir: t.TempDir(), TempDir: t.TempDir(), Env: env})
	if err != nil {
		t.Fatal(err)
	}
	return x, binary
}

// newKey is a key pair: OpenSSH PEM, and authorized_keys form.
func newKey(t *testing.T) (private, public string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// root is a group as the provisioner would ask for it. Machines are train, which
// has a GPU, is spot and opens no port, and serve, which opens one.
func root(t *testing.T, cloud string) terraform.Root {
	t.Helper()
	host, hostPublic := newKey(t)
	_, client := newKey(t)
	r := terraform.Root{
		Run: "demo-abc123", Group: "demo-abc123-g1", SSHPublicKey: client,
		IngressCIDRs: []string{"192.0.2.7/32", "2001:db8::7/128"}, TTL: 86400,
		Tags: map[string]string{"levin-run": "demo-abc123", "levin-owner": "Some One", "levin-expires": "1800000000"},
		Machines: map[string]terraform.MachineInput{
			"train": {Disk: 200, Spot: true, Extra: map[string]any{
				"component": "train", "arch": "amd64", "gpu": "T4", "gpus": 1, "unreached_seconds": 1500, "host_key": host, "host_key_public": hostPublic,
			}},
			"serve": {Ports: []int{8000, 22}, Extra: map[string]any{"component": "serve", "arch": "arm64", "unreached_seconds": 1500}},
		},
	}
	set := func(name, typ, zone string) {
		m := r.Machines[name]
		m.Type, m.Zone = typ, zone
		r.Machines[name] = m
	}
	switch cloud {
	case emulator.AWS:
		r.Module = terraform.AWSModule()
		r.Module.ProviderConfig = map[string]map[string]any{"aws": {"region": "us-east-1"}}
		set("train", "g4dn.xlarge", "use1-az1")
		set("serve", "c7g.large", "use1-az2")
	case emulator.GCP:
		r.Module = terraform.GCPModule()
		r.Module.ProviderConfig = map[string]map[string]any{"google": {"project": emulator.Project, "region": "us-central1"}}
		set("train", "n1-standard-4", "us-central1-a")
		set("serve", "t2a-standard-4", "us-central1-a")
	}
	return r
}

func clouds() []string { return []string{emulator.AWS, emulator.GCP} }

func write(t *testing.T, r terraform.Root) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// planned are what a plan says of one type of resource, by address below the
// module.
func planned(t *testing.T, x *terraform.Exec, dir, typ string) map[string]map[string]any {
	t.Helper()
	plan, err := x.Plan(t.Context(), dir, terraform.Providers{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]map[string]any{}
	for _, r := range plan.Resources {
		if r.Type == typ {
			found[strings.TrimPrefix(r.Address, "module.machines."+typ+".")] = r.Values
		}
	}
	return found
}

// Roots and ejected folders are valid, in Terraform's own eyes, with every
// variable of the modules set.
func TestModulesAreValid(t *testing.T) {
	e := start(t)
	_, binary := newExec(t, e)
	var ejected []terraform.Root
	for _, cloud := range clouds() {
		r := root(t, cloud)
		r.Extra = map[string]any{"network": "n", "subnets": []string{"s"}, "private": true, "role": "r", "disk_type": "d"}
		valid(t, e, binary, write(t, r))
		for name, m := range r.Machines {
			delete(r.Machines, name)
			r.Machines[cloud+"-"+name] = m
		}
		ejected = append(ejected, r)
	}
	dir := filepath.Join(t.TempDir(), "ejected")
	if err := terraform.Eject(dir, ejected, terraform.EjectOptions{Name: "demo"}); err != nil {
		t.Fatal(err)
	}
	valid(t, e, binary, dir)
}

func valid(t *testing.T, e *emulator.Emulator, binary terraform.Binary, dir string) {
	t.Helper()
	for _, args := range [][]string{{"init", "-input=false"}, {"validate"}, {"fmt", "-check", "-diff", "-recursive"}} {
		run(t, e, binary, dir, args...)
	}
}

func run(t *testing.T, e *emulator.Emulator, binary terraform.Binary, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(binary.Path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), append(e.Env(), "TF_INPUT=0", "CHECKPOINT_DISABLE=1")...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("terraform %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// Machines are created as asked for, stay as they are when the root changes, and
// are gone after destroy with all that came with them.
func TestModulesApply(t *testing.T) {
	for _, cloud := range clouds() {
		t.Run(cloud, func(t *testing.T) {
			e := start(t)
			x, _ := newExec(t, e)
			r := root(t, cloud)
			dir := write(t, r)
			outputs, err := x.Apply(t.Context(), dir, terraform.Providers{})
			if err != nil {
				t.Fatal(err)
			}
			machines, err := terraform.DecodeMachines(outputs)
			if err != nil || len(machines) != 2 {
				t.Fatalf("%v %v", machines, err)
			}
			user := map[string]string{emulator.AWS: "ubuntu", emulator.GCP: "levin"}[cloud]
			for name, m := range machines {
				if m.Address == "" || m.PrivateAddress == "" || m.Port != 22 || m.User != user || m.CloudID == "" {
					t.Errorf("%s: %+v", name, m)
				}
			}
			if machines["train"].HostKey != r.Machines["train"].Extra["host_key_public"] || machines["serve"].HostKey != "" {
				t.Errorf("host keys: %q, %q", machines["train"].HostKey, machines["serve"].HostKey)
			}
			tagged(t, e, cloud)
			state, err := os.ReadFile(filepath.Join(dir, "terraform.tfstate"))
			if err != nil {
				t.Fatal(err)
			}
			if cloud == emulator.AWS && strings.Contains(string(state), "PRIVATE KEY") {
				t.Error("the host key is in the state")
			}

			// Later: another time to live, another key of the host, another image.
			r.Tags["levin-expires"], r.TTL = "1900000000", 90000
			for name, m := range r.Machines {
				m.Image = map[string]string{emulator.AWS: "ami-0amd64newer", emulator.GCP: "ubuntu-os-cloud/ubuntu-2204-lts"}[cloud]
				m.Extra["unreached_seconds"] = 3000
				r.Machines[name] = m
			}
			if err := r.Write(dir); err != nil {
				t.Fatal(err)
			}
			plan, err := x.Plan(t.Context(), dir, terraform.Providers{})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range plan.Resources {
				if strings.HasSuffix(p.Type, "_instance") {
					t.Errorf("%s would be changed", p.Address)
				}
			}
			if len(plan.Removed) > 0 {
				t.Errorf("would be removed: %v", plan.Removed)
			}
			if err := x.Destroy(t.Context(), dir, terraform.Providers{}); err != nil {
				t.Error(err)
			}
			if left := e.Left(); len(left) > 0 {
				t.Errorf("left: %+v", left)
			}
		})
	}
}

// tagged checks that everything that exists says whose it is.
func tagged(t *testing.T, e *emulator.Emulator, cloud string) {
	t.Helper()
	for _, thing := range e.Left() {
		owner := "Some One"
		if cloud == emulator.GCP {
			owner = "some_one" // what a label can hold
		}
		text := fmt.Sprintf("levin-run=%s levin-owner=%s levin-expires=%s", thing.Tags["levin-run"], thing.Tags["levin-owner"], thing.Tags["levin-expires"])
		if thing.Kind == "google_compute_firewall" {
			owner = "Some One"
			text = fmt.Sprint(thing.Args["description"])
			if !strings.HasPrefix(thing.Name, "levin-demo-abc123") {
				t.Errorf("a firewall rule is called %q", thing.Name)
			}
		}
		if text != "levin-run=demo-abc123 levin-owner="+owner+" levin-expires=1800000000" {
			t.Errorf("%s %s has %q", thing.Kind, thing.ID, text)
		}
		if strings.HasSuffix(thing.Kind, "_instance") && (thing.Tags["levin-component"] == "" || !strings.Contains(thing.Name, thing.Tags["levin-component"])) {
			t.Errorf("%s is of component %q", thing.Name, thing.Tags["levin-component"])
		}
	}
}

// The firewall of AWS: one group for SSH, and one for each set of ports.
func TestAWSFirewall(t *testing.T) {
	e := start(t)
	x, _ := newExec(t, e)
	var got []string
	for address, v := range planned(t, x, write(t, root(t, emulator.AWS)), "aws_vpc_security_group_ingress_rule") {
		got = append(got, fmt.Sprint(address, " ", v["ip_protocol"], " ", v["from_port"], "-", v["to_port"], " ", v["cidr_ipv4"], " ", v["cidr_ipv6"]))
	}
	slices.Sort(got)
	want := []string{
		`ports["8000: 8000 from 192.0.2.7/32"] tcp 8000-8000 192.0.2.7/32 <nil>`,
		`ports["8000: 8000 from 2001:db8::7/128"] tcp 8000-8000 <nil> 2001:db8::7/128`,
		`ssh["192.0.2.7/32"] tcp 22-22 192.0.2.7/32 <nil>`,
		`ssh["2001:db8::7/128"] tcp 22-22 <nil> 2001:db8::7/128`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The firewall of GCP: what is let in, by network tag, before a rule that lets
// nothing in; and no rule at all without an address.
func TestGCPFirewall(t *testing.T) {
	e := start(t)
	x, _ := newExec(t, e)
	rules := func(r terraform.Root) []string {
		var got []string
		for address, v := range planned(t, x, write(t, r), "google_compute_firewall") {
			line := fmt.Sprint(address, " ", v["source_ranges"], " to ", v["target_tags"])
			for _, allow := range v["allow"].([]any) {
				line += fmt.Sprint(" allow ", allow.(map[string]any)["protocol"], allow.(map[string]any)["ports"])
			}
			for _, deny := range v["deny"].([]any) {
				line += fmt.Sprint(" deny ", deny.(map[string]any)["protocol"], " at ", v["priority"])
			}
			got = append(got, line)
		}
		slices.Sort(got)
		return got
	}
	r := root(t, emulator.GCP)
	want := []string{
		`closed [0.0.0.0/0] to [levin-demo-abc123-g1] deny all at 1001`,
		`port["8000-v4"] [192.0.2.7/32] to [levin-demo-abc123-g1-8000] allow tcp[8000]`,
		`port["8000-v6"] [2001:db8::7/128] to [levin-demo-abc123-g1-8000] allow tcp[8000]`,
		`ssh["v4"] [192.0.2.7/32] to [levin-demo-abc123-g1] allow tcp[22]`,
		`ssh["v6"] [2001:db8::7/128] to [levin-demo-abc123-g1] allow tcp[22]`,
	}
	if diff := cmp.Diff(want, rules(r)); diff != "" {
		t.Error(diff)
	}
	r.IngressCIDRs = nil
	if diff := cmp.Diff(want[:1], rules(r)); diff != "" {
		t.Errorf("without addresses: %s", diff)
	}
}

// What a machine of AWS is made of.
func TestAWSMachines(t *testing.T) {
	e := start(t)
	x, _ := newExec(t, e)
	r := root(t, emulator.AWS)
	r.Extra = map[string]any{"private": true, "role": "worker", "disk_type": "io2"}
	machines := planned(t, x, write(t, r), "aws_instance")
	train, serve := machines[`machine["train"]`], machines[`machine["serve"]`]
	if train == nil || serve == nil {
		t.Fatalf("planned: %v", slices.Collect(maps.Keys(machines)))
	}
	for name, want := range map[string]any{
		"instance_type": "g4dn.xlarge", "associate_public_ip_address": false, "iam_instance_profile": "worker",
		"instance_initiated_shutdown_behavior": "terminate",
	} {
		if train[name] != want {
			t.Errorf("%s is %v, want %v", name, train[name], want)
		}
	}
	if train["ami"] == serve["ami"] || train["ami"] == nil || serve["ami"] == nil {
		t.Errorf("images %v and %v", train["ami"], serve["ami"])
	}
	within(t, train, "metadata_options", map[string]any{"http_endpoint": "enabled", "http_tokens": "required", "http_put_response_hop_limit": 1.0})
	within(t, train, "root_block_device", map[string]any{"encrypted": true, "volume_size": 200.0, "volume_type": "io2", "delete_on_termination": true})
	within(t, serve, "root_block_device", map[string]any{"encrypted": true, "volume_size": 40.0})
	within(t, train, "instance_market_options", map[string]any{"market_type": "spot"})
	if spot := serve["instance_market_options"]; spot != nil && len(spot.([]any)) > 0 {
		t.Errorf("on demand, and %v", spot)
	}
	for name, machine := range map[string]map[string]any{"train": train, "serve": serve} {
		// The provider keeps nothing but a digest of it.
		want := fmt.Sprintf("%x", sha1.Sum([]byte(userData(t, emulator.AWS, r.Machines[name]))))
		if machine["user_data"] != want {
			t.Errorf("user data of %s: %v, want %s", name, machine["user_data"], want)
		}
	}
}

// What a machine of GCP is made of.
func TestGCPMachines(t *testing.T) {
	e := start(t)
	x, _ := newExec(t, e)
	r := root(t, emulator.GCP)
	r.Extra = map[string]any{"private": true, "role": "worker@example.com", "subnets": []string{"projects/p/regions/us-east1/subnetworks/no", "yes"}}
	machines := planned(t, x, write(t, r), "google_compute_instance")
	train, serve := machines[`machine["train"]`], machines[`machine["serve"]`]
	if train == nil || serve == nil {
		t.Fatalf("planned: %v", slices.Collect(maps.Keys(machines)))
	}
	scheduling := within(t, train, "scheduling", map[string]any{
		"provisioning_model": "SPOT", "preemptible": true, "automatic_restart": false, "on_host_maintenance": "TERMINATE", "instance_termination_action": "DELETE",
	})
	within(t, scheduling, "max_run_duration", map[string]any{"seconds": 86400.0})
	within(t, serve, "scheduling", map[string]any{
		"provisioning_model": "STANDARD", "preemptible": false, "automatic_restart": false, "on_host_maintenance": "MIGRATE", "instance_termination_action": "DELETE",
	})
	within(t, train, "guest_accelerator", map[string]any{"type": "nvidia-tesla-t4", "count": 1.0})
	within(t, within(t, train, "boot_disk", map[string]any{"auto_delete": true}), "initialize_params", map[string]any{
		"image": "deeplearning-platform-release/common-cu129-ubuntu-2404-nvidia-580", "size": 200.0, "type": "pd-balanced",
	})
	within(t, within(t, serve, "boot_disk", nil), "initialize_params", map[string]any{"image": "ubuntu-os-cloud/ubuntu-2404-lts-arm64", "size": 40.0})
	network := within(t, train, "network_interface", map[string]any{"subnetwork": "yes"})
	if access := network["access_config"]; access != nil && len(access.([]any)) > 0 {
		t.Errorf("private, and with an address: %v", access)
	}
	within(t, train, "service_account", map[string]any{"email": "worker@example.com"})
	if tags := train["tags"]; !cmp.Equal(tags, []any{"levin-demo-abc123-g1"}) {
		t.Errorf("network tags of train: %v", tags)
	}
	if tags := serve["tags"]; !cmp.Equal(tags, []any{"levin-demo-abc123-g1", "levin-demo-abc123-g1-8000"}) {
		t.Errorf("network tags of serve: %v", tags)
	}
	metadata := train["metadata"].(map[string]any)
	if metadata["ssh-keys"] != "levin:"+r.SSHPublicKey || metadata["block-project-ssh-keys"] != "true" || metadata["install-nvidia-driver"] != "True" {
		t.Errorf("metadata: %v", metadata)
	}
	for name, machine := range map[string]map[string]any{"train": train, "serve": serve} {
		if diff := cmp.Diff(userData(t, emulator.GCP, r.Machines[name]), machine["metadata"].(map[string]any)["user-data"]); diff != "" {
			t.Errorf("user data of %s: %s", name, diff)
		}
	}
}

// within gives a nested block and checks some of what is in it.
func within(t *testing.T, values map[string]any, block string, want map[string]any) map[string]any {
	t.Helper()
	list, _ := values[block].([]any)
	if len(list) != 1 {
		t.Fatalf("%s: %v", block, values[block])
	}
	inner := list[0].(map[string]any)
	for name, v := range want {
		if !cmp.Equal(inner[name], v) {
			t.Errorf("%s.%s is %v, want %v", block, name, inner[name], v)
		}
	}
	return inner
}

// userData is what a machine is to do at its first start, byte for byte.
func userData(t *testing.T, cloud string, m terraform.MachineInput) string {
	t.Helper()
	config := map[string]any{
		"bootcmd":    [][]string{{"systemd-run", "--no-block", "--unit=levin-expiry", "--on-active=1500", "systemctl", "poweroff"}},
		"ssh_pwauth": false,
	}
	if key := m.Extra["host_key"]; key != nil {
		config["ssh_keys"] = map[string]any{"ed25519_private": key, "ed25519_public": m.Extra["host_key_public"]}
		if cloud == emulator.GCP {
			config["write_files"] = []map[string]string{{
				"path": "/etc/default/instance_configs.cfg.template", "content": "[InstanceSetup]\nset_host_keys = false\n",
			}}
		}
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return "#cloud-config\n" + string(b) + "\n"
}

// What cannot work is refused in words, before anything is created.
func TestModulesRefuse(t *testing.T) {
	e := start(t)
	x, _ := newExec(t, e)
	change := func(r *terraform.Root, name string, edit func(*terraform.MachineInput)) {
		m := r.Machines[name]
		m.Extra = maps.Clone(m.Extra)
		edit(&m)
		r.Machines[name] = m
	}
	for _, c := range []struct {
		name, cloud, want string
		spoil             func(*terraform.Root)
	}{
		{"a zone without a subnet", emulator.AWS, "no subnet for it in zone use1-az99", func(r *terraform.Root) {
			change(r, "serve", func(m *terraform.MachineInput) { m.Zone = "use1-az99" })
		}},
		{"a GPU without an image", emulator.AWS, "no public image of AWS has drivers for the V100", func(r *terraform.Root) {
			change(r, "train", func(m *terraform.MachineInput) { m.Type, m.Extra["gpu"] = "p3.2xlarge", "V100" })
		}},
		{"an arch that is none", emulator.AWS, "amd64 or arm64", func(r *terraform.Root) {
			change(r, "serve", func(m *terraform.MachineInput) { m.Extra["arch"] = "mips" })
		}},
		{"an address that is none", emulator.AWS, "must be a CIDR", func(r *terraform.Root) { r.IngressCIDRs = []string{"192.0.2.7"} }},
		{"a GPU that n1 does not take", emulator.GCP, "n1 types take a P100, P4, T4, V100, not a H100", func(r *terraform.Root) {
			change(r, "train", func(m *terraform.MachineInput) { m.Extra["gpu"] = "H100" })
		}},
		{"a GPU on arm64", emulator.GCP, "no public image with GPU drivers for arm64", func(r *terraform.Root) {
			change(r, "serve", func(m *terraform.MachineInput) { m.Extra["gpu"] = "T4" })
		}},
		{"a name that GCP does not take", emulator.GCP, "begins with a letter", func(r *terraform.Root) { r.Machines["3d"] = r.Machines["serve"] }},
		{"a life that is too long", emulator.GCP, "120 days", func(r *terraform.Root) { r.TTL = 121 * 24 * 3600 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := root(t, c.cloud)
			c.spoil(&r)
			if _, err := x.Apply(t.Context(), write(t, r), terraform.Providers{}); err == nil || !strings.Contains(strings.Join(strings.Fields(err.Error()), " "), c.want) {
				t.Errorf("error: %v", err)
			}
		})
	}
	if left := e.Left(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

// A zone that is left open is chosen where the type can be had; machines of one
// component on several nodes stand close together.
func TestModulesChoose(t *testing.T) {
	e := start(t)
	x, _ := newExec(t, e)
	for cloud, want := range map[string]string{emulator.AWS: "aws_placement_group", emulator.GCP: "google_compute_resource_policy"} {
		r := root(t, cloud)
		for name, m := range r.Machines {
			m.Zone, m.Extra["nodes"] = "", 2
			r.Machines[name] = m
		}
		dir := write(t, r)
		if got := planned(t, x, dir, want); len(got) != 2 {
			t.Errorf("%s: %v", want, got)
		}
		kind := map[string]string{emulator.AWS: "aws_instance", emulator.GCP: "google_compute_instance"}[cloud]
		for address, v := range planned(t, x, dir, kind) {
			if v["subnet_id"] == nil && v["zone"] != "us-central1-a" {
				t.Errorf("%s is in no zone: %v", address, v)
			}
		}
	}
}

// What is ejected needs nothing of Levin: Terraform alone creates and removes it.
func TestEjectedCloudsAreApplied(t *testing.T) {
	e := start(t)
	_, binary := newExec(t, e)
	var groups []terraform.Root
	for _, cloud := range clouds() {
		r := root(t, cloud)
		r.Machines = map[string]terraform.MachineInput{cloud + "-serve-1": r.Machines["serve"]}
		groups = append(groups, r)
	}
	dir := filepath.Join(t.TempDir(), "ejected")
	if err := terraform.Eject(dir, groups, terraform.EjectOptions{Name: "demo"}); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(key, []byte(groups[0].SSHPublicKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	variable := "-var=ssh_public_key_file=" + key
	run(t, e, binary, dir, "init")
	run(t, e, binary, dir, "apply", "-auto-approve", variable)
	if out := run(t, e, binary, dir, "output", "ssh"); !strings.Contains(out, "ssh -p 22 ubuntu@") || !strings.Contains(out, "ssh -p 22 levin@") {
		t.Errorf("outputs: %s", out)
	}
	for _, thing := range e.Left() {
		if thing.Tags["levin-run"] != "" || strings.Contains(fmt.Sprint(thing.Args["description"]), "levin-run") {
			t.Errorf("%s %s looks like Levin's own", thing.Kind, thing.ID)
		}
	}
	run(t, e, binary, dir, "destroy", "-auto-approve", variable)
	if left := e.Left(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}
