// Package gcp is the cloud of Compute Engine VMs. Terraform creates them (module
// gcp); this package says which there are and what they cost, and does through the
// API what must not wait for Terraform: ending a machine, finding and removing what
// carries Levin's labels, looking whether a run would work at all.
//
// Credentials come from where Terraform's provider takes them too, in the same
// order: an access token or a key in the environment, then the application default
// credentials (GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default
// login`, the metadata server of a VM).
package gcp
