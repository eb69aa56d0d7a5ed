// Command levin runs apps of several components, each on the machine it needs.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/levinrun/levin/internal/cli"
)

func main() {
	world, err := cli.OSWorld()
	if err != nil {
		fmt.Fprintln(os.Stderr, "levin:", err)
		os.Exit(1)
	}
	os.Exit(cli.Main(context.Background(), world))
}
