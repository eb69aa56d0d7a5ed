package launcher

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"github.com/levinrun/levin/cluster"
)

// trust is what is known about a host's key before it is dialed.
type trust struct {
	algorithms []string // only those that can give a key we know
	check      ssh.HostKeyCallback
}

// hostKeys decides which host keys of t are accepted: the pinned ones, else those
// in known_hosts files. There is no third way.
func hostKeys(t cluster.Target) (trust, error) {
	if len(t.HostKeys) > 0 {
		return pinnedKeys(t)
	}
	var files []string
	for _, name := range t.KnownHosts {
		if _, err := os.Stat(name); err == nil {
			files = append(files, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return trust{}, fmt.Errorf("reading known hosts: %w", err)
		}
	}
	if len(files) == 0 {
		return trust{}, unknownHost(t, "")
	}
	db, err := knownhosts.NewDB(files...)
	if err != nil {
		return trust{}, &cluster.Failure{Kind: cluster.BadInput, What: "could not read known hosts", Err: err}
	}
	algorithms := db.HostKeyAlgorithms(address(t))
	if len(algorithms) == 0 {
		return trust{}, unknownHost(t, "")
	}
	check := db.HostKeyCallback()
	return trust{algorithms: algorithms, check: func(host string, remote net.Addr, key ssh.PublicKey) error {
		err := check(host, remote, key)
		if err == nil {
			return nil
		}
		var changed *xknownhosts.KeyError
		if errors.As(err, &changed) && len(changed.Want) > 0 {
			want := make([]ssh.PublicKey, len(changed.Want))
			for i := range changed.Want {
				want[i] = changed.Want[i].Key
			}
			return wrongKey(t, want, key)
		}
		if knownhosts.IsHostUnknown(err) {
			return unknownHost(t, ssh.FingerprintSHA256(key))
		}
		return &cluster.Failure{Kind: cluster.Untrusted, What: fmt.Sprintf("the host key of %s is not acceptable", address(t)), Err: err}
	}}, nil
}

func pinnedKeys(t cluster.Target) (trust, error) {
	var keys []ssh.PublicKey
	var algorithms []string
	for line := range strings.Lines(strings.Join(t.HostKeys, "\n")) { // one may hold several
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return trust{}, &cluster.Failure{
				Kind: cluster.BadInput,
				What: fmt.Sprintf("the host key given for %s cannot be read: %.80q", address(t), line),
				Next: `It has the form "ssh-ed25519 AAAA…", as in /etc/ssh/ssh_host_ed25519_key.pub on the machine.`,
				Err:  err,
			}
		}
		keys = append(keys, key)
		for _, a := range signatureAlgorithms(key.Type()) {
			if !slices.Contains(algorithms, a) {
				algorithms = append(algorithms, a)
			}
		}
	}
	return trust{algorithms: algorithms, check: func(_ string, _ net.Addr, key ssh.PublicKey) error {
		for _, k := range keys {
			if string(k.Marshal()) == string(key.Marshal()) {
				return nil
			}
		}
		return wrongKey(t, keys, key)
	}}, nil
}

// signatureAlgorithms gives the algorithms a host can prove a key of this type
// with. The old SHA-1 one of RSA is not among them.
func signatureAlgorithms(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

// authorized gives a key in the form of authorized_keys, without a comment.
func authorized(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func wrongKey(t cluster.Target, want []ssh.PublicKey, got ssh.PublicKey) error {
	prints := make([]string, len(want))
	for i, k := range want {
		prints[i] = ssh.FingerprintSHA256(k) + " (" + k.Type() + ")"
	}
	return &cluster.Failure{
		Kind: cluster.Untrusted,
		What: fmt.Sprintf("%s is not the machine it should be: its host key is %s (%s), expected %s",
			address(t), ssh.FingerprintSHA256(got), got.Type(), strings.Join(prints, " or ")),
		Next: "If the machine was set up anew, put its new key where the old one is (host_key in the settings, or known_hosts); " +
			"if not, somebody may be answering in its place.",
	}
}

// unknownHost refuses a host of which no key is known.
func unknownHost(t cluster.Target, fingerprint string) error {
	f := &cluster.Failure{
		Kind: cluster.Untrusted,
		What: fmt.Sprintf("the host key of %s is not known", address(t)),
	}
	if fingerprint != "" {
		f.What += "; it shows " + fingerprint
	}
	scan := "ssh-keyscan " + t.Address
	if t.Port != 0 && t.Port != 22 {
		scan = fmt.Sprintf("ssh-keyscan -p %d %s", t.Port, t.Address)
	}
	f.Next = fmt.Sprintf("Check the key on the machine, then add it with `%s >> ~/.ssh/known_hosts` or as host_key in the settings.", scan)
	return f
}
