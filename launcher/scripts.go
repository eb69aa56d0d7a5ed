package launcher

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/levinrun/levin/cluster"
)

// What the scripts print for us, each on a line of its own. Whatever comes before
// the first of them is noise from the login shell's start-up files.
const (
	machineMark = "levin-machine "     // followed by what uname -sm says
	absentMark  = "levin-absent"       // the agent's binary is not there
	goneMark    = "levin-gone"         // the agent's folder is not there any more
	connectMark = "levin-connecting\n" // the agent's bytes follow
	maxNoise    = 64 << 10
)

// scripts are the only shell lines that Levin runs on a machine. They are
// constants with checked values put in: a folder of plain characters, a DNS
// label, a duration, a hexadecimal digest. They run in /bin/sh whatever the login
// shell is, so none of them may contain a single quote.
type scripts struct {
	home    string // "$HOME/.levin-agent", for use in double quotes
	machine string
	flags   string
}

var (
	plainFolder = regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$`)
	plainHex    = regexp.MustCompile(`^[0-9a-f]{64}$`)
	plainLabel  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

func newScripts(machine string, t cluster.Target, lease time.Duration) (scripts, error) {
	home := t.Home
	if home == "" {
		home = ".levin-agent"
	}
	if !plainFolder.MatchString(home) || slices.Contains(strings.Split(home, "/"), "..") {
		return scripts{}, &cluster.Failure{Kind: cluster.BadInput,
			What: fmt.Sprintf("%q cannot be the agent's folder: it must be a relative path of letters, digits, dots, dashes and underscores", home)}
	}
	if !plainLabel.MatchString(machine) {
		return scripts{}, &cluster.Failure{Kind: cluster.BadInput, What: fmt.Sprintf("%q cannot be a machine's name: it must be a DNS label", machine)}
	}
	s := scripts{home: "$HOME/" + home, machine: machine}
	s.flags = fmt.Sprintf("--machine %s --lease %s", machine, lease)
	if t.PowerOff {
		s.flags += " --power-off"
	}
	switch t.Notice {
	case "":
	case "aws", "gcp":
		s.flags += " --notice " + t.Notice
	default:
		return scripts{}, &cluster.Failure{Kind: cluster.BadInput, What: fmt.Sprintf("%q is no metadata service that the agent knows", t.Notice)}
	}
	return s, nil
}

// start says what machine this is, reads the digest that fits it (it cannot be
// known before), and becomes `levin-agent start`. With resume an agent that is
// gone for good is not started again: its work is lost.
func (s scripts) start(resume bool) string {
	gone := ""
	if resume {
		gone = fmt.Sprintf(`[ -d "%s/machines/%s" ] || { echo %s; exit 0; }; `, s.home, s.machine, goneMark)
	}
	return sh(fmt.Sprintf(`echo "%s$(uname -sm)"; read -r d || exit 1; %s`+
		`if [ -x "%s/bin/$d" ]; then exec "%s/bin/$d" start %s; fi; echo %s`,
		machineMark, gone, s.home, s.home, s.flags, absentMark))
}

// upload reads the gzipped binary from stdin and puts it in place once it has
// itself said that it is what it should be.
func (s scripts) upload(hex string) string {
	return sh(fmt.Sprintf(`umask 077; mkdir -p "%[1]s/bin" || exit 1; t="%[1]s/bin/.new-$$"; trap "rm -f \"$t\"" EXIT; `+
		`gzip -dc > "$t" && chmod 700 "$t" || exit 1; s=$("$t" digest) || exit 1; `+
		`if [ "$s" != sha256:%[2]s ]; then echo "its digest on the machine is $s" >&2; exit 1; fi; `+
		`mv -f "$t" "%[1]s/bin/%[2]s"`, s.home, hex))
}

// connectWith joins a channel to the agent whose binary has this digest.
func (s scripts) connectWith(hex string) string {
	return sh(fmt.Sprintf(`echo %s; exec "%s/bin/%s" connect --machine %s`, strings.TrimSpace(connectMark), s.home, hex, s.machine))
}

func sh(script string) string { return "exec /bin/sh -c '" + script + "'" }
