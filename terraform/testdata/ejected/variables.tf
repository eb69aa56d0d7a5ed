variable "name" {
  description = "Part of the names of keys, firewall rules and the like."
  type        = string
  default     = "demo"
}

variable "ssh_public_key_file" {
  description = "File of the SSH public key that may log in."
  type        = string
  default     = "~/.ssh/id_ed25519.pub"
}

variable "ingress_cidrs" {
  description = "Who may reach port 22 and the declared ports, as CIDRs: your own address, as in 192.0.2.7/32."
  type        = list(string)
  default     = ["192.0.2.1/32"]
}

variable "ttl_seconds" {
  description = "After how many seconds a machine ends itself, whatever it is doing; 0 is never."
  type        = number
  default     = 86400
}
