// Package gcp is the cloud of Compute Engine VMs. Terraform creates them (module
// gcp); this package says which there are and what they cost, and does through the
// API what must not wait for Terraform: ending a machine, finding and removing
// what Levin has made, looking whether a run would work at all.
//
// Credentials come from where Google's Terraform provider takes them: the GOOGLE_*
// variables, the application default credentials of gcloud, the metadata service
// of a VM. Terraform is given the same variables.
package gcp
