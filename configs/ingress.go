package configs

import (
	"net/netip"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"
)

// readIngress reads who may reach machines: CIDRs, or addresses alone. What
// reaches further than it seems to, such as 203.0.113.7/8, is refused.
func readIngress(d *document, n *yaml.Node, s *Settings) {
	d.notEmpty(n, "ingress", nil)
	for _, item := range d.items(n, "ingress") {
		text, ok := d.filled(item, "ingress")
		if !ok {
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			var addr netip.Addr
			if addr, err = netip.ParseAddr(text); err == nil && addr.Zone() == "" {
				addr = addr.Unmap()
				p = netip.PrefixFrom(addr, addr.BitLen())
			}
		}
		switch {
		case err != nil, !p.IsValid(), p.Addr().Is4In6():
			d.fail(item, text, "ingress must be addresses or CIDRs such as 203.0.113.7 or 203.0.113.0/24, is %s", quote(text))
		case p != p.Masked():
			d.fail(item, text, "%s is part of a larger network; write the network, or the address with /%d", quote(text), p.Addr().BitLen()).Suggestion = p.Masked().String()
		case !slices.Contains(s.Ingress, p.String()):
			s.Ingress = append(s.Ingress, p.String())
		}
	}
}

const locationPattern = `^(aws|gcp)/[a-z0-9-]+$`

var location = regexp.MustCompile(locationPattern)

func readLocation(d *document, n *yaml.Node, s *Settings) {
	text, ok := d.filled(n, "location")
	switch {
	case !ok:
	case !location.MatchString(text):
		d.fail(n, text, "location must be a region of a cloud such as aws/us-east-1 or gcp/us-central1, is %s; leave it out when this computer is in none", quote(text))
	default:
		s.Location = text
	}
}
