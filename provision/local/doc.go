// Package local is the cloud that every computer has: its machines are processes
// on this one, made by real Terraform and reached by real SSH. The Terraform
// provider is part of this program and is served to Terraform over a socket, so
// nothing is downloaded. The process of a machine is in package machine.
package local
