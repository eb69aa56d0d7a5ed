output "machines" {
  description = "How each machine is reached, by name."
  value       = local.machines
}

output "ssh" {
  description = "The command that logs in to each machine."
  value       = { for name, machine in local.machines : name => "ssh -p ${machine.port} ${machine.user}@${machine.address}" }
}

locals {
  machines = merge(module.aws_us_east_1.machines, module.aws_us_west_2.machines, module.aws_us_east_1_2.machines, module.gcp_us_central1.machines)
}
