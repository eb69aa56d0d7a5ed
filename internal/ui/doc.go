// Package ui shows events to people and to programs. Each sink takes the same
// events: JSON prints one object a line, Text prints plain lines, Live keeps one
// line per component at the foot of a terminal and lets logs scroll above it.
//
// Nothing but internal/cli imports this package; engines report events and never
// print.
package ui
