package ssh

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

// maxJumps bounds a chain of proxy jumps, which may refer to itself.
const maxJumps = 8

// endpoint is where a host's SSH server is and who logs in there.
type endpoint struct {
	address string
	port    int
	user    string
	config  alias // what the SSH configuration says besides
}

// endpoint resolves a host: the settings first, then ~/.ssh/config, then SSH's
// defaults. A configuration that cannot be read does not matter to a host of
// which the settings say all.
func (c *Cloud) endpoint(h configs.Host) (endpoint, error) {
	a, err := c.files.lookup(h.Address)
	if err != nil {
		if h.Port == 0 || h.User == "" || h.Identity == "" {
			return endpoint{}, err
		}
		a = alias{}
	}
	return endpoint{
		address: cmp.Or(a.hostName, h.Address),
		port:    cmp.Or(h.Port, a.port, 22),
		user:    cmp.Or(h.User, a.user, c.cfg.User),
		config:  a,
	}, nil
}

// Target says how the machine's host is reached. The run's key is of no use on a
// host that Levin did not create: the user's own keys open it.
func (c *Cloud) Target(m cluster.Machine, _ string) (cluster.Target, error) {
	h, ok := c.hosts[m.Type]
	if !ok {
		// The settings have lost it; the row still says how it was reached.
		h = configs.Host{Name: m.Type, Address: m.Address, Port: m.Port, User: m.User, HostKey: m.HostKey}
	}
	return c.target(h, maxJumps)
}

func (c *Cloud) target(h configs.Host, depth int) (cluster.Target, error) {
	e, err := c.endpoint(h)
	if err != nil {
		return cluster.Target{}, err
	}
	t := cluster.Target{
		Address: e.address, Port: e.port, User: e.user,
		KnownHosts: c.knownHosts(e.config),
		Agent:      h.Identity == "" && !e.config.identitiesOnly,
	}
	if h.HostKey != "" {
		t.HostKeys = []string{h.HostKey}
	}
	switch {
	case h.Identity != "":
		t.KeyFiles = []string{c.files.path(h.Identity, e)}
	case len(e.config.identities) > 0:
		for _, id := range e.config.identities {
			t.KeyFiles = append(t.KeyFiles, c.files.path(id, e))
		}
	default:
		t.KeyFiles = c.files.defaultKeys()
	}

	jump, command := h.ProxyJump, h.ProxyCommand
	if jump == "" && command == "" {
		if jump = e.config.proxyJump; jump == "" {
			command = e.config.proxyCommand
		}
	}
	switch {
	case strings.EqualFold(jump, "none") || strings.EqualFold(command, "none"):
		// The settings take back what the SSH configuration says.
	case jump != "":
		if t.Jumps, err = c.jumps(h, jump, depth); err != nil {
			return cluster.Target{}, err
		}
	case command != "":
		if t.ProxyCommand, err = fill(command, h.Address, e); err != nil {
			return cluster.Target{}, err
		}
	}
	return t, nil
}

// knownHosts gives the files that exist: those of the SSH configuration in place
// of the default ones.
func (c *Cloud) knownHosts(a alias) []string {
	files := c.cfg.KnownHosts
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

// jumps resolves [user@]host[:port][,…], in the order they are passed. Each may
// be a host of this cloud, by its name, or anything that the SSH configuration
// or the network knows. What the first one itself is reached through comes
// before it.
func (c *Cloud) jumps(h configs.Host, spec string, depth int) ([]cluster.Target, error) {
	if depth == 0 {
		return nil, &cluster.Failure{
			Kind: cluster.BadInput,
			What: fmt.Sprintf("host %s of cloud %s is reached through more than %d jumps", h.Name, c.cfg.Name, maxJumps),
			Next: "see whether its proxy jumps lead back to themselves",
		}
	}
	var all []cluster.Target
	for i, one := range strings.Split(spec, ",") {
		via, err := c.jumpHost(strings.TrimSpace(one))
		if err != nil {
			return nil, err
		}
		if i > 0 {
			// It is dialed from the jump before it, whatever its own entry says.
			via.ProxyJump, via.ProxyCommand = "none", ""
		}
		t, err := c.target(via, depth-1)
		if err != nil {
			return nil, err
		}
		all = append(all, t.Jumps...)
		t.Jumps = nil
		all = append(all, t)
	}
	return all, nil
}

// jumpHost reads one [user@]host[:port] or ssh://….
func (c *Cloud) jumpHost(spec string) (configs.Host, error) {
	u, err := url.Parse("ssh://" + strings.TrimPrefix(spec, "ssh://"))
	if err != nil || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" {
		return configs.Host{}, &cluster.Failure{
			Kind: cluster.BadInput,
			What: fmt.Sprintf("proxy jump %q is not of the form [user@]host[:port]", spec),
		}
	}
	h, ok := c.hosts[u.Hostname()]
	if !ok {
		h = configs.Host{Name: u.Hostname(), Address: u.Hostname()}
	}
	if u.User != nil {
		h.User = u.User.Username()
	}
	if p := u.Port(); p != "" {
		if h.Port, err = strconv.Atoi(p); err != nil || h.Port < 1 || h.Port > 65535 {
			return configs.Host{}, &cluster.Failure{
				Kind: cluster.BadInput,
				What: fmt.Sprintf("proxy jump %q has the port %s", spec, p),
			}
		}
	}
	return h, nil
}

// fill replaces the placeholders of a proxy command. What is put in must be of
// plain characters, since a shell reads the line.
func fill(command, name string, e endpoint) (string, error) {
	values := map[byte]string{'h': e.address, 'n': name, 'p': strconv.Itoa(e.port), 'r': e.user, '%': "%"}
	var b strings.Builder
	for i := 0; i < len(command); i++ {
		if command[i] != '%' {
			b.WriteByte(command[i])
			continue
		}
		i++
		if i == len(command) {
			return "", badCommand(command, "it ends in a lone %")
		}
		value, ok := values[command[i]]
		if !ok {
			return "", badCommand(command, fmt.Sprintf("%%%c is not among %%h, %%n, %%p, %%r and %%%%", command[i]))
		}
		if command[i] != '%' && !plain(value) {
			return "", badCommand(command, fmt.Sprintf("%%%c is %q, which a shell would not take as it is", command[i], value))
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

// plain reports whether a shell takes s as one word that is no option.
func plain(s string) bool {
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._:@-+", r):
		default:
			return false
		}
	}
	return s != "" && s[0] != '-'
}

func badCommand(command, why string) error {
	return &cluster.Failure{
		Kind: cluster.BadInput,
		What: fmt.Sprintf("proxy command %q cannot be used: %s", command, why),
	}
}
