package emulator

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const awsHead = `
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
provider "aws" {
  region                      = "us-west-2"
  access_key                  = "x"
  secret_key                  = "x"
  skip_metadata_api_check     = "true"
  skip_credentials_validation = true
  endpoints {
    ec2 = "http://127.0.0.1:1"
  }
}
`

const gcpHead = `
terraform {
  required_providers {
    google = { source = "hashicorp/google" }
  }
}
provider "google" {
  project                 = "levin-emulated"
  region                  = "europe-west4"
  compute_custom_endpoint = "http://127.0.0.1:1/"
}
`

// What the real clouds refuse is refused.
func TestRefusals(t *testing.T) {
	e := start(t, nil)
	const machine = `resource "google_compute_instance" "m" {
  name         = "m-1"
  machine_type = "e2-small"
  zone         = "europe-west4-a"
  boot_disk {
    initialize_params { image = "ubuntu-os-cloud/ubuntu-2404-lts-amd64" }
  }
  network_interface { network = "default" }
`
	for _, tt := range []struct{ name, config, want string }{
		{"an argument that there is not", awsHead + `resource "aws_key_pair" "k" {
  public_key = "ssh-ed25519 x"
  lifetime   = 5
}`, `An argument named "lifetime" is not expected here`},
		{"a resource that there is not", awsHead + `resource "aws_spot_instance_request" "s" {}`, "does not support resource type"},
		{"a provider argument that there is not", strings.Replace(awsHead, "access_key ", "access_code ", 1) + `data "aws_region" "r" {}`, "access_code"},
		{"a key that is none", awsHead + `resource "aws_key_pair" "k" {
  key_name   = "k"
  public_key = "nonsense"
}`, "InvalidKey.Format"},
		{"an image that there is not", awsHead + `resource "aws_instance" "m" {
  ami           = "ami-1"
  instance_type = "t3.micro"
}`, "InvalidAMIID.NotFound"},
		{"a type that there is not", awsHead + `resource "aws_instance" "m" {
  ami           = "ami-0amd64"
  instance_type = "huge"
}`, "Invalid value 'huge' for InstanceType"},
		{"another architecture", awsHead + `resource "aws_instance" "m" {
  ami           = "ami-0amd64"
  instance_type = "t4g.micro"
}`, "The architecture 'arm64' of the specified instance type does not match the architecture 'x86_64'"},
		{"a group that there is not", awsHead + `resource "aws_instance" "m" {
  ami                    = "ami-0amd64"
  instance_type          = "t3.micro"
  vpc_security_group_ids = ["sg-1"]
}`, "InvalidGroup.NotFound"},
		{"a disk that is too small", awsHead + `resource "aws_instance" "m" {
  ami           = "ami-0amd64"
  instance_type = "t3.micro"
  root_block_device { volume_size = 2 }
}`, "InvalidBlockDeviceMapping"},
		{"user data of two kinds", awsHead + `resource "aws_instance" "m" {
  ami              = "ami-0amd64"
  instance_type    = "t3.micro"
  user_data        = "#cloud-config\n"
  user_data_base64 = "I2Nsb3VkLWNvbmZpZwo="
}`, "conflicts with user_data_base64"},
		{"user data that is not understood", awsHead + `resource "aws_instance" "m" {
  ami           = "ami-0amd64"
  instance_type = "t3.micro"
  user_data     = "#!/bin/sh\n"
}`, "only #cloud-config is understood"},
		{"a key twice", awsHead + `resource "aws_key_pair" "k" {
  count      = 2
  key_name   = "k"
  public_key = "` + newKey(t).public + `"
}`, "importing EC2 Key Pair (k): operation error EC2: ImportKeyPair, https response error StatusCode: 400, RequestID:"},
		{"a parameter that there is not", awsHead + `data "aws_ssm_parameter" "p" { name = "/aws/none" }`, "couldn't find resource"},
		{"a zone of another region", awsHead + `data "aws_subnet" "s" { availability_zone_id = "use1-az1" }`, "no matching EC2 Subnet found"},
		{"a label that is none", gcpHead + machine + `  labels = { levin-owner = "A B" }
}`, "Label value 'A B' violates format constraints"},
		{"a time without an end", gcpHead + machine + `  scheduling {
    max_run_duration { seconds = 60 }
  }
}`, "must specify an instanceTerminationAction"},
		{"a spot instance that restarts", gcpHead + machine + `  scheduling {
    provisioning_model = "SPOT"
    preemptible        = true
  }
}`, "automatic restart is not supported"},
		{"a GPU that migrates", gcpHead + strings.Replace(machine, "e2-small", "n1-standard-4", 1) + `  guest_accelerator {
    type  = "nvidia-tesla-t4"
    count = 1
  }
}`, "Instances with guest accelerators do not support live migration"},
		{"a zone that there is not", gcpHead + strings.Replace(machine, "europe-west4-a", "europe-west4-z", 1) + "}", "unknown zone"},
		{"an image family that there is not", gcpHead + `data "google_compute_image" "i" {
  family  = "none"
  project = "ubuntu-os-cloud"
}`, "googleapi: Error 404"},
		{"a firewall twice", gcpHead + `resource "google_compute_firewall" "f" {
  count   = 2
  name    = "f"
  network = "default"
  allow { protocol = "tcp" }
}`, "googleapi: Error 409: The resource 'projects/levin-emulated/global/firewalls/f' already exists, alreadyExists"},
		{"a firewall of no network", gcpHead + `resource "google_compute_firewall" "f" {
  name    = "f"
  network = "none"
  allow { protocol = "tcp" }
}`, "was not found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if words := newRoot(t, e, tt.config).applyFails(); !strings.Contains(words, tt.want) {
				t.Errorf("got  %s\nwant %s", words, tt.want)
			}
			for _, thing := range e.Left() {
				if thing.instance() {
					t.Errorf("there is an instance: %+v", thing)
				}
			}
		})
	}
}

// Data sources answer as those of an account with its default network.
func TestDataSources(t *testing.T) {
	e := start(t, nil)
	r := newRoot(t, e, awsHead+`
data "aws_vpc" "v" { default = true }
data "aws_subnets" "s" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.v.id]
  }
  filter {
    name   = "availability-zone-id"
    values = ["usw2-az1", "usw2-az4"]
  }
}
data "aws_subnet" "s" {
  for_each = toset(data.aws_subnets.s.ids)
  id       = each.value
}
data "aws_availability_zones" "z" {
  state = "available"
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}
data "aws_ec2_instance_type_offerings" "o" {
  location_type = "availability-zone-id"
  filter {
    name   = "instance-type"
    values = ["g4dn.xlarge"]
  }
}
data "aws_region" "r" {}
data "aws_caller_identity" "c" {}
data "aws_ami" "a" {
  owners = ["099720109477"]
  filter {
    name   = "name"
    values = ["ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64-server-*"]
  }
}
output "all" {
  value = {
    zones     = sort([for s in data.aws_subnet.s : s.availability_zone_id])
    names     = data.aws_availability_zones.z.names
    ids       = data.aws_availability_zones.z.zone_ids
    offerings = data.aws_ec2_instance_type_offerings.o.locations
    region    = data.aws_region.r.name
    account   = data.aws_caller_identity.c.account_id
    arch      = data.aws_ami.a.architecture
  }
}`)
	got := string(r.apply()["all"])
	want := `{"account":"000000000000","arch":"arm64","ids":["usw2-az2","usw2-az1","usw2-az3","usw2-az4"],` +
		`"names":["us-west-2a","us-west-2b","us-west-2c","us-west-2d"],"offerings":["usw2-az2","usw2-az1","usw2-az3","usw2-az4"],` +
		`"region":"us-west-2","zones":["usw2-az1","usw2-az4"]}`
	if compact(t, got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	r = newRoot(t, e, gcpHead+`
data "google_compute_zones" "z" {}
data "google_compute_network" "n" { name = "default" }
data "google_compute_subnetwork" "s" { name = "default" }
data "google_project" "p" {}
data "google_client_config" "c" {}
output "all" {
  value = {
    zones      = data.google_compute_zones.z.names
    network    = data.google_compute_network.n.id
    subnetwork = data.google_compute_subnetwork.s.self_link
    number     = data.google_project.p.number
    region     = data.google_client_config.c.region
  }
}`)
	got = string(r.apply()["all"])
	want = `{"network":"projects/levin-emulated/global/networks/default","number":"123456789012","region":"europe-west4",` +
		`"subnetwork":"https://www.googleapis.com/compute/v1/projects/levin-emulated/regions/europe-west4/subnetworks/default",` +
		`"zones":["europe-west4-a","europe-west4-b","europe-west4-c"]}`
	if compact(t, got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func compact(t testing.TB, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Tags change in place, from both sides; what was ended behind Terraform's back is
// gone from its state; a group cannot go while an instance uses it.
func TestChangesAndDrift(t *testing.T) {
	e := start(t, nil)
	client, host := newKey(t), newKey(t)
	config := awsRoot(client, host, "")
	r := newRoot(t, e, config)
	m := r.awsMachine()
	group := e.Things(AWS, "aws_security_group")[0].ID

	r.write(strings.Replace(config, `levin-run = "run-1" }`, `levin-run = "run-2" }`, 1))
	if again := r.awsMachine(); again.ID != m.ID || again.Tags["levin-run"] != "run-2" || e.only(t).Tags["levin-run"] != "run-2" {
		t.Errorf("tags changed: %+v, %+v", again, e.only(t))
	}
	if err := e.Tag(AWS, m.ID, map[string]string{"levin-expires": "1"}); err != nil {
		t.Fatal(err)
	}
	if got := r.terraform("plan", "-refresh-only", "-no-color"); !strings.Contains(got, `"levin-expires" = "1"`) || strings.Contains(got, "has been deleted") {
		t.Errorf("Terraform does not see another tag:\n%s", got)
	}
	if err := e.Delete(AWS, "aws_security_group", group); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a group that is used is deleted: %v", err)
	}
	if err := e.Terminate(AWS, m.ID, "Client.UserInitiatedShutdown: User initiated shutdown"); err != nil {
		t.Fatal(err)
	}
	waitState(t, e, Terminated)
	if got := r.terraform("plan", "-refresh-only", "-no-color"); !strings.Contains(got, "aws_instance.m has been deleted") {
		t.Errorf("Terraform does not see that it is gone:\n%s", got)
	}
	if err := e.Delete(AWS, "aws_security_group", group); err != nil {
		t.Error(err)
	}
	if rules := e.Things(AWS, "aws_vpc_security_group_ingress_rule"); len(rules) > 0 {
		t.Errorf("rules outlive their group: %+v", rules)
	}
	r.destroy()
	if left := e.Left(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

// An instance that Terraform's state lacks can be imported, and then destroyed.
func TestImport(t *testing.T) {
	e := start(t, nil)
	client, host := newKey(t), newKey(t)
	r := newRoot(t, e, awsRoot(client, host, ""))
	m := r.awsMachine()
	r.terraform("state", "rm", "aws_instance.m")
	r.terraform("import", "-no-color", "aws_instance.m", m.ID)
	if again := r.awsMachine(); again.ID != m.ID || len(e.Things(AWS, "aws_instance")) != 1 {
		t.Errorf("another instance: %+v", again)
	}
	r.destroy()
	if left := e.Left(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

// terraform runs Terraform by hand, with the environment that Env gives.
func (r *root) terraform(args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), r.binary, args...)
	cmd.Dir = r.dir
	cmd.Env = append(r.e.Env(), "PATH="+os.Getenv("PATH"), "HOME="+filepath.Join(r.dir, "none"), "CHECKPOINT_DISABLE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("terraform %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
