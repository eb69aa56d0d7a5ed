package machine

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// readHostKey gives the host key that the folder holds, or a fresh one.
func readHostKey(dir string) (ssh.Signer, error) {
	pem, err := os.ReadFile(filepath.Join(dir, keyName))
	if errors.Is(err, fs.ErrNotExist) {
		_, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			return nil, err
		}
		return ssh.NewSignerFromSigner(private)
	}
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return nil, fmt.Errorf("the host key: %w", err)
	}
	return signer, nil
}

// changeHostKey takes the host key that was put into the folder for connections
// from now on. One that cannot be read changes nothing: those who connect must find
// a key that they were told of.
func (m *host) changeHostKey(log *slog.Logger) {
	if _, err := os.Stat(filepath.Join(m.dir, keyName)); err != nil {
		log.Info("there is no new host key", "error", err)
		return
	}
	signer, err := readHostKey(m.dir)
	if err != nil {
		log.Error("the host key stays", "error", err)
		return
	}
	m.server.hostKey.Store(&signer)
	m.info.HostKey = authorizedForm(signer)
	if err := m.writeInfo(); err != nil {
		log.Error("the new host key is not written down", "error", err)
	}
}

// authorizedForm is the public half in authorized_keys form.
func authorizedForm(key ssh.Signer) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))
}

// listenLoopback listens where the machine is told to, or anywhere on 127.0.0.1.
func listenLoopback(address string) (net.Listener, error) {
	if address == "" {
		return net.Listen("tcp", "127.0.0.1:0")
	}
	to, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	if !to.IP.IsLoopback() {
		return nil, fmt.Errorf("%s is not on loopback", address)
	}
	return net.ListenTCP("tcp", to)
}
