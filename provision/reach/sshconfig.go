package reach

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kevinburke/ssh_config"

	"github.com/levinrun/levin/cluster"
)

// sshFiles is what the user's SSH client is configured with.
type sshFiles struct {
	cfg    Config
	config *ssh_config.Config
	err    error // why config could not be read; told when it is needed
}

// readSSHFiles reads ~/.ssh/config with all that it includes.
//
// Of Match blocks those with "all" or "host" alone are understood. Others are
// left out, and so do not apply: an exec would run a command that nobody asked
// Levin to run.
func readSSHFiles(cfg Config) sshFiles {
	f := sshFiles{cfg: cfg, config: &ssh_config.Config{}}
	data, err := os.ReadFile(cfg.ConfigFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f
	case err != nil:
		f.err = err
		return f
	}
	config, err := ssh_config.DecodeBytes([]byte(withoutMatch(string(data))))
	if err != nil {
		f.err = err
		return f
	}
	f.config = config
	return f
}

// withoutMatch leaves out the Match blocks that are not understood, and writes
// the patterns of the others as Host lists them.
func withoutMatch(config string) string {
	var kept []string
	skip := false
	for _, line := range strings.Split(config, "\n") {
		fields := strings.Fields(strings.Replace(line, "=", " ", 1))
		if len(fields) == 0 {
			kept = append(kept, line)
			continue
		}
		switch strings.ToLower(fields[0]) {
		case "host":
			skip = false
		case "match":
			if i := slices.IndexFunc(fields, func(f string) bool { return strings.HasPrefix(f, "#") }); i >= 0 {
				fields = fields[:i]
			}
			switch {
			case len(fields) == 2 && strings.EqualFold(fields[1], "all"):
				skip = false
			case len(fields) == 3 && strings.EqualFold(fields[1], "host"):
				skip = false
				line = "Host " + strings.ReplaceAll(strings.Trim(fields[2], `"`), ",", " ")
			default:
				skip = true
			}
		}
		if !skip {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// alias is what the SSH configuration says of a host.
type alias struct {
	hostName       string
	port           int
	user           string
	identities     []string
	identitiesOnly bool
	proxyJump      string
	proxyCommand   string
	knownHosts     []string
}

// lookup gives what the configuration says of a host; zero values where it is
// silent.
func (f sshFiles) lookup(name string) (alias, error) {
	if f.err != nil {
		return alias{}, &cluster.Failure{
			Kind: cluster.BadInput,
			What: fmt.Sprintf("%s could not be read, and the settings do not say all about host %s", f.cfg.ConfigFile, name),
			Next: "give its port, its user and its identity in the settings, or mend that file",
			Err:  f.err,
		}
	}
	get := func(key string) string {
		v, err := f.config.Get(name, key)
		if err != nil || strings.EqualFold(v, "none") {
			return ""
		}
		return v
	}
	a := alias{
		hostName:       strings.NewReplacer("%h", name, "%%", "%").Replace(get("HostName")),
		user:           get("User"),
		identitiesOnly: strings.EqualFold(get("IdentitiesOnly"), "yes"),
		proxyJump:      get("ProxyJump"),
		proxyCommand:   get("ProxyCommand"),
	}
	if port := get("Port"); port != "" {
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > 65535 {
			return alias{}, &cluster.Failure{
				Kind: cluster.BadInput,
				What: fmt.Sprintf("%s gives host %s the port %q", f.cfg.ConfigFile, name, port),
			}
		}
		a.port = n
	}
	identities, _ := f.config.GetAll(name, "IdentityFile")
	for _, id := range identities {
		if !strings.EqualFold(id, "none") {
			a.identities = append(a.identities, id)
		}
	}
	for _, file := range strings.Fields(get("UserKnownHostsFile")) {
		a.knownHosts = append(a.knownHosts, f.path(file, endpoint{}))
	}
	return a, nil
}

// path makes a file name of the SSH configuration or the settings whole: ~ and
// the tokens of ssh_config that a file name may hold.
func (f sshFiles) path(name string, e endpoint) string {
	if name == "~" || strings.HasPrefix(name, "~/") {
		name = filepath.Join(f.cfg.Home, name[1:])
	}
	return strings.NewReplacer("%d", f.cfg.Home, "%h", e.address, "%r", e.user, "%u", f.cfg.User, "%%", "%").Replace(name)
}

// defaultKeys are the private keys that ssh tries when nothing is said.
func (f sshFiles) defaultKeys() []string {
	var keys []string
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		file := filepath.Join(f.cfg.Home, ".ssh", name)
		if isFile(file) {
			keys = append(keys, file)
		}
	}
	return keys
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}
