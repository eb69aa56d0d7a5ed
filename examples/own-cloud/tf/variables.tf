# The interface of every module of Levin. A module declares all of these, whether
# it uses them or not.

variable "run_id" {
  description = "The run these machines belong to."
  type        = string
}

variable "machines" {
  description = "What to create, by machine name."
  type = map(object({
    type  = string       # of offers.csv
    zone  = string       # of offers.csv
    disk  = number       # GiB that are asked for; 0 leaves it to the module
    spot  = bool         # may be taken back
    image = string       # of the settings
    ports = list(number) # to open beside 22
    extra = object({
      component = optional(string, "") # whose machine it is
    })
  }))
}

variable "ssh_public_key" {
  description = "The one key that may log in, in authorized_keys form."
  type        = string
}

variable "ingress_cidrs" {
  description = "Who may reach port 22. Unused: these machines listen on loopback alone."
  type        = list(string)
}

variable "tags" {
  description = "Tags of whatever can have some: levin-run, levin-owner, levin-expires. Unused: there is nothing to put them on."
  type        = map(string)
}

variable "ttl_seconds" {
  description = "After how long a machine ends by itself; 0 is never."
  type        = number
}
