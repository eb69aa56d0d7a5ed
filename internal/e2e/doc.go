// Package e2e holds the end-to-end tests: the built binary against real
// Terraform, the local cloud and a real sshd. Every test ends with the same
// check of the promises about money and safety (checkClean).
package e2e
