// Package cli is the command line: one file a command, each an options struct
// and a function that does the work. It is the only room that knows every other
// one; it joins them through the interfaces they declare.
package cli
