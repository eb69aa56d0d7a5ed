package agent

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"
)

const usage = `levin-agent runs on machines that Levin uses; Levin starts it.

  start      --machine NAME --lease TTL [--power-off] [--notice aws|gcp] [--home DIR]   make sure that an agent serves the machine
  connect    --machine NAME [--home DIR]   join stdio to it
  digest                                   print the sha256 of this binary
  version                                  print its version
`

// options are the flags of start, serve and connect.
type options struct {
	machine  string
	home     string
	lease    time.Duration
	powerOff bool
	notice   string // metadata service that tells when the machine is taken back; "" is none
	detached bool   // serve: lock, listener and ready pipe were inherited
}

// Main runs one verb of the agent and gives the process its exit code. It
// changes the process (its folder, its signals), so it is for a main function.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	verb, rest := args[0], args[1:]
	var o options
	if err := o.parse(verb, rest, stderr); err != nil {
		return 2
	}
	var err error
	switch verb {
	case "start":
		var info Info
		if info, err = start(o); err == nil {
			err = json.NewEncoder(stdout).Encode(info)
		}
	case "serve":
		err = serve(o, stdout)
	case "connect":
		err = connect(o, stdin, stdout)
	case "supervise":
		err = supervise(stdin)
	case "root":
		err = newHost().verb(context.Background(), rest, stdin)
	case "digest":
		err = printDigest(stdout)
	case "version":
		_, err = fmt.Fprintln(stdout, version())
	default:
		fmt.Fprintf(stderr, "levin-agent: unknown verb %q\n\n%s", verb, usage)
		return 2
	}
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "levin-agent: %s: %v\n", verb, err)
	if errors.Is(err, errNoAgent) {
		return ExitNoAgent
	}
	return 1
}

func (o *options) parse(verb string, args []string, stderr io.Writer) error {
	switch verb {
	case "start", "serve", "connect":
	default:
		return nil
	}
	flags := flag.NewFlagSet("levin-agent "+verb, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.machine, "machine", "", "name of the machine")
	flags.StringVar(&o.home, "home", "", "folder of all agents (default: where the binary lies, else ~/.levin-agent)")
	if verb != "connect" {
		flags.DurationVar(&o.lease, "lease", 0, "how long the machine is wanted if nobody renews it")
		flags.StringVar(&o.notice, "notice", "", "metadata service that tells when the cloud takes the machine back: aws or gcp")
		flags.BoolVar(&o.powerOff, "power-off", false, "end the whole machine, not only the agent, when it is not wanted any more")
	}
	if verb == "serve" {
		flags.BoolVar(&o.detached, "detached", false, "used by start")
	}
	err := flags.Parse(args)
	switch {
	case err != nil:
		return err
	case flags.NArg() > 0:
		err = fmt.Errorf("levin-agent: %s takes no argument %q", verb, flags.Arg(0))
	case checkLabel("machine", o.machine) != nil:
		err = fmt.Errorf("levin-agent: --machine %q is not a DNS label", o.machine)
	case o.notice != "" && o.notice != noticeAWS && o.notice != noticeGCP:
		err = fmt.Errorf("levin-agent: --notice is aws or gcp, not %q", o.notice)
	case verb != "connect" && o.lease <= 0:
		err = fmt.Errorf("levin-agent: --lease has to be more than nothing")
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
	}
	return err
}

// version is the module's version, or the revision it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version
}

func printDigest(stdout io.Writer) error {
	digest, err := ownDigest()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, digest)
	return err
}

// ownDigest is the digest of the running binary.
func ownDigest() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding the agent's own binary: %w", err)
	}
	f, err := os.Open(exe)
	if err != nil {
		return "", fmt.Errorf("reading the agent's own binary: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("reading the agent's own binary: %w", err)
	}
	return digestOf(h.Sum(nil)), nil
}
