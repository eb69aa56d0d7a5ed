package emulator

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// awsRoot is a root with one instance. What differs goes into the instance's
// block.
func awsRoot(client, host key, more string) string {
	return fmt.Sprintf(`
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
provider "aws" {
  region = "us-east-1"
  default_tags {
    tags = { levin-owner = "tester" }
  }
}
data "aws_vpc" "default" { default = true }
data "aws_subnet" "here" {
  vpc_id               = data.aws_vpc.default.id
  availability_zone_id = "use1-az2"
  default_for_az       = true
}
data "aws_ssm_parameter" "image" {
  name = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
}
resource "aws_key_pair" "login" {
  key_name   = "levin-run-1"
  public_key = %q
}
resource "aws_security_group" "ssh" {
  name   = "levin-run-1"
  vpc_id = data.aws_vpc.default.id
}
resource "aws_vpc_security_group_ingress_rule" "ssh" {
  security_group_id = aws_security_group.ssh.id
  cidr_ipv4         = "192.0.2.7/32"
  from_port         = 22
  to_port           = 22
  ip_protocol       = "tcp"
}
resource "aws_instance" "m" {
  ami                                  = data.aws_ssm_parameter.image.insecure_value
  instance_type                        = "t3.micro"
  subnet_id                            = data.aws_subnet.here.id
  key_name                             = aws_key_pair.login.key_name
  vpc_security_group_ids               = [aws_security_group.ssh.id]
  instance_initiated_shutdown_behavior = "terminate"
  user_data = "#cloud-config\n${jsonencode({
    bootcmd  = [["systemd-run", "--no-block", "--unit=levin-expiry", "--on-active=3600", "systemctl", "poweroff"]]
    ssh_keys = { ed25519_private = %q, ed25519_public = %q }
  })}\n"
  root_block_device {
    encrypted   = true
    volume_size = 40
  }
  metadata_options {
    http_tokens = "required"
  }
  tags = { Name = "m-1", levin-run = "run-1" }
%s}
output "m" { value = aws_instance.m }
`, client.public, host.private, host.public, more)
}

type awsOutput struct {
	ID        string            `json:"id"`
	PublicIP  string            `json:"public_ip"`
	PrivateIP string            `json:"private_ip"`
	State     string            `json:"instance_state"`
	UserData  string            `json:"user_data"`
	Zone      string            `json:"availability_zone"`
	Tags      map[string]string `json:"tags_all"`
	Root      []struct {
		VolumeID string `json:"volume_id"`
		Size     int    `json:"volume_size"`
	} `json:"root_block_device"`
	Lifecycle string `json:"instance_lifecycle"`
}

func (r *root) awsMachine() awsOutput {
	r.t.Helper()
	var m awsOutput
	if err := json.Unmarshal(r.apply()["m"], &m); err != nil {
		r.t.Fatal(err)
	}
	return m
}

// An instance of real Terraform is a machine that lets the key pair in and has the
// host key of its user data.
func TestAWSInstance(t *testing.T) {
	e := start(t, nil)
	client, host := newKey(t), newKey(t)
	r := newRoot(t, e, awsRoot(client, host, ""))
	m := r.awsMachine()
	if got := say(t, m.PublicIP, client, host, "echo $AWS_EC2_METADATA_SERVICE_ENDPOINT"); got != e.url+"/metadata/"+m.ID {
		t.Errorf("the metadata service is %q", got)
	}
	if _, err := dial(m.PublicIP, newKey(t), host); err == nil {
		t.Error("any key is let in")
	}
	if !strings.HasPrefix(m.ID, "i-0") || m.State != "running" || m.PrivateIP == "" || len(m.UserData) != 40 ||
		m.Zone != zoneName("use1-az2") || m.Root[0].Size != 40 || !strings.HasPrefix(m.Root[0].VolumeID, "vol-") {
		t.Errorf("%+v", m)
	}
	if m.Tags["levin-owner"] != "tester" || m.Tags["levin-run"] != "run-1" {
		t.Errorf("tags %v", m.Tags)
	}
	if strings.Contains(r.state(), "PRIVATE KEY") {
		t.Error("the host key is in the state")
	}
	if again := r.awsMachine(); again.ID != m.ID {
		t.Errorf("a second apply makes another instance: %s, %s", m.ID, again.ID)
	}
	r.destroy()
	if left := e.Left(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}
