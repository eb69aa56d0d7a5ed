package emulator

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"
)

// userData is what an instance makes of its user data.
type userData struct {
	hostKey string  // private key, OpenSSH PEM; "" is one of its own making
	expiry  float64 // seconds after which it powers itself off; 0 is never
}

// maxUserData is EC2's limit, before base64.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html
const maxUserData = 16 << 10

// cloudConfig is the part of cloud-init's configuration that is understood. Any
// other key is an error, for nothing here would heed it.
// https://cloudinit.readthedocs.io/en/latest/reference/modules.html
type cloudConfig struct {
	SSHKeys struct {
		Private string `yaml:"ed25519_private"`
		Public  string `yaml:"ed25519_public"`
	} `yaml:"ssh_keys"`
	BootCmd []bootCommand `yaml:"bootcmd"`

	// What an instance here does anyway: it has one host key, lets in one client key
	// and no password.
	DeleteKeys   *bool    `yaml:"ssh_deletekeys"`
	GenKeyTypes  []string `yaml:"ssh_genkeytypes"`
	DisableRoot  *bool    `yaml:"disable_root"`
	PasswordAuth *bool    `yaml:"ssh_pwauth"`
	WriteFiles   []struct {
		Path    string `yaml:"path"`
		Content string `yaml:"content"`
	} `yaml:"write_files"`
}

// guestConfig configures Google's agent on its images, which else makes host keys
// of its own. There is no such agent here.
// https://github.com/GoogleCloudPlatform/guest-agent#configuration
const guestConfig = "/etc/default/instance_configs.cfg.template"

// bootCommand is an argument list. A line for the shell is not understood.
type bootCommand []string

// parseUserData reads user data as cloud-init would. Empty user data is fine.
func parseUserData(data []byte) (userData, error) {
	var u userData
	if len(data) == 0 {
		return u, nil
	}
	if len(data) > maxUserData {
		return u, fmt.Errorf("user data is limited to %d bytes, this is %d", maxUserData, len(data))
	}
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return u, fmt.Errorf("user data: %w", err)
		}
		if data, err = io.ReadAll(io.LimitReader(r, 1<<20)); err != nil {
			return u, fmt.Errorf("user data: %w", err)
		}
	}
	first, _, _ := bytes.Cut(data, []byte("\n"))
	if strings.TrimRight(string(first), " \r") != "#cloud-config" {
		return u, fmt.Errorf("user data begins with %.40q: only #cloud-config is understood", first)
	}
	var c cloudConfig
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return u, fmt.Errorf("user data: %w", err)
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return u, errors.New("user data: more than one document")
	}
	if err := c.checkKeys(); err != nil {
		return u, fmt.Errorf("user data: ssh_keys: %w", err)
	}
	for _, f := range c.WriteFiles {
		if f.Path != guestConfig {
			return u, fmt.Errorf("user data: write_files: only %s is understood, not %s", guestConfig, f.Path)
		}
	}
	u.hostKey = c.SSHKeys.Private
	for i, cmd := range c.BootCmd {
		seconds, err := cmd.expiry()
		if err != nil {
			return u, fmt.Errorf("user data: bootcmd %d: %w", i+1, err)
		}
		u.expiry = seconds
	}
	return u, nil
}

// checkKeys refuses a public key that is not the private one's: clients would be
// told of a key that the machine does not have.
func (c cloudConfig) checkKeys() error {
	if c.SSHKeys.Private == "" && c.SSHKeys.Public == "" {
		return nil
	}
	signer, err := ssh.ParsePrivateKey([]byte(c.SSHKeys.Private))
	if err != nil {
		return err
	}
	if signer.PublicKey().Type() != ssh.KeyAlgoED25519 {
		return fmt.Errorf("ed25519_private is a key of type %s", signer.PublicKey().Type())
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(c.SSHKeys.Public))
	if err != nil {
		return fmt.Errorf("ed25519_public: %w", err)
	}
	if !bytes.Equal(public.Marshal(), signer.PublicKey().Marshal()) {
		return errors.New("ed25519_public is not the public half of ed25519_private")
	}
	return nil
}

// expiry reads the one command that is understood: a timer that powers the machine
// off.
func (cmd bootCommand) expiry() (seconds float64, err error) {
	args := slices.Clone(cmd)
	if len(args) > 3 && args[0] == "cloud-init-per" {
		args = args[3:] // cloud-init-per once NAME COMMAND…
	}
	if len(args) == 0 || args[0] != "systemd-run" {
		return 0, fmt.Errorf("%q: only systemd-run is understood", []string(cmd))
	}
	unit := ""
	args = args[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "--") {
		name, value, _ := strings.Cut(args[0], "=")
		switch name {
		case "--unit":
			unit = value
		case "--on-active":
			n, err := strconv.ParseUint(strings.TrimSuffix(value, "s"), 10, 32)
			if err != nil || n == 0 {
				return 0, fmt.Errorf("--on-active=%s is no number of seconds", value)
			}
			seconds = float64(n)
		case "--timer-property", "--property", "--description", "--quiet", "--collect", "--no-block":
		default:
			return 0, fmt.Errorf("option %s of systemd-run is not understood", name)
		}
		args = args[1:]
	}
	what := strings.Join(args, " ")
	switch {
	case unit != expiryUnit:
		return 0, fmt.Errorf("unit %q: only %s is understood", unit, expiryUnit)
	case seconds == 0:
		return 0, errors.New("systemd-run without --on-active")
	case what != "systemctl poweroff" && what != "/usr/bin/systemctl poweroff" && what != "/sbin/poweroff" && what != "poweroff":
		return 0, fmt.Errorf("%q does not power the machine off", what)
	}
	return seconds, nil
}

// expiryUnit is the timer that ends a machine which nobody reached.
const expiryUnit = "levin-expiry"
