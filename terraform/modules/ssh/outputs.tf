output "machines" {
  description = "How each machine is reached, by name."
  value = {
    for name, slot in terraform_data.slot : name => {
      address         = slot.output.address
      private_address = ""
      port            = slot.output.port
      user            = slot.output.user
      host_key        = slot.output.host_key
      cloud_id        = "${slot.output.host}/${slot.id}"
    }
  }
}
