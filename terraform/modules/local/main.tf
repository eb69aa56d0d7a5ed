# Machines that are processes on this computer.
#
# The provider lives inside the levin binary and is served to Terraform while a
# run is under way, so only levin can apply this module.

terraform {
  required_providers {
    levin = {
      source = "levinrun/levin"
    }
  }
}

resource "levin_machine" "machine" {
  for_each = var.machines

  name           = each.key
  run            = var.run_id
  ssh_public_key = var.ssh_public_key
  lease_seconds  = each.value.extra.lease_seconds
}
