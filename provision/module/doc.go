// Package module is a cloud that the user has written: a Terraform module with
// Levin's interface, and a CSV file of what can be had. docs/clouds.md is the
// contract.
package module
