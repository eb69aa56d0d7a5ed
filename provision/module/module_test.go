package module_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/module"
	"github.com/levinrun/levin/terraform"
)

// variables is the interface without machines.
const variables = `
variable "run_id" { type = string }
variable "ssh_public_key" { type = string }
variable "ingress_cidrs" { type = list(string) }
variable "tags" { type = map(string) }
variable "ttl_seconds" { type = number }
`

const machines = `
variable "machines" {
  type = map(object({ type = string, zone = string, extra = object({ component = optional(string, "") }) }))
}
output "machines" { value = {} }
`

// write writes a module and its offers, and gives the settings that name them.
func write(t *testing.T, files map[string]string) configs.CloudSettings {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{"offers.csv": "type,price\nsmall,1\n"}
	for name, text := range files {
		all[name] = text
	}
	for name, text := range all {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return configs.CloudSettings{Module: dir, Offers: filepath.Join(dir, "offers.csv")}
}

func config(t *testing.T, s configs.CloudSettings, env map[string]string) module.Config {
	t.Helper()
	return module.Config{
		Name: "lab", Settings: s, Home: t.TempDir(), User: "me", KnownHosts: []string{},
		Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	}
}

// full is a module that uses all there is.
func full() map[string]string {
	return map[string]string{
		"variables.tf": variables + `
variable "group_id" { type = string }
variable "region" { type = string }
variable "size" { type = number }
variable "note" {
  type    = string
  default = ""
}
variable "machines" {
  type = map(object({
    type = string, zone = string, disk = number, spot = bool, image = string, ports = list(number)
    color = optional(string, "red")
    extra = object({
      host_key = string, host_key_public = string, unreached_seconds = number, arch = string, gpu = string
      mine     = optional(string, "")
    })
  }))
}`,
		"main.tf": `
terraform {
  required_version = ">= 1.5"
  required_providers {
    lab     = { source = "example.com/acme/lab", version = "~> 1.2" }
    aws     = "~> 5.0"
    local = { source = "hashicorp/local" }
    terraform = { source = "terraform.io/builtin/terraform" }
  }
}
provider "lab" {}
resource "lab_firewall" "ssh" {
  rule {
    from = join(",", var.ingress_cidrs)
  }
}
module "net" { source = "./net" }
output "machines" { value = { for name, m in var.machines : name => { address = templatefile("${path.module}/a.tftpl", {}) } } }
`,
		"net/main.tf": "", "a.tftpl": "x", "terraform.tfstate": "secret",
	}
}

func TestModule(t *testing.T) {
	s := write(t, full())
	s.Variables = map[string]any{"size": 3.0}
	s.Env = []string{"LAB_TOKEN", "LAB_URL"}
	s.Private, s.Image, s.User, s.Identity, s.ProxyCommand = true, "golden", "root", "/keys/lab", "tunnel %n %i %z %h %p %r"
	c, err := module.New(config(t, s, map[string]string{"LAB_TOKEN": "t0k3n", "OTHER": "x"}))
	if err != nil {
		t.Fatal(err)
	}
	m, providers, err := c.Module(t.Context(), "north")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(terraform.Providers{Env: map[string]string{"LAB_TOKEN": "t0k3n"}}, providers); diff != "" {
		t.Errorf("providers (-want +got):\n%s", diff)
	}
	if _, err := fs.Stat(m.Files, "net/main.tf"); err != nil {
		t.Error(err)
	}
	m.Files = nil
	want := terraform.Module{
		Name: "lab", HostKeys: true, Firewall: true, Variables: map[string]any{"size": 3.0, "region": "north"},
		Requires: map[string]terraform.Requirement{
			"lab": {Source: "example.com/acme/lab", Version: "~> 1.2"}, "aws": {Source: "hashicorp/aws", Version: "~> 5.0"}, "local": {Source: "hashicorp/local"},
		},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("module (-want +got):\n%s", diff)
	}

	in, err := c.Input(provision.Offer{Type: "big", Zone: "z1", Arch: "arm64", CPUs: 8, Memory: 64, GPU: "T4", GPUs: 2, Spot: true}, configs.Resources{Disk: configs.Range{Min: 99.5}})
	if err != nil {
		t.Fatal(err)
	}
	wantIn := terraform.MachineInput{
		Type: "big", Zone: "z1", Disk: 100, Spot: true, Image: "golden",
		Extra: map[string]any{"arch": "arm64", "cpus": 8.0, "memory": 64.0, "gpu": "T4", "gpus": 2},
	}
	if diff := cmp.Diff(wantIn, in); diff != "" {
		t.Errorf("input (-want +got):\n%s", diff)
	}

	target, err := c.Target(cluster.Machine{
		Name: "run-x-1", Zone: "z1", Address: "192.0.2.1", PrivateAddress: "10.0.0.1", Port: 2222, User: "ubuntu", HostKey: "ssh-ed25519 AAAA", CloudID: "i-1",
	}, "/run/key")
	if err != nil {
		t.Fatal(err)
	}
	wantTarget := cluster.Target{
		Address: "10.0.0.1", Port: 2222, User: "root", HostKeys: []string{"ssh-ed25519 AAAA"}, KeyFiles: []string{"/run/key", "/keys/lab"},
		ProxyCommand: "tunnel run-x-1 i-1 z1 10.0.0.1 2222 root", PowerOff: true, Rotate: true, Expiry: true,
	}
	if diff := cmp.Diff(wantTarget, target); diff != "" {
		t.Errorf("target (-want +got):\n%s", diff)
	}
}

// A module that does the least: nothing is promised for it.
func TestPlainModule(t *testing.T) {
	s := write(t, map[string]string{"main.tf": variables + machines})
	s.Shared = true
	c, err := module.New(config(t, s, nil))
	if err != nil {
		t.Fatal(err)
	}
	m, providers, err := c.Module(t.Context(), "")
	if err != nil || m.HostKeys || m.Firewall || len(m.Variables) > 0 || len(m.Requires) > 0 || len(providers.Env) > 0 {
		t.Errorf("%+v, %+v, %v", m, providers, err)
	}
	target, err := c.Target(cluster.Machine{Name: "m", Address: "a", User: "u"}, "key")
	if err != nil || target.PowerOff || target.Rotate || target.Expiry {
		t.Errorf("%+v, %v", target, err)
	}
}

// machines of any type tell nothing of what the module can do.
func TestMachinesOfAnyType(t *testing.T) {
	s := write(t, map[string]string{"main.tf": variables + `
variable "machines" { type = any }
output "machines" { value = {} }
`})
	cfg := config(t, s, nil)
	cfg.Name = "3d"
	c, err := module.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := c.Module(t.Context(), "")
	if err != nil || m.HostKeys || m.Name != "cloud-3d" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestRefusedModules(t *testing.T) {
	const rest = variables + machines
	for _, test := range []struct {
		name  string
		files map[string]string
		set   map[string]any
		want  []string
	}{
		{"an empty folder", nil, nil, []string{"there are no *.tf files in the module"}},
		{"nothing of the interface", map[string]string{"main.tf": "# nothing\n"}, nil, []string{
			`no file declares the variable "run_id"`, `"machines"`, `"ssh_public_key"`, `"ingress_cidrs"`, `"tags"`, `"ttl_seconds"`, `no file has the output "machines"`,
		}},
		{"a file that is no HCL", map[string]string{"main.tf": rest, "b.tf": "resource {"}, nil, []string{"b.tf:1,"}},
		{"JSON", map[string]string{"main.tf": rest, "b.tf.json": "{}"}, nil, []string{"b.tf.json is in Terraform's JSON syntax, which Levin does not read; write it as b.tf"}},
		{"a backend", map[string]string{"main.tf": rest + "terraform {\n  backend \"s3\" {}\n}\n"}, nil, []string{"a module cannot say where its state is kept; set `state` in the settings"}},
		{"aliases", map[string]string{"main.tf": rest + "terraform {\n  required_providers {\n    a = {\n      source = \"x/a\"\n      configuration_aliases = [a.b]\n    }\n  }\n}\n"}, nil,
			[]string{"provider a wants a configuration of its caller"}},
		{"a source that is no text", map[string]string{"main.tf": rest + "terraform {\n  required_providers {\n    a = { source = var.x }\n  }\n}\n"}, nil, []string{"it must be text"}},
		{"a variable without value", map[string]string{"main.tf": rest + "variable \"project\" {}\n"}, nil, []string{
			"main.tf:12,", "the variable project has no default; set it as clouds.lab.variables.project",
		}},
		{"a value without variable", map[string]string{"main.tf": rest}, map[string]any{"projct": 1}, []string{"clouds.lab.variables sets projct, and no file declares that variable"}},
		{"a value that is Levin's", map[string]string{"main.tf": rest}, map[string]any{"run_id": "x", "region": "y"}, []string{
			"clouds.lab.variables sets run_id, which is Levin's to give", "clouds.lab.variables sets region, which is Levin's to give",
		}},
		{"a secret", map[string]string{"main.tf": rest + "variable \"login\" {\n  sensitive = true\n}\n"}, map[string]any{"login": "hidden"}, []string{"sets login, which is sensitive"}},
		{"machines in a list", map[string]string{"main.tf": strings.Replace(rest, "map(object", "list(object", 1)}, nil, []string{"the variable machines must be a map of objects"}},
		{"a type that is none", map[string]string{"main.tf": strings.Replace(rest, "map(object", "mapp(object", 1)}, nil, []string{"main.tf:9,"}},
		{"a field of its own", map[string]string{"main.tf": strings.Replace(rest, "zone = string", "rack = string", 1)}, nil, []string{
			"a machine has no rack; it has type, zone, disk, spot, image, ports, extra; for anything else write optional(…)",
		}},
		{"an extra field of its own", map[string]string{"main.tf": strings.Replace(rest, "component = optional(string, \"\")", "rack = string", 1)}, nil, []string{"a machine's extra has no rack"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := write(t, test.files)
			s.Variables = test.set
			c, err := module.New(config(t, s, nil))
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Offers(t.Context(), configs.Resources{})
			if cluster.KindOf(err) != cluster.BadInput {
				t.Fatalf("Offers gave %v", err)
			}
			if findings := c.Preflight(t.Context(), nil); findings[0].OK || findings[0].Text != err.Error() {
				t.Errorf("findings %+v", findings)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got  %v\nwant %s", err, want)
				}
			}
			if strings.Contains(err.Error(), "hidden") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

// What a module has made can be removed when the module is no more: groups have
// all but the credentials in their roots.
func TestModuleIsGone(t *testing.T) {
	s := write(t, nil)
	s.Module, s.Offers, s.Env = s.Module+"/nowhere", s.Offers+"x", []string{"A"}
	c, err := module.New(config(t, s, map[string]string{"A": "1"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Offers(t.Context(), configs.Resources{}); cluster.KindOf(err) != cluster.BadInput {
		t.Errorf("Offers gave %v", err)
	}
	_, providers, err := c.Module(t.Context(), "")
	if err != nil || providers.Env["A"] != "1" {
		t.Errorf("%+v, %v", providers, err)
	}
}

// A list of variables may name those of several ways to log in: one is enough.
func TestEnv(t *testing.T) {
	s := write(t, map[string]string{"main.tf": variables + machines})
	s.Env = []string{"A", "B"}
	for _, test := range []struct {
		env  map[string]string
		want map[string]string
		ok   bool
	}{
		{map[string]string{"A": "1", "B": "2", "C": "3"}, map[string]string{"A": "1", "B": "2"}, true},
		{map[string]string{"B": "2", "A": ""}, map[string]string{"B": "2"}, true},
		{nil, nil, false},
	} {
		c, err := module.New(config(t, s, test.env))
		if err != nil {
			t.Fatal(err) // offers are told without credentials
		}
		_, providers, err := c.Module(t.Context(), "")
		if (err == nil) != test.ok || !test.ok && (cluster.KindOf(err) != cluster.Auth || !strings.Contains(err.Error(), "none of A, B is set")) {
			t.Errorf("%v: %v", test.env, err)
		}
		if diff := cmp.Diff(test.want, providers.Env); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		findings := c.Preflight(t.Context(), nil)
		bad := slices.ContainsFunc(findings, func(f provision.Finding) bool { return !f.OK })
		if len(findings) != 2 || bad == test.ok {
			t.Errorf("findings %+v", findings)
		}
	}
}

func TestJudge(t *testing.T) {
	c, err := module.New(config(t, write(t, map[string]string{"main.tf": variables + machines}), nil))
	if err != nil {
		t.Fatal(err)
	}
	for words, want := range map[string]cluster.FailureKind{
		"Error: instance-operations/launch/insufficient-capacity: Not enough capacity to fulfill launch request.": cluster.Capacity,
		"Out of stock in fsn1": cluster.Capacity,
		"422 There are no available nodes with 8 GPUs; no capacity":                         cluster.Capacity,
		"The requested machine is sold out.":                                                cluster.Capacity,
		"Quota exceeded for quota metric 'gpus'":                                            cluster.Quota,
		"You have reached the account droplet limit":                                        cluster.Quota,
		"server limit exceeded":                                                             cluster.Quota,
		"insufficient balance, please top up":                                               cluster.Quota,
		"401 Unauthorized":                                                                  cluster.Auth,
		"global/invalid-api-key: API key was invalid, expired, or deleted. invalid API key": cluster.Auth,
		"your token has expired":                                                            cluster.Auth,
		"403 Forbidden":                                                                     cluster.Auth,
		"429 Too Many Requests":                                                             cluster.Throttled,
		"API rate limit exceeded, quota resets at":                                          cluster.Throttled,
		"502 Bad Gateway":                                                                   cluster.Transient,
		"dial tcp: i/o timeout":                                                             cluster.Transient,
		"Invalid value for field name":                                                      "",
		"Unsupported argument":                                                              "",
		"":                                                                                  "",
	} {
		v, ok := c.Judge(words)
		if v.Kind != want || ok != (want != "") || ok && v.Scope == "" {
			t.Errorf("%q: %+v, %v; want %s", words, v, ok, want)
		}
	}
}
