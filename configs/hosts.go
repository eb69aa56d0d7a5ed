package configs

import (
	"net"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"go.yaml.in/yaml/v3"
)

func readClouds(d *document, n *yaml.Node, s *Settings) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, n.Value, "clouds must be a mapping of names to clouds, is %s", kindOf(n))
		return
	}
	s.Clouds = map[string]CloudSettings{}
	keys := cloudKeys()
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		d.label(key, "the cloud's name", key.Value)
		var c CloudSettings
		nodes := keys.read(d, "cloud "+quote(key.Value), value, &c)
		module := nodes["module"]
		switch {
		case value.Kind != yaml.MappingNode:
		case module == nil && key.Value == "local":
			c.Module = "local"
		case module == nil:
			d.fail(key, key.Value, "cloud %s has no module; it can be local or ssh", quote(key.Value))
		case key.Value == "local" && c.Module == "ssh":
			d.fail(module, c.Module, "the cloud local is always of module local; give own hosts another name")
		}
		switch {
		case c.Module == "local" && nodes["hosts"] != nil:
			d.fail(nodes["hosts"], "hosts", "only a cloud of module ssh has hosts")
		case c.Module == "ssh" && len(c.Hosts) == 0 && nodes["hosts"] == nil:
			d.fail(key, key.Value, "cloud %s has no hosts", quote(key.Value))
		}
		s.Clouds[key.Value] = c
	}
}

// cloudKeys is the table of a cloud.
func cloudKeys() object[CloudSettings] {
	return object[CloudSettings]{
		{"module", "What the cloud is: local (processes on this machine) or ssh (your own hosts).", enumSchema("local", "ssh"),
			func(d *document, n *yaml.Node, c *CloudSettings) {
				text, ok := d.filled(n, "module")
				switch {
				case !ok:
				case text == "local" || text == "ssh":
					c.Module = text
				default:
					d.fail(n, text, "module %s is not supported yet; it can be local or ssh", quote(text)).Suggestion = d.nearest(text, []string{"local", "ssh"})
				}
			}},
		{"price", "USD per machine and hour; for ssh the default of its hosts.", schema{"type": "number", "minimum": 0},
			func(d *document, n *yaml.Node, c *CloudSettings) { c.Price = d.number(n, "price", true) }},
		{"hosts", "Your own machines, for module ssh.", schema{"type": "array", "minItems": 1, "items": schema{"$ref": "#/$defs/host"}}, readHosts},
	}
}

func readHosts(d *document, n *yaml.Node, c *CloudSettings) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, n.Value, "hosts must be a list, is %s", kindOf(n))
		return
	}
	if len(n.Content) == 0 {
		d.fail(n, "", "hosts is empty")
	}
	keys := hostKeys()
	lines := map[string]int{}
	for _, item := range n.Content {
		h := Host{Slots: 1, Arch: "amd64"}
		before := len(d.errs)
		nodes := keys.read(d, "host", item, &h)
		if item.Kind == yaml.MappingNode && nodes["address"] == nil {
			d.fail(item, "", "the host has no address")
		}
		if command := nodes["proxy_command"]; command != nil && nodes["proxy_jump"] != nil {
			d.fail(command, h.ProxyCommand, "proxy_command and proxy_jump are two ways to one host; keep one")
		}
		at := nodes["name"]
		if at == nil {
			at, h.Name = item, toLabel(h.Address, maxName)
			if h.Name == "" && len(d.errs) == before {
				d.fail(item, h.Address, "no name can be made from the address %s; give the host a name", quote(h.Address))
			}
		}
		if line := lines[h.Name]; line > 0 && h.Name != "" {
			d.fail(at, h.Name, "two hosts have the name %s; the other is on line %d", quote(h.Name), line)
		} else {
			lines[h.Name] = at.Line
		}
		c.Hosts = append(c.Hosts, h)
	}
}

// hostKeys is the table of a host.
func hostKeys() object[Host] {
	size := func(name string, place func(*Host) *float64) func(*document, *yaml.Node, *Host) {
		return func(d *document, n *yaml.Node, h *Host) {
			if r := d.span(n, name, true); r.Min != r.Max {
				d.fail(n, n.Value, "%s of a host is one size, not a range", name)
			} else {
				*place(h) = r.Max
			}
		}
	}
	return object[Host]{
		{"name", "A DNS label, unique in the cloud; made from the address when left out.", labelSchema(maxName), func(d *document, n *yaml.Node, h *Host) {
			if s, ok := d.text(n, "name", false); ok {
				d.label(n, "the host's name", s)
				h.Name = s
			}
		}},
		{"address", "Host name, IP address, or an alias of ~/.ssh/config.", textSchema(), readAddress},
		{"port", "SSH port; from ~/.ssh/config, else 22.", schema{"type": "integer", "minimum": 1, "maximum": 65535}, func(d *document, n *yaml.Node, h *Host) {
			if h.Port = d.whole(n, "port", 1); h.Port > 65535 {
				d.fail(n, n.Value, "port must be between 1 and 65535, is %s", n.Value)
			}
		}},
		{"user", "User to log in as; from ~/.ssh/config, else your own name.", textSchema(), func(d *document, n *yaml.Node, h *Host) {
			if s, ok := d.filled(n, "user"); ok {
				if strings.ContainsAny(s, " \t\r\n@:/") || strings.HasPrefix(s, "-") {
					d.fail(n, s, "%s is not the name of a user", quote(s))
				}
				h.User = s
			}
		}},
		{"identity", "Private key file; from ~/.ssh/config, then ssh-agent, then ~/.ssh/id_*.", textSchema(),
			func(d *document, n *yaml.Node, h *Host) { h.Identity, _ = d.filled(n, "identity") }},
		{"host_key", "The host's public key, such as ssh-ed25519 AAAA…; from known_hosts when left out.", textSchema(), func(d *document, n *yaml.Node, h *Host) {
			s, ok := d.filled(n, "host_key")
			if !ok {
				return
			}
			if _, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(s)); err != nil || len(options) > 0 || len(rest) > 0 {
				d.fail(n, s, "host_key is not one public key such as ssh-ed25519 AAAA…; ssh-keyscan HOST prints it after the host's name")
			}
			h.HostKey = strings.TrimSpace(s)
		}},
		{"proxy_jump", "[user@]host[:port], or several with commas, to go through.", textSchema(), readProxyJump},
		{"proxy_command", "Shell line whose input and output are the connection; %h, %p and %r are replaced.", textSchema(),
			func(d *document, n *yaml.Node, h *Host) { h.ProxyCommand, _ = d.filled(n, "proxy_command") }},
		{"slots", "Calls at the same time.", schema{"type": "integer", "minimum": 1, "default": 1},
			func(d *document, n *yaml.Node, h *Host) { h.Slots = d.whole(n, "slots", 1) }},
		{"cpus", "Virtual CPUs of a slot; unknown when left out.", schema{"type": "number", "exclusiveMinimum": 0},
			func(d *document, n *yaml.Node, h *Host) { h.CPUs = d.number(n, "cpus", false) }},
		{"memory", "Memory of a slot, such as 64GB.", rangeSchema(true), size("memory", func(h *Host) *float64 { return &h.Memory })},
		{"disk", "Disk of a slot, such as 500GB.", rangeSchema(true), size("disk", func(h *Host) *float64 { return &h.Disk })},
		{"gpu", "MODEL[:COUNT] of a slot.", modelSchema(), func(d *document, n *yaml.Node, h *Host) {
			s, ok := d.text(n, "gpu", true)
			if !ok {
				return
			}
			named := !smallNumber.MatchString(s)
			if named {
				g, ok := d.gpu(n)
				named = !ok || len(g.Models) > 0
			}
			if !named {
				d.fail(n, s, "gpu of a host must be MODEL[:COUNT], is %s", quote(s))
			}
			h.GPU = s
		}},
		{"arch", "Processor architecture.", schema{"enum": []string{"amd64", "arm64"}, "default": "amd64"},
			func(d *document, n *yaml.Node, h *Host) { h.Arch = d.oneOf(n, "arch", "amd64", "arm64") }},
		{"price", "USD per hour and slot.", schema{"type": "number", "minimum": 0},
			func(d *document, n *yaml.Node, h *Host) { h.Price = d.number(n, "price", true) }},
	}
}

func readAddress(d *document, n *yaml.Node, h *Host) {
	s, ok := d.filled(n, "address")
	switch {
	case !ok:
		return
	case strings.Contains(s, "@"):
		d.fail(n, s, "address must be a host alone; put the user into user")
	case strings.ContainsAny(s, " \t\r\n/,[]'\"$`;&|<>()\\"), strings.HasPrefix(s, "-"):
		d.fail(n, s, "%s is not the address of a host", quote(s))
	case strings.Contains(s, ":") && net.ParseIP(strings.SplitN(s, "%", 2)[0]) == nil:
		d.fail(n, s, "address must be a host alone, is %s; put the port into port", quote(s))
	}
	h.Address = s
}

var jump = regexp.MustCompile(`^(?:[^@\s,:/-][^@\s,:/]*@)?(\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9_.][A-Za-z0-9_.-]*)(?::(\d+))?$`)

func readProxyJump(d *document, n *yaml.Node, h *Host) {
	s, ok := d.filled(n, "proxy_jump")
	if !ok {
		return
	}
	for hop := range strings.SplitSeq(s, ",") {
		m := jump.FindStringSubmatch(strings.TrimSpace(hop))
		if m == nil || m[2] != "" && !isPort(m[2]) {
			d.fail(n, s, "proxy_jump must be [user@]host[:port], or several with commas, is %s", quote(s))
			return
		}
	}
	h.ProxyJump = s
}

func isPort(s string) bool {
	p, err := strconv.Atoi(s)
	return err == nil && p > 0 && p < 65536
}
