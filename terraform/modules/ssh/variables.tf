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
      address  = string
      port     = number
      user     = string
      host_key = string
    })
  }))
}

variable "ssh_public_key" {
  description = "Unused: own hosts know their users' keys already."
  type        = string
}

variable "ingress_cidrs" {
  description = "Who may reach port 22. The firewall of an own host is its owner's."
  type        = list(string)
}

variable "tags" {
  description = "Tags of every resource. A slot carries its run only."
  type        = map(string)
}

variable "ttl_seconds" {
  description = "After how long the cloud itself ends a machine. Own hosts are never ended."
  type        = number
}
