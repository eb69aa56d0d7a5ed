// Package provision turns resources into offers, offers into a plan, a plan into
// Terraform roots, and roots into machines; it stops machines, destroys groups
// and says what is left.
//
// NewPlan chooses offers. A Provisioner made by New gives a run its machines
// (Create), takes them away (Stop, StopAll) and tells when all is gone (Wait); one
// made by Recover cleans up after a controller that died. Clouds are its only
// view of the world beside the Terraform runner; see Cloud for their contract and
// package cloudtest for the suite that holds them to it.
package provision
