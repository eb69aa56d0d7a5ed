package configs

import (
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The keys that say how SSH servers are reached: those of hosts, and those of
// clouds for all of their machines.

// user reads the name of a user to log in as.
func (d *document) user(n *yaml.Node) string {
	s, ok := d.filled(n, "user")
	if ok && (strings.ContainsAny(s, " \t\r\n@:/") || strings.HasPrefix(s, "-")) {
		d.fail(n, s, "%s is not the name of a user", quote(s))
	}
	return s
}

var jump = regexp.MustCompile(`^(?:[^@\s,:/-][^@\s,:/]*@)?(\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9_.][A-Za-z0-9_.-]*)(?::(\d+))?$`)

// proxyJump reads [user@]host[:port][,…].
func (d *document) proxyJump(n *yaml.Node) string {
	s, ok := d.filled(n, "proxy_jump")
	if !ok {
		return ""
	}
	for hop := range strings.SplitSeq(s, ",") {
		m := jump.FindStringSubmatch(strings.TrimSpace(hop))
		if m == nil || m[2] != "" && !isPort(m[2]) {
			d.fail(n, s, "proxy_jump must be [user@]host[:port], or several with commas, is %s", quote(s))
			return ""
		}
	}
	return s
}

func isPort(s string) bool {
	p, err := strconv.Atoi(s)
	return err == nil && p > 0 && p < 65536
}

// proxyCommand reads a shell line with the given placeholders. One that is not
// among them would be found out only once there is a machine to reach.
func (d *document) proxyCommand(n *yaml.Node, placeholders string) string {
	s, ok := d.filled(n, "proxy_command")
	if !ok {
		return ""
	}
	for rest := s; ; {
		_, after, found := strings.Cut(rest, "%")
		if !found {
			return s
		}
		if after == "" || !strings.Contains(placeholders+"%", after[:1]) {
			d.fail(n, s, "proxy_command can hold %%%s and %%%% for a percent sign, holds %s", strings.Join(strings.Split(placeholders, ""), ", %"), quote("%"+firstLetter(after)))
			return ""
		}
		rest = after[1:]
	}
}

func firstLetter(s string) string {
	for _, r := range s {
		return string(r)
	}
	return ""
}

// oneProxy refuses two ways to one place.
func (d *document) oneProxy(nodes map[string]*yaml.Node, to string) {
	if command := nodes["proxy_command"]; command != nil && nodes["proxy_jump"] != nil {
		d.fail(command, command.Value, "proxy_command and proxy_jump are two ways to one %s; keep one", to)
	}
}
