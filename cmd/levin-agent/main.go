// Command levin-agent is the small static program that Levin puts on machines:
// see package launcher/agent. It also is the process of a local machine.
package main

import (
	"os"

	"github.com/levinrun/levin/launcher/agent"
	"github.com/levinrun/levin/provision/local/machine"
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "machine" {
		os.Exit(machine.Main(args[1:]))
	}
	os.Exit(agent.Main(args, os.Stdin, os.Stdout, os.Stderr))
}
