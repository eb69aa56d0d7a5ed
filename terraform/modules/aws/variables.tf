# What this module is told.
#
#   the interface of every module of Levin:
#     run_id, machines, ssh_public_key, ingress_cidrs, tags, ttl_seconds
#   given to modules that declare it:
#     group_id         makes names unique: a run may have several groups in one region
#   of this module alone, all optional:
#     network          VPC id; "" is the region's default VPC
#     subnets          subnet ids to choose from; [] is every subnet of the network
#     private          true: no public addresses
#     role             IAM instance profile; "" is none
#     disk_type        of root disks; "" is gp3
#
# Region and credentials are the provider's: this module holds no provider block.

variable "run_id" {
  description = "The run these machines belong to."
  type        = string
}

variable "group_id" {
  description = "Part of the names of what has to have a name of its own in the region; empty is the run."
  type        = string
  default     = ""
}

variable "machines" {
  description = "What to create, by machine name."
  type = map(object({
    type  = string       # g4dn.xlarge
    zone  = string       # zone id, use1-az1; "" is one that has the type and a subnet
    disk  = number       # GiB of the root disk; what an image needs is the least
    spot  = bool         # a spot instance, at the on-demand price at most
    image = string       # AMI id; "" is Ubuntu by arch, with GPU drivers where there is a GPU
    ports = list(number) # TCP ports to open beside 22
    extra = object({
      component         = optional(string, "")      # whose machine it is
      arch              = optional(string, "amd64") # or arm64
      gpu               = optional(string, "")      # model, T4; "" is none
      gpus              = optional(number, 0)       # how many
      nodes             = optional(number, 1)       # more than one: the machines of the component stand close together
      unreached_seconds = optional(number, 0)       # powers off after so long if nobody ever reached it; 0: after ttl_seconds
      host_key          = optional(string, "")      # its SSH host key, an ed25519 private key in OpenSSH form; "": it makes its own
      host_key_public   = optional(string, "")      # the public half, in authorized_keys form
    })
  }))

  validation {
    condition     = alltrue([for machine in var.machines : contains(["amd64", "arm64"], machine.extra.arch)])
    error_message = "The arch of a machine is amd64 or arm64."
  }
}

variable "ssh_public_key" {
  description = "The one key that may log in, in authorized_keys form."
  type        = string
}

variable "ingress_cidrs" {
  description = "Who may reach port 22 and the declared ports, as IPv4 or IPv6 CIDRs. Nobody else reaches any port."
  type        = list(string)

  validation {
    condition     = alltrue([for cidr in var.ingress_cidrs : can(cidrhost(cidr, 0))])
    error_message = "Each of ingress_cidrs must be a CIDR, such as 192.0.2.7/32."
  }
}

variable "tags" {
  description = "Tags of every resource. Of a machine, later changes of levin-expires are left to whoever extends its life."
  type        = map(string)
}

variable "ttl_seconds" {
  description = "After how long a machine that nobody extends powers off, which terminates it; 0 is never."
  type        = number
}

variable "network" {
  description = "VPC to put machines into; empty is the region's default VPC."
  type        = string
  default     = ""
}

variable "subnets" {
  description = "Subnets to choose from, by the machine's zone; empty is every subnet of the network. Ids that the region does not know are passed over."
  type        = list(string)
  default     = []
}

variable "private" {
  description = "Give machines no public address. They are reached by their private one and need a way to the internet of their own (NAT)."
  type        = bool
  default     = false
}

variable "role" {
  description = "IAM instance profile of machines; empty is none: then they hold no cloud credentials."
  type        = string
  default     = ""
}

variable "disk_type" {
  description = "Type of root disks: gp3, gp2, io2 …; empty is gp3."
  type        = string
  default     = ""
}
