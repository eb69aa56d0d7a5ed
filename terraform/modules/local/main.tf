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

locals {
  # Terraform evaluates for_each anew for every machine, so a map of numbers
  # spares a third of the time that the map of whole descriptions takes.
  leases = { for name, machine in var.machines : name => machine.extra.lease_seconds }
}

resource "levin_machine" "machine" {
  for_each = local.leases

  name           = each.key
  run            = var.run_id
  ssh_public_key = var.ssh_public_key
  lease_seconds  = each.value
}
