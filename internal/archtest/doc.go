// Package archtest holds the rules of the house as tests: who may import whom,
// and what appears nowhere. It has no code of its own; see rules_test.go for the
// rules and arch_test.go for the test that holds the tree to them.
package archtest
