// Package emulator is a cloud in this process, for tests: the resources of AWS
// and GCP that Levin's modules use, with the real providers' schemas, behind real
// Terraform; and the HTTP APIs that Levin's fast path calls. Its instances are
// local machines, so that work really runs on them.
//
// It is reached in two ways, both given by Env: TF_REATTACH_PROVIDERS makes
// Terraform use it as hashicorp/aws and hashicorp/google, and endpoints make the
// SDKs use it. The cloud lives as long as the test that made it, whatever becomes
// of the levin processes that use it.
//
// It fails closed: an argument, resource or API action that it does not know is
// an error and never a success.
package emulator
