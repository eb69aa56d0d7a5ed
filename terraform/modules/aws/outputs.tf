output "machines" {
  description = "How each machine is reached, by name."
  value = {
    for name, machine in aws_instance.machine : name => {
      address         = var.private ? machine.private_ip : machine.public_ip
      private_address = machine.private_ip
      port            = 22
      user            = "ubuntu"
      host_key        = var.machines[name].extra.host_key_public
      cloud_id        = machine.id
    }
  }
}
