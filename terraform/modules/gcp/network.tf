# Who reaches the machines: the given addresses, on port 22 and on the ports that a
# machine declares. GCP's firewall knows machines by network tags.

locals {
  # One rule holds either IPv4 or IPv6 ranges. A rule without any would let everybody
  # in, so a family without ranges has no rule.
  ranges = {
    for family, ranges in {
      v4 = [for cidr in var.ingress_cidrs : cidr if !strcontains(cidr, ":")]
      v6 = [for cidr in var.ingress_cidrs : cidr if strcontains(cidr, ":")]
    } : family => ranges if length(ranges) > 0
  }

  ports = toset(flatten([for machine in var.machines : [for port in machine.ports : tostring(port) if port != 22]]))

  # Firewall rules have no labels; this is how they are found again.
  description = join(" ", [for key in ["levin-run", "levin-owner", "levin-expires"] : "${key}=${var.tags[key]}" if contains(keys(var.tags), key)])
}

resource "google_compute_firewall" "ssh" {
  for_each = local.ranges

  name          = "${local.name}-ssh-${each.key}"
  description   = local.description
  network       = local.network
  direction     = "INGRESS"
  source_ranges = each.value
  target_tags   = [local.name]

  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}

resource "google_compute_firewall" "port" {
  for_each = {
    for pair in setproduct(local.ports, keys(local.ranges)) : "${pair[0]}-${pair[1]}" => { port = pair[0], ranges = local.ranges[pair[1]] }
  }

  name          = "${local.name}-${each.key}"
  description   = local.description
  network       = local.network
  direction     = "INGRESS"
  source_ranges = each.value.ranges
  target_tags   = ["${local.name}-${each.value.port}"]

  allow {
    protocol = "tcp"
    ports    = [each.value.port]
  }
}

# The network "default" comes with rules that let the world in on port 22. This one
# goes before them, and after the ones above (whose priority is 1000).
resource "google_compute_firewall" "closed" {
  name          = "${local.name}-closed"
  description   = local.description
  network       = local.network
  direction     = "INGRESS"
  priority      = 1001
  source_ranges = ["0.0.0.0/0"]
  target_tags   = [local.name]

  deny {
    protocol = "all"
  }
}
