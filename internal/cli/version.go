package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion(d *deps) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			v := Version()
			if d.json {
				return json.NewEncoder(d.Stdout).Encode(map[string]string{
					"version": v, "go": runtime.Version(), "platform": hostOS + "/" + hostArch,
				})
			}
			_, err := fmt.Fprintf(d.Stdout, "levin %s %s %s/%s\n", v, runtime.Version(), hostOS, hostArch)
			return err
		},
	}
}

// Version is the module's version, with the commit for a build from a checkout.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v += "-" + s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return v
}
