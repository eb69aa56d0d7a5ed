variable "run_id" {
  description = "The run these machines belong to."
  type        = string
}

variable "machines" {
  description = "What to create, by machine name."
  type = map(object({
    type  = string
    zone  = string
    disk  = number
    spot  = bool
    image = string
    ports = list(number)
    extra = object({
      # A machine that has no connection and no process for this long ends itself.
      lease_seconds = number
    })
  }))
}

variable "ssh_public_key" {
  description = "The one key that may log in, in authorized_keys form."
  type        = string
}

variable "ingress_cidrs" {
  description = "Who may reach port 22. Local machines listen on loopback only."
  type        = list(string)
}

variable "tags" {
  description = "Tags of every resource. Local machines carry their names only."
  type        = map(string)
}

variable "ttl_seconds" {
  description = "After how long the cloud itself ends a machine. Here the lease does that."
  type        = number
}
