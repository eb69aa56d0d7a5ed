output "machines" {
  description = "How each machine is reached, by name."
  value = {
    for name, machine in levin_machine.machine : name => {
      address         = machine.address
      private_address = machine.address
      port            = machine.port
      user            = machine.user
      host_key        = machine.host_key
      cloud_id        = machine.id
    }
  }
}
