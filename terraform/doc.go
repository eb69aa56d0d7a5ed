// Package terraform runs Terraform or OpenTofu: it writes roots that people can
// read, initialises each set of providers once, applies and destroys groups with
// bounded concurrency, and stops in two stages. It holds the modules of the clouds,
// and ejects groups as plain Terraform.
//
// It knows nothing of offers, plans or machines: it takes a Module, a Root and
// gives back outputs.
package terraform
