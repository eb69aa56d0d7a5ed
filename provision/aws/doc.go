// Package aws is the cloud of EC2 instances. Terraform creates them (module aws);
// this package says which there are and what they cost, and does through the API
// what must not wait for Terraform: ending a machine, finding and removing what
// carries Levin's tags, looking whether a run would work at all.
//
// The SDK takes credentials from where it always does (the AWS_* variables, the
// profiles of ~/.aws, the metadata service of an instance), and Terraform's
// provider is given the same variables.
package aws
