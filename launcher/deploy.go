package launcher

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher/agent"
	"github.com/levinrun/levin/launcher/agentbin"
)

// maxAnswer bounds what a machine may say while the agent is put there.
const maxAnswer = 1 << 20

// Binary is the agent's program for one platform, as a local file.
type Binary = agentbin.Binary

// AgentSource finds the agent's program for a platform.
type AgentSource func(ctx context.Context, goos, goarch string) (Binary, error)

// FindAgent is the usual AgentSource: the embedded binary (release builds), else
// one beside the executable, else one built from this module with the Go
// toolchain and kept in the folder cache. When none can be had, the error says
// what to do.
func FindAgent(cache string) AgentSource {
	return (&agentbin.Finder{Cache: cache}).Find
}

// startAgent has the agent answer on the machine, and puts its binary there first
// when it is missing. With resume, an agent that is gone for good is errGone.
func (l *link) startAgent(ctx context.Context, source AgentSource, resume bool) error {
	// Whatever hangs here, hangs on the connection.
	stop := context.AfterFunc(ctx, func() { l.conn.Close() })
	defer stop()
	bin, found, err := l.tryStart(ctx, source, resume)
	if err == nil && !found {
		if err = l.upload(ctx, bin); err == nil {
			if bin, found, err = l.tryStart(ctx, source, resume); err == nil && !found {
				err = errors.New("the agent was put on the machine and is not there")
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	if l.info.Protocol != agent.ProtocolVersion || l.info.Digest != bin.Digest {
		// The digest was checked before the start, so this is an older agent that
		// serves the same machine.
		return &cluster.Failure{Kind: cluster.BadRequest,
			What: fmt.Sprintf("machine %s is served by another version of the agent (protocol %d, %s)", l.script.machine, l.info.Protocol, l.info.Digest),
			Next: "Use the version of levin that started it, or stop it with `levin down`."}
	}
	return nil
}

// errGone says that the agent's folder is not on the machine any more.
var errGone = errors.New("the agent and its folder are gone from the machine: its lease ran out, or it was removed")

// tryStart runs the start script. It gives the binary that fits the machine, and
// whether it was there: if so, the agent answers.
func (l *link) tryStart(ctx context.Context, source AgentSource, resume bool) (Binary, bool, error) {
	c, err := l.exec(ctx, l.script.start(resume))
	if err != nil {
		return Binary{}, false, err
	}
	defer c.Close()
	answer := bufio.NewReader(io.LimitReader(c, maxAnswer))
	uname, err := readMark(answer)
	if err != nil {
		return Binary{}, false, explainExit(ctx, c, fmt.Errorf("asking the machine what it is: %w", err))
	}
	goos, goarch, err := platform(uname)
	if err != nil {
		return Binary{}, false, err
	}
	bin, err := source(ctx, goos, goarch)
	if err != nil {
		return Binary{}, false, notHad(err, goos, goarch)
	}
	hex, _ := strings.CutPrefix(bin.Digest, "sha256:")
	if !plainHex.MatchString(hex) {
		return Binary{}, false, fmt.Errorf("the agent's digest %q is not a sha256 digest", bin.Digest)
	}
	if _, err := io.WriteString(c, hex+"\n"); err != nil {
		return Binary{}, false, explainExit(ctx, c, err)
	}
	rest, err := io.ReadAll(answer)
	if err == nil {
		err = c.wait(ctx)
	}
	if err != nil {
		return Binary{}, false, badExit("the agent does not start on machine "+l.script.machine, "", err)
	}
	switch text := strings.TrimSpace(string(rest)); text {
	case absentMark:
		return bin, false, nil
	case goneMark:
		return bin, false, errGone
	default:
		if err := json.Unmarshal([]byte(text), &l.info); err != nil {
			return bin, false, fmt.Errorf("the agent's answer to start cannot be read: %w (%.200q)", err, text)
		}
		l.connect.Store(new(l.script.connectWith(hex)))
		return bin, true, nil
	}
}

// readMark reads past noise to the line that says what the machine is.
func readMark(r *bufio.Reader) (string, error) {
	for {
		line, err := r.ReadString('\n')
		if i := strings.Index(line, machineMark); i >= 0 && err == nil {
			return strings.TrimSpace(line[i+len(machineMark):]), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// explainExit prefers the words of a command that ended badly to the error that
// its end caused here.
func explainExit(ctx context.Context, c *execConn, err error) error {
	var exit *exitError
	if errors.As(c.wait(ctx), &exit) && exit.status > 0 {
		return fmt.Errorf("%w (%s)", err, exit.Error())
	}
	return err
}

// platform turns what uname -sm says into Go's names.
func platform(uname string) (goos, goarch string, err error) {
	system, machine, _ := strings.Cut(uname, " ")
	goos = map[string]string{"Linux": "linux", "Darwin": "darwin"}[system]
	goarch = map[string]string{"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}[machine]
	if goos == "" || goarch == "" {
		return "", "", &cluster.Failure{Kind: cluster.BadInput,
			What: fmt.Sprintf("the machine is a %.60q, for which there is no agent", uname),
			Next: "Levin runs work on Linux and macOS, on amd64 and arm64."}
	}
	return goos, goarch, nil
}

// upload puts the binary on the machine.
func (l *link) upload(ctx context.Context, bin Binary) error {
	f, err := os.Open(bin.Path)
	if err != nil {
		return fmt.Errorf("reading the agent's binary: %w", err)
	}
	defer f.Close()
	hex := strings.TrimPrefix(bin.Digest, "sha256:")
	c, err := l.exec(ctx, l.script.upload(hex))
	if err != nil {
		return err
	}
	defer c.Close()
	// gzip writes some hundred bytes at a time. Each write to a channel is a packet,
	// and thousands of small ones keep sshd busy for seconds.
	packets := bufio.NewWriterSize(c, 32<<10)
	zw := gzip.NewWriter(packets)
	_, err = io.Copy(zw, f)
	err = errors.Join(err, zw.Close(), packets.Flush(), c.CloseWrite())
	// The far end says more than a broken pipe does.
	if exit := c.wait(ctx); exit != nil {
		err = exit
	}
	if err != nil {
		return badExit("the agent could not be put on machine "+l.script.machine,
			"The agent needs about 10 MB in the home folder, which must allow programs to run.", err)
	}
	return nil
}

// badExit tells a command that failed, which it will do again, from a connection
// that broke under it.
func badExit(what, next string, err error) error {
	var exit *exitError
	if errors.As(err, &exit) && exit.status > 0 {
		return &cluster.Failure{Kind: cluster.Provisioning, What: what, Err: err, Next: next}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// notHad says that there is no agent to put on the machine, which trying again
// will not change.
func notHad(err error, goos, goarch string) error {
	if cluster.KindOf(err) != "" || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &cluster.Failure{Kind: cluster.Provisioning, What: fmt.Sprintf("there is no agent for %s/%s", goos, goarch), Err: err}
}
