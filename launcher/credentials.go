package launcher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/levinrun/levin/cluster"
)

// credentials are the keys that a machine is offered, in order. Close ends the
// connection to ssh-agent, whose keys do not work afterwards.
type credentials struct {
	signers []ssh.Signer
	names   []string // where each signer came from
	skipped []string // why a key file was not used
	sock    net.Conn
}

func (c *credentials) Close() {
	if c.sock != nil {
		c.sock.Close()
	}
}

// String says what was offered.
func (c *credentials) String() string {
	return strings.Join(append(append([]string{}, c.names...), c.skipped...), ", ")
}

// credentialsFor collects the keys for t: its key files, then ssh-agent's.
// ssh-agent is used to authenticate here and is never forwarded.
func credentialsFor(ctx context.Context, t cluster.Target, authSock string) (*credentials, error) {
	c := &credentials{}
	for _, name := range t.KeyFiles {
		signer, err := readKey(name)
		var locked *ssh.PassphraseMissingError
		switch {
		case err == nil:
			c.signers = append(c.signers, signer)
			c.names = append(c.names, name)
		case errors.As(err, &locked) && t.Agent:
			c.skipped = append(c.skipped, name+" (encrypted: left to ssh-agent)")
		case errors.As(err, &locked):
			return nil, &cluster.Failure{
				Kind: cluster.Auth, What: fmt.Sprintf("the private key %s is encrypted with a passphrase", name),
				Next: fmt.Sprintf("Unlock it with `ssh-add %s` and use ssh-agent, or name another key.", name), Err: err,
			}
		default:
			return nil, &cluster.Failure{Kind: cluster.Auth, What: fmt.Sprintf("the private key %s cannot be used", name), Err: err}
		}
	}
	if t.Agent {
		if err := c.addAgent(ctx, authSock); err != nil {
			c.skipped = append(c.skipped, err.Error())
		}
	}
	if len(c.signers) == 0 {
		c.Close()
		f := &cluster.Failure{
			Kind: cluster.Auth, What: fmt.Sprintf("there is no key to authenticate to %s with", address(t)),
			Words: strings.Join(c.skipped, ", "),
			Next:  "Name a private key (identity) for the machine, or add one to ssh-agent with ssh-add.",
		}
		return nil, f
	}
	return c, nil
}

func readKey(name string) (ssh.Signer, error) {
	pem, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return ssh.ParsePrivateKey(pem)
}

// addAgent adds the keys that ssh-agent holds.
func (c *credentials) addAgent(ctx context.Context, sock string) error {
	if sock == "" {
		sock = os.Getenv("SSH_AUTH_SOCK")
	}
	if sock == "" {
		return errors.New("no ssh-agent is running (SSH_AUTH_SOCK is not set)")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", sock)
	if err != nil {
		return fmt.Errorf("ssh-agent does not answer: %w", err)
	}
	// An agent that hangs must not outlive the caller's patience.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	signers, err := agent.NewClient(conn).Signers()
	if !stop() {
		return context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return fmt.Errorf("ssh-agent gave no keys: %w", err)
	}
	c.sock = conn
	for _, s := range signers {
		c.signers = append(c.signers, s)
		c.names = append(c.names, "ssh-agent "+ssh.FingerprintSHA256(s.PublicKey()))
	}
	return nil
}
