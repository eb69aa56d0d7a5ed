package agent

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// HostKey is the host key that the machine's SSH server is to show instead of
// the one it was made with. It is made on the machine and never leaves it.
type HostKey struct {
	Key    string `json:"key"`    // its public half, in authorized_keys form
	Active bool   `json:"active"` // the server was told to show it
}

const ed25519Type = "ssh-ed25519"

// postHostKey prepares a host key. Asked again it is the same one, so that a
// controller that was killed goes on where it was.
func (s *server) postHostKey(w http.ResponseWriter, r *http.Request) error {
	s.machine.Lock()
	defer s.machine.Unlock()
	var key HostKey
	if readJSON(s.layout.path(hostKeyName), &key) == nil && key.Key != "" {
		return sendJSON(w, key)
	}
	public, private, err := newHostKey()
	if err != nil {
		return err
	}
	if dir := localMachine(); dir != "" {
		err = writeWhole(filepath.Join(dir, "hostkey.new"), private)
	} else {
		err = asRoot(r.Context(), private, "stage-host-key")
	}
	if err == nil {
		key = HostKey{Key: public}
		err = writeJSON(s.layout.path(hostKeyName), key)
	}
	if err != nil {
		return fmt.Errorf("preparing a host key: %w", err)
	}
	return sendJSON(w, key)
}

// postHostKeyUse has the SSH server show the key that was prepared.
func (s *server) postHostKeyUse(w http.ResponseWriter, r *http.Request) error {
	s.machine.Lock()
	defer s.machine.Unlock()
	var key HostKey
	if readJSON(s.layout.path(hostKeyName), &key) != nil || key.Key == "" {
		return conflict("no host key was prepared")
	}
	var err error
	if dir := localMachine(); dir != "" {
		err = useLocalKey(dir)
	} else {
		err = asRoot(r.Context(), nil, "use-host-key", key.Key)
	}
	if err == nil {
		key.Active = true
		err = writeJSON(s.layout.path(hostKeyName), key)
	}
	if err != nil {
		return fmt.Errorf("putting the host key in place: %w", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// useLocalKey has a local machine read its new key.
func useLocalKey(dir string) error {
	pid, err := strconv.Atoi(os.Getenv("LEVIN_MACHINE_PID"))
	if err != nil || pid <= 1 {
		return fmt.Errorf("LEVIN_MACHINE_PID is %q", os.Getenv("LEVIN_MACHINE_PID"))
	}
	if err := ignoreGone(os.Rename(filepath.Join(dir, "hostkey.new"), filepath.Join(dir, "hostkey"))); err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGHUP)
}

// newHostKey makes an ed25519 key: the public half in authorized_keys form, the
// private one in OpenSSH's own, which every sshd reads:
// https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.key
func newHostKey() (public string, private []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		return "", nil, err
	}
	var check [4]byte
	if _, err := rand.Read(check[:]); err != nil {
		return "", nil, err
	}
	blob := sshStrings(ed25519Type, string(pub))
	secret := bytes.Join([][]byte{check[:], check[:], sshStrings(ed25519Type, string(pub), string(priv), "levin")}, nil)
	for i := byte(1); len(secret)%8 != 0; i++ {
		secret = append(secret, i)
	}
	var file bytes.Buffer
	file.WriteString("openssh-key-v1\x00")
	file.Write(sshStrings("none", "none", "")) // no cipher, no key derivation
	file.Write(binary.BigEndian.AppendUint32(nil, 1))
	file.Write(sshStrings(string(blob), string(secret)))
	return ed25519Type + " " + base64.StdEncoding.EncodeToString(blob),
		pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: file.Bytes()}), nil
}

// sshStrings writes strings as SSH does, each after its length.
func sshStrings(texts ...string) []byte {
	var b []byte
	for _, text := range texts {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(text))), text...)
	}
	return b
}
