# Hosts of your own. Terraform creates nothing on them: a machine here is the
# claim of one slot of a host, kept in the state like any other resource, so that
# own hosts go through the same plans, groups and ledger as a cloud's machines.

resource "terraform_data" "slot" {
  for_each = var.machines

  input = {
    address  = each.value.extra.address
    port     = each.value.extra.port
    user     = each.value.extra.user
    host_key = each.value.extra.host_key
    host     = each.value.type
    run      = var.run_id
  }
}
