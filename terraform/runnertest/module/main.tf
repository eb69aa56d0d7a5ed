# Machines that are nothing but two shell lines each: one that is run when the
# machine is created, and one when it is destroyed.

variable "run_id" { type = string }
variable "ssh_public_key" { type = string }
variable "ingress_cidrs" { type = list(string) }
variable "tags" { type = map(string) }
variable "ttl_seconds" { type = number }

variable "machines" {
  type = map(object({
    type  = string
    ports = list(number)
    extra = object({ create = string, destroy = string })
  }))
}

resource "terraform_data" "machine" {
  for_each = var.machines

  input = {
    type    = each.value.type
    destroy = each.value.extra.destroy
  }

  provisioner "local-exec" {
    command = each.value.extra.create
  }
  provisioner "local-exec" {
    when    = destroy
    command = self.input.destroy
  }
}

output "machines" {
  value = {
    for name, machine in terraform_data.machine : name => {
      address         = "192.0.2.1"
      private_address = null
      port            = 22
      user            = machine.output.type
      host_key        = "ssh-ed25519 AAAA"
      cloud_id        = name
    }
  }
}
