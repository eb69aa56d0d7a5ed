//go:build !linux

package terraform

// killStrays does nothing: here a process cannot be found by its environment.
// What Terraform has started ends by itself when it notices that Terraform has.
func killStrays(string) {}
