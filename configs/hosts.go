package configs

import (
	"net"
	"strings"

	"golang.org/x/crypto/ssh"

	"go.yaml.in/yaml/v3"
)

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
		d.oneProxy(nodes, "host")
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
	return object[Host]{
		{"name", "A DNS label, unique in the cloud; made from the address when left out.", labelSchema(maxName), func(d *document, n *yaml.Node, h *Host) {
			if s, ok := d.text(n, "name", false); ok {
				d.label(n, "the host's name", s)
				h.Name = s
			}
		}},
		{"address", "Host name, IP address, or an alias of ~/.ssh/config.", textSchema(), readAddress},
		{"port", "SSH port; from ~/.ssh/config, else 22.", portSchema(), func(d *document, n *yaml.Node, h *Host) { h.Port = d.port(n, "port") }},
		{"user", "User to log in as; from ~/.ssh/config, else your own name.", textSchema(),
			func(d *document, n *yaml.Node, h *Host) { h.User = d.user(n) }},
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
		{"proxy_jump", "[user@]host[:port], or several with commas, to go through.", textSchema(),
			func(d *document, n *yaml.Node, h *Host) { h.ProxyJump = d.proxyJump(n) }},
		{"proxy_command", "Shell line whose input and output are the connection; %h, %n, %p and %r are replaced.", textSchema(),
			func(d *document, n *yaml.Node, h *Host) { h.ProxyCommand = d.proxyCommand(n, "hnpr") }},
		{"slots", "Calls at the same time.", schema{"type": "integer", "minimum": 1, "default": 1},
			func(d *document, n *yaml.Node, h *Host) { h.Slots = d.whole(n, "slots", 1) }},
		{"cpus", "Virtual CPUs of a slot; unknown when left out.", schema{"type": "number", "exclusiveMinimum": 0},
			func(d *document, n *yaml.Node, h *Host) { h.CPUs = d.number(n, "cpus", false) }},
		{"memory", "Memory of a slot, such as 64GB.", rangeSchema(true),
			func(d *document, n *yaml.Node, h *Host) { h.Memory = d.size(n, "memory of a host") }},
		{"disk", "Disk of a slot, such as 500GB.", rangeSchema(true),
			func(d *document, n *yaml.Node, h *Host) { h.Disk = d.size(n, "disk of a host") }},
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
