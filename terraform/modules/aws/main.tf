# Machines on AWS: EC2 instances that take SSH from the given addresses alone, and
# that are terminated by powering off.

locals {
  name = "levin-${coalesce(var.group_id, var.run_id)}"

  # GiB that a root disk has at least: the image and some room.
  least_disk = { for name, machine in var.machines : name => machine.extra.gpu == "" ? 40 : 100 }

  # When a machine powers itself off, unless whoever reaches it moves that time.
  power_off = { for name, machine in var.machines : name => machine.extra.unreached_seconds > 0 ? machine.extra.unreached_seconds : var.ttl_seconds }

  # What a machine does at its first start. JSON is YAML too, and always comes out
  # the same. The timer must not wait for its own start (--no-block): systemd starts
  # it only after this stage of the boot is over.
  user_data = {
    for name, machine in var.machines : name => "#cloud-config\n${jsonencode({
      for key, value in {
        bootcmd = local.power_off[name] == 0 ? null : [
          ["systemd-run", "--no-block", "--unit=levin-expiry", "--on-active=${local.power_off[name]}", "systemctl", "poweroff"],
        ]
        ssh_keys = machine.extra.host_key == "" ? null : {
          ed25519_private = machine.extra.host_key
          ed25519_public  = machine.extra.host_key_public
        }
        ssh_pwauth = false
      } : key => value if value != null
    })}\n"
  }

  # Components of several nodes.
  clusters = toset([for machine in var.machines : machine.extra.component if machine.extra.nodes > 1])
}

resource "aws_key_pair" "login" {
  key_name   = local.name
  public_key = var.ssh_public_key
  tags       = var.tags
}

resource "aws_placement_group" "cluster" {
  for_each = local.clusters

  name     = "${local.name}-${each.value}"
  strategy = "cluster"
  tags     = var.tags
}

resource "aws_instance" "machine" {
  for_each = var.machines

  instance_type = each.value.type
  ami           = each.value.image != "" ? each.value.image : data.aws_ssm_parameter.image[local.image_kinds[each.key]].insecure_value
  key_name      = aws_key_pair.login.key_name
  user_data     = local.user_data[each.key]

  subnet_id                   = try(local.subnets[local.zones[each.key]][0], null)
  associate_public_ip_address = !var.private
  vpc_security_group_ids      = concat([aws_security_group.ssh.id], [for ports, group in aws_security_group.ports : group.id if ports == local.ports[each.key]])
  placement_group             = each.value.extra.nodes > 1 ? aws_placement_group.cluster[each.value.extra.component].name : null
  iam_instance_profile        = var.role == "" ? null : var.role

  # Powering off, from inside or from outside, ends the machine and its costs.
  instance_initiated_shutdown_behavior = "terminate"

  dynamic "instance_market_options" {
    for_each = each.value.spot ? ["spot"] : []

    content {
      market_type = "spot"

      spot_options {
        spot_instance_type             = "one-time"
        instance_interruption_behavior = "terminate"
      }
    }
  }

  # IMDSv2 only, and not from inside containers.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    encrypted             = true
    volume_size           = max(each.value.disk, local.least_disk[each.key])
    volume_type           = coalesce(var.disk_type, "gp3")
    delete_on_termination = true
    tags                  = merge(var.tags, { Name = each.key })
  }

  tags = merge(var.tags, { Name = each.key }, each.value.extra.component == "" ? {} : { levin-component = each.value.extra.component })

  lifecycle {
    # A machine stays as it was born: neither a newer image nor another subnet nor
    # a later time to live replaces it or makes it restart.
    ignore_changes = [ami, subnet_id, user_data, tags["levin-expires"], root_block_device[0].tags]

    precondition {
      condition     = can(local.subnets[local.zones[each.key]][0])
      error_message = "Machine ${each.key}: there is no subnet for it in ${local.zones[each.key] == "" ? "any zone that has ${each.value.type}" : "zone ${local.zones[each.key]}"}. Name subnets, or another zone."
    }

    precondition {
      condition     = each.value.image != "" || !contains(local.undriven, each.value.extra.gpu)
      error_message = "Machine ${each.key}: no public image of AWS has drivers for the ${each.value.extra.gpu}. Name an image that does."
    }
  }
}
