// Package reach says how SSH servers are reached: machines of clouds, the user's
// own hosts, and what lies on the way to them. The settings come first, then the
// user's SSH configuration, then SSH's own defaults.
package reach

import (
	"cmp"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

// Config is what a Resolver works with. Cloud must be set.
type Config struct {
	Cloud string // the cloud's name in the settings
	// Settings of the cloud: User, Identity, Private, ProxyJump and ProxyCommand
	// count for its machines; its Hosts may be named by proxy jumps.
	Settings configs.CloudSettings

	ConfigFile string   // default ~/.ssh/config; a file that is not there is empty
	KnownHosts []string // default ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts
	Home       string   // the local user's home folder; default is the system's answer
	User       string   // the local user; default is the system's answer
}

// Resolver resolves the machines and hosts of one cloud. The SSH configuration is
// read once, when it is made. It is safe for concurrent use.
type Resolver struct {
	cfg   Config
	hosts map[string]configs.Host // by name
	files sshFiles
}

// New reads the user's SSH configuration. One that cannot be read is told when
// something depends on it, and not here.
func New(cfg Config) (*Resolver, error) {
	if cfg.Home == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("finding the home folder, where SSH keeps its files: %w", err)
		}
		cfg.Home = home
	}
	if cfg.User == "" {
		u, err := user.Current()
		if err != nil {
			return nil, fmt.Errorf("finding the name of the local user: %w", err)
		}
		cfg.User = u.Username
	}
	cfg.ConfigFile = cmp.Or(cfg.ConfigFile, filepath.Join(cfg.Home, ".ssh", "config"))
	if cfg.KnownHosts == nil {
		cfg.KnownHosts = []string{filepath.Join(cfg.Home, ".ssh", "known_hosts"), "/etc/ssh/ssh_known_hosts"}
	}
	r := &Resolver{cfg: cfg, hosts: map[string]configs.Host{}, files: readSSHFiles(cfg)}
	for _, h := range cfg.Settings.Hosts {
		r.hosts[h.Name] = h
	}
	return r, nil
}

// Machine says how a machine that a cloud has made is reached: with the run's key
// at keyFile, by its private address where the settings say so. What else the
// target holds (PowerOff, Notice, Rotate, Expiry) is for the cloud to fill in.
//
// User and port are those of the settings and of the machine, since a "Host *" of
// the SSH configuration was not written for machines that come and go. Of that
// configuration it is the proxies that count, as they stand for the address.
func (r *Resolver) Machine(m cluster.Machine, keyFile string) (cluster.Target, error) {
	s := r.cfg.Settings
	e := endpoint{
		address: cmp.Or(m.Address, m.PrivateAddress),
		port:    cmp.Or(m.Port, 22),
		user:    cmp.Or(s.User, m.User),
	}
	if s.Private {
		e.address = cmp.Or(m.PrivateAddress, m.Address)
	}
	if e.address == "" || e.user == "" {
		return cluster.Target{}, &cluster.Failure{
			Kind: cluster.Provisioning,
			What: fmt.Sprintf("machine %s of cloud %s has no address or no user to log in as", m.Name, r.cfg.Cloud),
			Next: fmt.Sprintf("see what its module answers; the user can be set as clouds.%s.user", r.cfg.Cloud),
		}
	}
	if s.ProxyJump == "" && s.ProxyCommand == "" {
		if r.files.err != nil {
			return cluster.Target{}, &cluster.Failure{
				Kind: cluster.BadInput,
				What: fmt.Sprintf("%s could not be read, and it may say how machines of cloud %s are reached", r.cfg.ConfigFile, r.cfg.Cloud),
				Next: fmt.Sprintf("mend that file, or set clouds.%s.proxy_jump (none, when there is none)", r.cfg.Cloud),
				Err:  r.files.err,
			}
		}
		var err error
		if e.config, err = r.files.lookup(e.address); err != nil {
			return cluster.Target{}, err
		}
	}
	t := cluster.Target{Address: e.address, Port: e.port, User: e.user, HostKeys: lines(m.HostKey)}
	if len(t.HostKeys) == 0 {
		t.KnownHosts = r.knownHosts(e.config)
	}
	if keyFile != "" {
		t.KeyFiles = append(t.KeyFiles, keyFile)
	}
	if s.Identity != "" {
		t.KeyFiles = append(t.KeyFiles, r.files.path(s.Identity, e))
	}
	values := placeholders(m.Name, e)
	values['i'], values['z'] = m.CloudID, m.Zone
	err := r.proxy(&t, proxied{"machine " + m.Name, s.ProxyJump, s.ProxyCommand, e.config, values}, maxJumps)
	return t, err
}

// lines gives the lines of text that hold something.
func lines(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}

// Host says how one of the user's own hosts is reached. The user's own keys open
// it.
func (r *Resolver) Host(h configs.Host) (cluster.Target, error) { return r.host(h, maxJumps) }

func (r *Resolver) host(h configs.Host, depth int) (cluster.Target, error) {
	e, err := r.endpoint(h)
	if err != nil {
		return cluster.Target{}, err
	}
	t := cluster.Target{
		Address: e.address, Port: e.port, User: e.user,
		KnownHosts: r.knownHosts(e.config),
		Agent:      h.Identity == "" && !e.config.identitiesOnly,
	}
	if h.HostKey != "" {
		t.HostKeys = []string{h.HostKey}
	}
	switch {
	case h.Identity != "":
		t.KeyFiles = []string{r.files.path(h.Identity, e)}
	case len(e.config.identities) > 0:
		for _, id := range e.config.identities {
			t.KeyFiles = append(t.KeyFiles, r.files.path(id, e))
		}
	default:
		t.KeyFiles = r.files.defaultKeys()
	}
	err = r.proxy(&t, proxied{"host " + h.Name, h.ProxyJump, h.ProxyCommand, e.config, placeholders(h.Address, e)}, depth)
	return t, err
}

// Endpoint gives where a host's SSH server is and who logs in there.
func (r *Resolver) Endpoint(h configs.Host) (address string, port int, user string, err error) {
	e, err := r.endpoint(h)
	return e.address, e.port, e.user, err
}

// endpoint is where an SSH server is and who logs in there.
type endpoint struct {
	address string
	port    int
	user    string
	config  alias // what the SSH configuration says besides
}

// endpoint resolves a host. A configuration that cannot be read does not matter
// to a host of which the settings say all.
func (r *Resolver) endpoint(h configs.Host) (endpoint, error) {
	a, err := r.files.lookup(h.Address)
	if err != nil {
		if h.Port == 0 || h.User == "" || h.Identity == "" {
			return endpoint{}, err
		}
		a = alias{}
	}
	return endpoint{
		address: cmp.Or(a.hostName, h.Address),
		port:    cmp.Or(h.Port, a.port, 22),
		user:    cmp.Or(h.User, a.user, r.cfg.User),
		config:  a,
	}, nil
}

// knownHosts gives the files that exist: those of the SSH configuration in place
// of the default ones.
func (r *Resolver) knownHosts(a alias) []string {
	files := r.cfg.KnownHosts
	if len(a.knownHosts) > 0 {
		files = a.knownHosts
	}
	var exist []string
	for _, f := range files {
		if isFile(f) {
			exist = append(exist, f)
		}
	}
	return exist
}
