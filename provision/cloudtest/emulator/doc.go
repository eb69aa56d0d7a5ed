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
// An instance has an address of its own on loopback, where its SSH server has port
// 22 as in a cloud, and a metadata service that is named in the environment of its
// processes. Its folder is the machine's (LEVIN_MACHINE_DIR), and stands for what
// systemd and sshd would do: a time in the file expiry (RFC 3339) is when it powers
// itself off, and a key in the file hostkey becomes its host key when the machine's
// process gets SIGHUP.
//
// It fails closed: an argument, resource or API action that it does not know is
// an error and never a success.
package emulator
