package reach

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

// maxJumps bounds a chain of proxy jumps, which may refer to itself.
const maxJumps = 8

// proxied is something that is perhaps reached through something else.
type proxied struct {
	what          string // "machine x", "host y"; for people
	jump, command string // what the settings say
	config        alias  // what counts when they say neither
	values        map[byte]string
}

// proxy fills in what the target is reached through. "none" in the settings takes
// back what the SSH configuration says.
func (r *Resolver) proxy(t *cluster.Target, p proxied, depth int) (err error) {
	if p.jump == "" && p.command == "" {
		if p.jump = p.config.proxyJump; p.jump == "" {
			p.command = p.config.proxyCommand
		}
	}
	switch {
	case strings.EqualFold(p.jump, "none") || strings.EqualFold(p.command, "none"):
	case p.jump != "":
		t.Jumps, err = r.jumps(p.what, p.jump, depth)
	case p.command != "":
		t.ProxyCommand, err = fill(p.command, p.values)
	}
	return err
}

// jumps resolves [user@]host[:port][,…], in the order they are passed. Each may
// be a host of the cloud, by its name, or anything that the SSH configuration or
// the network knows. What the first one itself is reached through comes before
// it.
func (r *Resolver) jumps(what, spec string, depth int) ([]cluster.Target, error) {
	if depth == 0 {
		return nil, &cluster.Failure{
			Kind: cluster.BadInput,
			What: fmt.Sprintf("%s of cloud %s is reached through more than %d jumps", what, r.cfg.Cloud, maxJumps),
			Next: "see whether its proxy jumps lead back to themselves",
		}
	}
	var all []cluster.Target
	for i, one := range strings.Split(spec, ",") {
		via, err := r.jumpHost(strings.TrimSpace(one))
		if err != nil {
			return nil, err
		}
		if i > 0 {
			// It is dialed from the jump before it, whatever its own entry says.
			via.ProxyJump, via.ProxyCommand = "none", ""
		}
		t, err := r.host(via, depth-1)
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
func (r *Resolver) jumpHost(spec string) (configs.Host, error) {
	u, err := url.Parse("ssh://" + strings.TrimPrefix(spec, "ssh://"))
	if err != nil || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" {
		return configs.Host{}, &cluster.Failure{
			Kind: cluster.BadInput,
			What: fmt.Sprintf("proxy jump %q is not of the form [user@]host[:port]", spec),
		}
	}
	h, ok := r.hosts[u.Hostname()]
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

// placeholders are the values of a proxy command's placeholders.
func placeholders(name string, e endpoint) map[byte]string {
	return map[byte]string{'h': e.address, 'n': name, 'p': strconv.Itoa(e.port), 'r': e.user}
}

// fill replaces the placeholders of a proxy command. What is put in must be of
// plain characters, since a shell reads the line.
func fill(command string, values map[byte]string) (string, error) {
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
		if command[i] == '%' {
			b.WriteByte('%')
			continue
		}
		value, ok := values[command[i]]
		if !ok {
			return "", badCommand(command, fmt.Sprintf("%%%c is not among %s and %%%%", command[i], names(values)))
		}
		if !plain(value) {
			return "", badCommand(command, fmt.Sprintf("%%%c is %q, which a shell would not take as it is", command[i], value))
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

// names lists the placeholders that there are.
func names(values map[byte]string) string {
	var all []string
	for c := range values {
		all = append(all, "%"+string(c))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
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
