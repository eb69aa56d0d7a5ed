package emulator

import (
	"encoding/json"
	"fmt"
	"testing"
)

// gcpRoot is a root with one instance, a spot one when it is told so.
func gcpRoot(client, host key, spot bool, action, more string) string {
	model := "STANDARD"
	if spot {
		model = "SPOT"
	}
	return fmt.Sprintf(`
terraform {
  required_providers {
    google = { source = "hashicorp/google" }
  }
}
provider "google" {
  project = "levin-emulated"
  region  = "us-central1"
}
data "google_compute_zones" "up" { status = "UP" }
data "google_compute_image" "ubuntu" {
  family  = "ubuntu-2404-lts-amd64"
  project = "ubuntu-os-cloud"
}
resource "google_compute_firewall" "ssh" {
  name          = "levin-run-1-ssh"
  description   = "levin-run=run-1"
  network       = "default"
  source_ranges = ["192.0.2.7/32"]
  target_tags   = ["levin-run-1"]
  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}
resource "google_compute_instance" "m" {
  name         = "m-1"
  machine_type = "e2-small"
  zone         = data.google_compute_zones.up.names[1]
  tags         = ["levin-run-1"]
  labels       = { levin-run = "run-1" }
  boot_disk {
    initialize_params {
      image  = data.google_compute_image.ubuntu.self_link
      size   = 40
      labels = { levin-run = "run-1" }
    }
  }
  network_interface {
    network = "default"
    access_config {}
  }
  scheduling {
    provisioning_model          = %q
    preemptible                 = %t
    automatic_restart           = false
    instance_termination_action = %s
    %s
  }
  metadata = {
    ssh-keys  = "levin:%s"
    user-data = "#cloud-config\n${jsonencode({
      bootcmd  = [["systemd-run", "--unit=levin-expiry", "--on-active=3600", "systemctl", "poweroff"]]
      ssh_keys = { ed25519_private = %q, ed25519_public = %q }
    })}\n"
  }
}
output "m" {
  value = { for name in ["id", "instance_id", "self_link", "zone", "network_interface", "effective_labels"] : name => google_compute_instance.m[name] }
}
`, model, spot, action, more, client.public, host.private, host.public)
}

type gcpOutput struct {
	ID         string `json:"id"`
	InstanceID string `json:"instance_id"`
	SelfLink   string `json:"self_link"`
	Zone       string `json:"zone"`
	Network    []struct {
		IP     string `json:"network_ip"`
		Access []struct {
			IP string `json:"nat_ip"`
		} `json:"access_config"`
	} `json:"network_interface"`
	Labels map[string]string `json:"effective_labels"`
}

func (r *root) gcpMachine() gcpOutput {
	r.t.Helper()
	var m gcpOutput
	if err := json.Unmarshal(r.apply()["m"], &m); err != nil {
		r.t.Fatal(err)
	}
	return m
}

func (m gcpOutput) address() string { return m.Network[0].Access[0].IP }

func TestGCPInstance(t *testing.T) {
	e := start(t, nil)
	client, host := newKey(t), newKey(t)
	r := newRoot(t, e, gcpRoot(client, host, false, "null", ""))
	m := r.gcpMachine()
	if got := say(t, m.address(), client, host, "echo $GCE_METADATA_HOST"); got == "" {
		t.Error("there is no metadata server")
	}
	if m.ID != "projects/levin-emulated/zones/us-central1-b/instances/m-1" || m.InstanceID == "" || m.Zone != "us-central1-b" ||
		m.SelfLink != "https://www.googleapis.com/compute/v1/"+m.ID || m.Labels["levin-run"] != "run-1" {
		t.Errorf("%+v", m)
	}
	if again := r.gcpMachine(); again.InstanceID != m.InstanceID || again.address() != m.address() {
		t.Errorf("a second apply makes another instance: %+v", again)
	}
	r.destroy()
	if left := e.Left(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}
