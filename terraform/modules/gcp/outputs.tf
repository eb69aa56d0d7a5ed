output "machines" {
  description = "How each machine is reached, by name."
  value = {
    for name, machine in google_compute_instance.machine : name => {
      address         = var.private ? machine.network_interface[0].network_ip : machine.network_interface[0].access_config[0].nat_ip
      private_address = machine.network_interface[0].network_ip
      port            = 22
      user            = "levin"
      host_key        = var.machines[name].extra.host_key_public
      cloud_id        = machine.id # projects/P/zones/Z/instances/NAME
    }
  }
}
