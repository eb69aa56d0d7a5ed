package archtest

// house is a set of rules about a module's tree. Folders are slash-separated and
// relative to the module; a folder stands for everything below it, and where two
// fit, the longer one counts.
type house struct {
	module string

	// rooms says which folders the packages of a folder may import, beside their
	// own. Every package belongs to a room.
	rooms map[string][]string

	// sealed folders are imported from outside only by the folders listed.
	sealed map[string][]string

	// banned words appear in no Go file, each with the reason.
	banned map[string]string

	// drawers are names that no package has: they say nothing of what is inside.
	drawers []string
}

// levin is the import rule of docs/architecture.md:
//
//	cmd → internal/cli → {flow, provision, launcher} → {terraform, configs} → cluster
//
// Rooms on one level do not know each other. internal/cli joins them.
func levin() house {
	level1 := []string{"cluster"}
	level2 := append([]string{"configs", "terraform"}, level1...)
	level3 := append([]string{"flow", "provision", "launcher"}, level2...)
	return house{
		module: "github.com/levinrun/levin",
		rooms: map[string][]string{
			"cluster":      nil,
			"configs":      level1,
			"terraform":    level1,
			"flow":         level2,
			"provision":    level2,
			"launcher":     level2,
			"internal/ui":  level1,
			"internal/cli": append([]string{"internal/ui"}, level3...),
			"cmd/levin":    {"internal/cli", "cluster"},

			// The program on machines is small because these know almost nothing.
			"launcher/agent":          {"cluster"},
			"provision/local/machine": {"cluster"},
			"cmd/levin-agent":         {"launcher/agent", "provision/local/machine"},

			// Nothing may import these, for no room lists them.
			"examples":          nil,
			"internal/archtest": nil,
			"internal/e2e":      append([]string{"internal/cli"}, level3...),
			"scripts":           level3, // measures the rooms from outside
		},
		sealed: map[string][]string{
			"internal/ui":      {"internal/cli"},                                                      // engines report events; only the command line prints
			"provision/local":  {"internal/cli", "cmd/levin-agent", "scripts", "provision/cloudtest"}, // the emulator's instances are local machines
			"provision/ssh":    {"internal/cli"},
			"provision/aws":    {"internal/cli"},
			"provision/gcp":    {"internal/cli"},
			"provision/module": {"internal/cli"},
		},
		banned: map[string]string{
			// In two pieces, so that this file does not trip over itself.
			"Insecure" + "IgnoreHostKey": "host keys are pinned, never skipped",
		},
		drawers: []string{"util", "utils", "common", "helper", "helpers", "misc", "shared"},
	}
}
