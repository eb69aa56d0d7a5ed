// Package cluster is the vocabulary of Levin and the state behind it: runs,
// groups, machines, calls, attempts, events, the ledger, and the Store that
// keeps them.
//
// Every other room speaks in these types; this package imports none of them.
// State moves only along the arrows drawn beside each state type. A Store
// refuses any other move, so an illegal transition is an error at the moment it
// is written and not a puzzle later.
package cluster
