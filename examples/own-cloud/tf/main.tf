# Machines that are OpenSSH servers on this computer, each with a folder, a host
# key and a port of its own. They stand for the VMs of a real cloud, so that all
# of this can be tried without an account: where terraform_data runs a script
# here, a real module has its provider's resource.

resource "terraform_data" "machine" {
  for_each = var.machines

  input = {
    dir  = abspath("${path.root}/machines/${each.key}")
    type = each.value.type
  }

  provisioner "local-exec" {
    command = "sh '${path.module}/machine.sh' start"
    environment = {
      MACHINE_DIR = self.output.dir
      PUBLIC_KEY  = var.ssh_public_key
      TTL         = var.ttl_seconds
    }
  }

  provisioner "local-exec" {
    when    = destroy
    command = "sh '${path.module}/machine.sh' stop"
    environment = {
      MACHINE_DIR = self.output.dir
    }
  }
}
