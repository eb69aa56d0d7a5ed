# What this module is told.
#
#   the interface of every module of Levin:
#     run_id, machines, ssh_public_key, ingress_cidrs, tags, ttl_seconds
#   given to modules that declare it:
#     group_id         makes names unique: a run may have several groups in one region
#   of this module alone, all optional:
#     network          network name; "" is the project's network "default"
#     subnets          subnetwork names or paths to choose from; [] is the region's own of the network
#     private          true: no public addresses
#     role             e-mail of a service account; "" is none
#     disk_type        of boot disks; "" is what fits the machine type
#
# Project, region and credentials are the provider's: this module holds no provider
# block.

variable "run_id" {
  description = "The run these machines belong to."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]{1,48}$", var.run_id))
    error_message = "Names on GCP are short: run_id may have at most 48 lower-case letters, digits and dashes."
  }
}

variable "group_id" {
  description = "Part of the names of what has to have a name of its own in the project; empty is the run."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^[a-z0-9-]{0,48}$", var.group_id))
    error_message = "Names on GCP are short: group_id may have at most 48 lower-case letters, digits and dashes."
  }
}

variable "machines" {
  description = "What to create, by machine name."
  type = map(object({
    type  = string       # n1-standard-8
    zone  = string       # us-central1-a; "" is the first zone of the provider's region
    disk  = number       # GiB of the boot disk; what an image needs is the least
    spot  = bool         # a spot VM
    image = string       # image, or family as PROJECT/FAMILY; "" is Ubuntu by arch, with GPU drivers where there is a GPU
    ports = list(number) # TCP ports to open beside 22
    extra = object({
      component         = optional(string, "")      # whose machine it is
      arch              = optional(string, "amd64") # or arm64
      gpu               = optional(string, "")      # model, T4; "" is none
      gpus              = optional(number, 0)       # how many; read for n1 types only, other types have theirs built in
      nodes             = optional(number, 1)       # more than one: the machines of the component stand close together
      unreached_seconds = optional(number, 0)       # powers off after so long if nobody ever reached it; 0 is never
      host_key          = optional(string, "")      # its SSH host key, an ed25519 private key in OpenSSH form; "": it makes its own
      host_key_public   = optional(string, "")      # the public half, in authorized_keys form
    })
  }))

  validation {
    condition     = alltrue([for machine in var.machines : contains(["amd64", "arm64"], machine.extra.arch)])
    error_message = "The arch of a machine is amd64 or arm64."
  }

  validation {
    condition     = alltrue([for name in keys(var.machines) : can(regex("^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$", name))])
    error_message = "On GCP a machine's name begins with a letter and has at most 63 lower-case letters, digits and dashes: ${join(", ", [for name in keys(var.machines) : name if !can(regex("^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$", name))])}."
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
  description = "Labels of everything that can have some; what a label's value cannot hold becomes an underscore. Of a machine, later changes of levin-expires are left to whoever extends its life."
  type        = map(string)
}

variable "ttl_seconds" {
  description = "After how long GCP deletes a machine, whatever it is doing, because that cannot be moved while it runs; 0 is never."
  type        = number

  validation {
    condition     = var.ttl_seconds == 0 || (var.ttl_seconds >= 30 && var.ttl_seconds <= 120 * 24 * 3600)
    error_message = "GCP limits how long a machine runs to 30 seconds at least and 120 days at most."
  }
}

variable "network" {
  description = "Network to put machines into, by name; empty is the project's network \"default\"."
  type        = string
  default     = ""
}

variable "subnets" {
  description = "Subnetworks by name or path (projects/P/regions/R/subnetworks/S); a machine gets the first that its region can have, empty is the region's own of the network."
  type        = list(string)
  default     = []
}

variable "private" {
  description = "Give machines no public address. They are reached by their private one and need a way to the internet of their own (NAT)."
  type        = bool
  default     = false
}

variable "role" {
  description = "E-mail of the service account of machines; empty is none: then they hold no cloud credentials."
  type        = string
  default     = ""
}

variable "disk_type" {
  description = "Type of boot disks: pd-balanced, pd-ssd, hyperdisk-balanced …; empty is pd-balanced, or hyperdisk-balanced for the machine types that take nothing else."
  type        = string
  default     = ""
}
