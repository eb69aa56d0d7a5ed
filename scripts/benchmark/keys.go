package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/terraform"
)

// key is a key pair whose private half is in a file.
type key struct {
	file   string
	public string // authorized_keys form
	signer ssh.Signer
}

func newKey(file string) (key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return key{}, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return key{}, err
	}
	block, err := ssh.MarshalPrivateKey(private, "bench")
	if err != nil {
		return key{}, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return key{}, err
	}
	k := key{file: file, signer: signer, public: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))}
	return k, os.WriteFile(file, pem.EncodeToMemory(block), 0o600)
}

// reattach is the value of TF_REATTACH_PROVIDERS, by which Terraform finds a
// provider that runs already.
func reattach(p terraform.Providers) map[string]any {
	out := map[string]any{}
	for source, r := range p.Reattach {
		out[source] = map[string]any{
			"Protocol": r.Protocol, "ProtocolVersion": r.ProtocolVersion, "Pid": r.PID, "Test": true,
			"Addr": map[string]any{"Network": r.Network, "String": r.Address},
		}
	}
	return out
}
