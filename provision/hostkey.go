package provision

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"

	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/cluster"
)

// hostKey is what a machine is given as its SSH host key. It goes through the
// cloud's hands and into Terraform's state, so it is replaced over the first
// connection (see cluster.Target.Rotate and SetHostKey).
type hostKey struct {
	private string // OpenSSH PEM
	public  string // authorized_keys form
}

func newHostKeys(n int) ([]hostKey, error) {
	keys := make([]hostKey, n)
	for i := range keys {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("making a host key: %w", err)
		}
		block, err := ssh.MarshalPrivateKey(private, "")
		if err != nil {
			return nil, fmt.Errorf("making a host key: %w", err)
		}
		key, err := ssh.NewPublicKey(public)
		if err != nil {
			return nil, fmt.Errorf("making a host key: %w", err)
		}
		keys[i] = hostKey{
			private: string(pem.EncodeToMemory(block)),
			public:  string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(key))),
		}
	}
	return keys, nil
}

// put gives the key to a machine's module.
func (k hostKey) put(extra map[string]any) {
	extra["host_key"], extra["host_key_public"] = k.private, k.public
}

// SetHostKey writes down which host keys a machine is known by from now on, in
// authorized_keys form, one a line. While its key is being replaced it is known by
// two.
func (p *Provisioner) SetHostKey(name, hostKeys string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.machines[name]
	if m == nil || !m.stored {
		return fmt.Errorf("run %s has no machine %s", p.cfg.Run, name)
	}
	row := m.row
	row.HostKey = hostKeys
	if err := p.commit(cluster.Change{Machines: []cluster.Machine{row}}); err != nil {
		return fmt.Errorf("writing down the host key of machine %s: %w", name, err)
	}
	m.row = row
	return nil
}
