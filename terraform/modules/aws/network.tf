# Where machines stand, and who reaches them.

data "aws_vpc" "default" {
  count = var.network == "" && length(var.subnets) == 0 ? 1 : 0

  default = true
}

data "aws_subnets" "candidates" {
  filter {
    name   = length(var.subnets) > 0 ? "subnet-id" : "vpc-id"
    values = length(var.subnets) > 0 ? var.subnets : [var.network == "" ? one(data.aws_vpc.default).id : var.network]
  }
}

data "aws_subnet" "candidate" {
  for_each = toset(data.aws_subnets.candidates.ids)

  id = each.value
}

# Asked only for types whose zone is left open.
data "aws_ec2_instance_type_offerings" "zones" {
  for_each = toset([for machine in var.machines : machine.type if machine.zone == ""])

  location_type = "availability-zone-id"

  filter {
    name   = "instance-type"
    values = [each.value]
  }
}

locals {
  network = (
    var.network != "" ? var.network :
    length(var.subnets) > 0 ? try(values(data.aws_subnet.candidate)[0].vpc_id, "") :
    one(data.aws_vpc.default).id
  )

  # The subnets of each zone. Those that are made for public addresses come first
  # for machines that get one, and last for those that do not.
  subnets = {
    for zone in distinct([for subnet in data.aws_subnet.candidate : subnet.availability_zone_id]) : zone => concat(
      [for id, subnet in data.aws_subnet.candidate : id if subnet.availability_zone_id == zone && subnet.map_public_ip_on_launch != var.private],
      [for id, subnet in data.aws_subnet.candidate : id if subnet.availability_zone_id == zone && subnet.map_public_ip_on_launch == var.private],
    )
  }

  zones = {
    for name, machine in var.machines : name => machine.zone != "" ? machine.zone : try([
      for zone in sort(data.aws_ec2_instance_type_offerings.zones[machine.type].locations) : zone if contains(keys(local.subnets), zone)
    ][0], "")
  }

  # Machines that open the same ports share a security group, named after them.
  ports = { for name, machine in var.machines : name => join("-", sort(distinct([for port in machine.ports : tostring(port) if port != 22]))) }
}

# All machines: SSH in, everything out.

resource "aws_security_group" "ssh" {
  name   = local.name
  vpc_id = local.network
  tags   = merge(var.tags, { Name = local.name })
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  for_each = toset(var.ingress_cidrs)

  security_group_id = aws_security_group.ssh.id
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = strcontains(each.value, ":") ? null : each.value
  cidr_ipv6         = strcontains(each.value, ":") ? each.value : null
  tags              = var.tags
}

resource "aws_vpc_security_group_egress_rule" "all" {
  for_each = { ipv4 = "0.0.0.0/0", ipv6 = "::/0" }

  security_group_id = aws_security_group.ssh.id
  ip_protocol       = "-1"
  cidr_ipv4         = each.key == "ipv4" ? each.value : null
  cidr_ipv6         = each.key == "ipv6" ? each.value : null
  tags              = var.tags
}

# Machines that serve: their ports, for the same callers.

resource "aws_security_group" "ports" {
  for_each = toset([for ports in local.ports : ports if ports != ""])

  name   = "${local.name}-ports-${each.value}"
  vpc_id = local.network
  tags   = merge(var.tags, { Name = "${local.name}-ports-${each.value}" })
}

resource "aws_vpc_security_group_ingress_rule" "ports" {
  for_each = merge([
    for ports in keys(aws_security_group.ports) : {
      for pair in setproduct(split("-", ports), var.ingress_cidrs) :
      "${ports}: ${pair[0]} from ${pair[1]}" => { group = ports, port = tonumber(pair[0]), cidr = pair[1] }
    }
  ]...)

  security_group_id = aws_security_group.ports[each.value.group].id
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = strcontains(each.value.cidr, ":") ? null : each.value.cidr
  cidr_ipv6         = strcontains(each.value.cidr, ":") ? each.value.cidr : null
  tags              = var.tags
}
