# Machines on GCP: VMs that take SSH from the given addresses alone, and that GCP
# itself deletes when their time is over.

locals {
  name    = "levin-${coalesce(var.group_id, var.run_id)}"
  network = coalesce(var.network, "default")

  zones   = { for name, machine in var.machines : name => machine.zone != "" ? machine.zone : one(data.google_compute_zones.up).names[0] }
  regions = { for name, zone in local.zones : name => join("-", slice(split("-", zone), 0, 2)) }

  # The subnetwork of each machine: a path names its region, a plain name is one in
  # any region. null is the region's own.
  subnets = {
    for name, region in local.regions : name => try([
      for subnet in var.subnets : subnet if !strcontains(subnet, "/") || strcontains(subnet, "/${region}/") || startswith(subnet, "${region}/")
    ][0], null)
  }

  # Ubuntu, or Google's Deep Learning image where there is a GPU, which is an Ubuntu
  # with NVIDIA's drivers and CUDA.
  images = {
    "amd64"     = "ubuntu-os-cloud/ubuntu-2404-lts-amd64"
    "arm64"     = "ubuntu-os-cloud/ubuntu-2404-lts-arm64"
    "amd64 gpu" = "deeplearning-platform-release/common-cu129-ubuntu-2404-nvidia-580"
  }

  # The kind of image each machine needs.
  image_kinds = { for name, machine in var.machines : name => "${machine.extra.arch}${machine.extra.gpu == "" ? "" : " gpu"}" }

  # GiB that a boot disk has at least: the image and some room.
  least_disk = { for name, machine in var.machines : name => machine.extra.gpu == "" ? 40 : 100 }

  # n1 types get GPUs attached; other types have theirs built in.
  accelerators = {
    P4   = "nvidia-tesla-p4"
    P100 = "nvidia-tesla-p100"
    T4   = "nvidia-tesla-t4"
    V100 = "nvidia-tesla-v100"
  }
  attached = { for name, machine in var.machines : name => startswith(machine.type, "n1-") && machine.extra.gpu != "" }

  labels = { for key, value in var.tags : key => local.label[value] }
  # A label's value: lower case, digits, _ and -, at most 63.
  label = {
    for value in distinct(concat(values(var.tags), [for machine in var.machines : machine.extra.component])) :
    value => substr(replace(lower(value), "/[^a-z0-9_-]/", "_"), 0, 63)
  }

  # What a machine does at its first start. JSON is YAML too, and always comes out
  # the same. The timer must not wait for its own start (--no-block): systemd starts
  # it only after this stage of the boot is over.
  user_data = {
    for name, machine in var.machines : name => "#cloud-config\n${jsonencode({
      for key, value in {
        bootcmd = machine.extra.unreached_seconds == 0 ? null : [
          ["systemd-run", "--no-block", "--unit=levin-expiry", "--on-active=${machine.extra.unreached_seconds}", "systemctl", "poweroff"],
        ]
        ssh_keys = machine.extra.host_key == "" ? null : {
          ed25519_private = machine.extra.host_key
          ed25519_public  = machine.extra.host_key_public
        }
        ssh_pwauth = false
        # Or Google's agent on the machine would make host keys of its own.
        write_files = machine.extra.host_key == "" ? null : [
          { path = "/etc/default/instance_configs.cfg.template", content = "[InstanceSetup]\nset_host_keys = false\n" },
        ]
      } : key => value if value != null
    })}\n"
  }

  # Components of several nodes, by the region they are in.
  clusters = { for name, machine in var.machines : "${machine.extra.component}-${local.regions[name]}" => local.regions[name]... if machine.extra.nodes > 1 }
}

data "google_compute_zones" "up" {
  count = anytrue([for machine in var.machines : machine.zone == ""]) ? 1 : 0

  status = "UP"
}

resource "google_compute_resource_policy" "cluster" {
  for_each = local.clusters

  name   = trimsuffix(substr("${local.name}-${each.key}", 0, 63), "-")
  region = each.value[0]

  group_placement_policy {
    collocation = "COLLOCATED"
  }
}

resource "google_compute_instance" "machine" {
  for_each = var.machines

  name         = each.key
  machine_type = each.value.type
  zone         = local.zones[each.key]
  tags         = concat([local.name], [for port in each.value.ports : "${local.name}-${port}" if port != 22])
  labels       = merge(local.labels, each.value.extra.component == "" ? {} : { levin-component = local.label[each.value.extra.component] })

  boot_disk {
    auto_delete = true

    initialize_params {
      image  = each.value.image != "" ? each.value.image : lookup(local.images, local.image_kinds[each.key], "")
      size   = max(each.value.disk, local.least_disk[each.key])
      type   = var.disk_type != "" ? var.disk_type : can(regex("^(n4|c4|m4|x4|h4|a4|g4|a3-ultragpu)", each.value.type)) ? "hyperdisk-balanced" : "pd-balanced"
      labels = local.labels
    }
  }

  network_interface {
    network    = local.subnets[each.key] == null ? local.network : null
    subnetwork = local.subnets[each.key]

    dynamic "access_config" {
      for_each = var.private ? [] : ["public address"]

      content {}
    }
  }

  dynamic "guest_accelerator" {
    for_each = local.attached[each.key] ? [lookup(local.accelerators, each.value.extra.gpu, each.value.extra.gpu)] : []

    content {
      type  = guest_accelerator.value
      count = max(1, each.value.extra.gpus)
    }
  }

  scheduling {
    provisioning_model  = each.value.spot ? "SPOT" : "STANDARD"
    preemptible         = each.value.spot
    automatic_restart   = false
    on_host_maintenance = each.value.spot || each.value.extra.gpu != "" ? "TERMINATE" : "MIGRATE"

    # What GCP does when it takes a spot VM back, and when the time is over.
    instance_termination_action = each.value.spot || var.ttl_seconds > 0 ? "DELETE" : null

    dynamic "max_run_duration" {
      for_each = var.ttl_seconds > 0 ? [var.ttl_seconds] : []

      content {
        seconds = max_run_duration.value
      }
    }
  }

  dynamic "service_account" {
    for_each = var.role == "" ? [] : [var.role]

    content {
      email  = service_account.value
      scopes = ["cloud-platform"]
    }
  }

  metadata = merge(
    {
      block-project-ssh-keys = "true"
      enable-oslogin         = "FALSE" # else the key below is not looked at
      ssh-keys               = "levin:${trimspace(var.ssh_public_key)}"
      user-data              = local.user_data[each.key]
    },
    each.value.extra.gpu == "" ? {} : { install-nvidia-driver = "True" },
  )

  resource_policies = each.value.extra.nodes > 1 ? [google_compute_resource_policy.cluster["${each.value.extra.component}-${local.regions[each.key]}"].self_link] : null

  lifecycle {
    # A machine stays as it was born: neither a newer image nor a later time to live
    # nor what GCP itself fills in replaces it or makes it restart.
    ignore_changes = [
      boot_disk[0].initialize_params[0].image,
      boot_disk[0].initialize_params[0].labels,
      guest_accelerator,
      labels["levin-expires"],
      metadata,
      scheduling,
      zone,
    ]

    precondition {
      condition     = each.value.image != "" || contains(keys(local.images), local.image_kinds[each.key])
      error_message = "Machine ${each.key}: there is no public image with GPU drivers for ${each.value.extra.arch}. Name an image that has them."
    }

    precondition {
      condition     = !local.attached[each.key] || contains(keys(local.accelerators), each.value.extra.gpu)
      error_message = "Machine ${each.key}: n1 types take a ${join(", ", keys(local.accelerators))}, not a ${each.value.extra.gpu}."
    }
  }
}
