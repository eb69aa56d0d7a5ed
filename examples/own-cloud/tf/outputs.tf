locals {
  # What each server has said of itself. A machine that is gone says nothing.
  servers = {
    for name, machine in terraform_data.machine : name => try(
      jsondecode(file("${machine.output.dir}/server.json")),
      { port = 0, user = "", host_key = "" },
    )
  }
}

output "machines" {
  description = "How each machine is reached, by name."
  value = {
    for name, machine in terraform_data.machine : name => {
      address         = "127.0.0.1"
      private_address = ""
      port            = local.servers[name].port
      user            = local.servers[name].user
      host_key        = local.servers[name].host_key
      cloud_id        = machine.output.dir
    }
  }
}
