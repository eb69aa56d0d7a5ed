package configs

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// kinds are the clouds that Levin knows; "own" stands for the user's own modules.
func kinds() []string { return []string{"local", "ssh", "aws", "gcp"} }

// ownKind is the kind of a cloud whose module is a folder.
const ownKind = "own"

// keysOfKinds says which kinds of cloud know a key.
func keysOfKinds() map[string][]string {
	vms := []string{"aws", "gcp", ownKind}
	both := []string{"aws", "gcp"}
	own := []string{ownKind}
	return map[string][]string{
		"module": append(kinds(), ownKind),
		"price":  {"local", "ssh"},
		"hosts":  {"ssh"},

		"regions": vms, "private": vms, "image": vms, "user": vms, "proxy_jump": vms, "proxy_command": vms,
		"profile": {"aws"}, "project": {"gcp"},
		"endpoint": both, "network": both, "subnets": both, "role": both, "disk_type": both,
		"identity": own, "offers": own, "variables": own, "env": own, "shared": own,
	}
}

// kind gives what a cloud is by its module.
func kind(module string) string {
	if strings.ContainsRune(module, '/') {
		return ownKind
	}
	return module
}

// kindText names a kind for people.
func kindText(kind string) string {
	if kind == ownKind {
		return "a module of your own"
	}
	return "module " + kind
}

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
		if value.Kind == yaml.MappingNode {
			checkCloud(d, key, nodes, &c)
		}
		s.Clouds[key.Value] = c
	}
}

// checkCloud fills in the module of a cloud that has the name of one, and checks
// what depends on it.
func checkCloud(d *document, name *yaml.Node, nodes map[string]*yaml.Node, c *CloudSettings) {
	known := slices.Contains(kinds(), name.Value)
	switch module := nodes["module"]; {
	case module == nil && known:
		c.Module = name.Value
	case module == nil:
		d.fail(name, name.Value, "cloud %s has no module; it can be %s", quote(name.Value), modulesText)
		return
	case c.Module == "":
		return // already refused
	case known && c.Module != name.Value:
		d.fail(module, c.Module, "the cloud %s is always of module %s; give this one another name", name.Value, name.Value)
		return
	}
	kind, of := kind(c.Module), keysOfKinds()
	for _, p := range cloudKeys() {
		if n := nodes[p.name]; n != nil && !slices.Contains(of[p.name], kind) {
			d.fail(n, p.name, "%s has no meaning for %s; only for %s", p.name, kindText(kind), kindsText(of[p.name]))
		}
	}
	for key, need := range map[string]string{"hosts": "ssh", "offers": ownKind} {
		if kind == need && nodes[key] == nil {
			d.fail(name, name.Value, "cloud %s has no %s", quote(name.Value), key)
		}
	}
	d.oneProxy(nodes, "machine")
}

func kindsText(all []string) string {
	texts := make([]string, len(all))
	for i, kind := range all {
		texts[i] = kindText(kind)
	}
	return strings.Join(texts, " and ")
}

const modulesText = "local, ssh, aws, gcp, or the folder of a module of your own, such as ./tf/lambda"

// cloudKeys is the table of a cloud.
func cloudKeys() object[CloudSettings] {
	text := func(name string, place func(*CloudSettings) *string) func(*document, *yaml.Node, *CloudSettings) {
		return func(d *document, n *yaml.Node, c *CloudSettings) { *place(c) = d.word(n, name) }
	}
	words := func(name string, place func(*CloudSettings) *[]string) func(*document, *yaml.Node, *CloudSettings) {
		return func(d *document, n *yaml.Node, c *CloudSettings) {
			d.notEmpty(n, name, nil)
			for _, item := range d.items(n, name) {
				if s := d.word(item, name); s != "" {
					*place(c) = append(*place(c), s)
				}
			}
		}
	}
	return object[CloudSettings]{
		{"module", "What the cloud is: local (processes on this machine), ssh (your own hosts), aws, gcp, or the folder of a module of your own.",
			schema{"anyOf": []any{enumSchema(kinds()...), schema{"type": "string", "pattern": "/"}}}, readModule},
		{"price", "USD per machine and hour; for ssh the default of its hosts.", schema{"type": "number", "minimum": 0},
			func(d *document, n *yaml.Node, c *CloudSettings) { c.Price = d.number(n, "price", true) }},
		{"hosts", "Your own machines, for module ssh.", schema{"type": "array", "minItems": 1, "items": schema{"$ref": "#/$defs/host"}}, readHosts},

		{"regions", "Machines are made and searched for only in these regions.", textOrListSchema(),
			words("regions", func(c *CloudSettings) *[]string { return &c.Regions })},
		{"profile", "Profile of ~/.aws, for aws.", textSchema(), text("profile", func(c *CloudSettings) *string { return &c.Profile })},
		{"project", "Project id, for gcp.", textSchema(), text("project", func(c *CloudSettings) *string { return &c.Project })},
		{"endpoint", "URL that takes the place of the cloud's own, for aws and gcp.", schema{"type": "string", "pattern": "^https?://"}, readEndpoint},
		{"network", "VPC id (aws) or network name (gcp); the default one when left out.", textSchema(),
			text("network", func(c *CloudSettings) *string { return &c.Network })},
		{"subnets", "Subnet ids (aws) or subnetwork names (gcp) to choose from.", textOrListSchema(),
			words("subnets", func(c *CloudSettings) *[]string { return &c.Subnets })},
		{"private", "Machines get no public address and are reached by their private one.", schema{"type": "boolean", "default": false},
			func(d *document, n *yaml.Node, c *CloudSettings) { c.Private = d.truth(n, "private") }},
		{"role", "IAM instance profile (aws) or e-mail of a service account (gcp) of machines; none when left out.", textSchema(),
			text("role", func(c *CloudSettings) *string { return &c.Role })},
		{"image", "Image in the place of the module's choice.", textSchema(), text("image", func(c *CloudSettings) *string { return &c.Image })},
		{"disk_type", "Type of root disks: gp3 (default), io2 … on aws; pd-balanced (default), pd-ssd … on gcp.", textSchema(),
			text("disk_type", func(c *CloudSettings) *string { return &c.DiskType })},
		{"user", "Whom to log in as; what the module answers when left out.", textSchema(),
			func(d *document, n *yaml.Node, c *CloudSettings) { c.User = d.user(n) }},
		{"identity", "Further private key file to try, for modules of your own.", textSchema(),
			func(d *document, n *yaml.Node, c *CloudSettings) { c.Identity, _ = d.filled(n, "identity") }},
		{"proxy_jump", "[user@]host[:port], or several with commas, to reach machines through.", textSchema(),
			func(d *document, n *yaml.Node, c *CloudSettings) { c.ProxyJump = d.proxyJump(n) }},
		{"proxy_command", "Shell line whose input and output are the connection; %h, %i (cloud id), %n (name), %p, %r and %z (zone) are replaced.", textSchema(),
			func(d *document, n *yaml.Node, c *CloudSettings) { c.ProxyCommand = d.proxyCommand(n, "hinprz") }},

		{"offers", "CSV file of what can be had, for modules of your own.", textSchema(),
			func(d *document, n *yaml.Node, c *CloudSettings) { c.Offers, _ = d.filled(n, "offers") }},
		{"variables", "Variables of a module of your own, beyond the interface.",
			schema{"type": "object", "propertyNames": schema{"pattern": variablePattern}}, readVariables},
		{"env", "Names of variables of your environment that Terraform is given, for modules of your own.", namesSchema(),
			func(d *document, n *yaml.Node, c *CloudSettings) { c.Env = d.variableNames(n, "env") }},
		{"shared", "Machines of a module of your own are not for Levin alone: they are never powered off from inside.", schema{"type": "boolean", "default": false},
			func(d *document, n *yaml.Node, c *CloudSettings) { c.Shared = d.truth(n, "shared") }},
	}
}

// word reads text without blanks.
func (d *document) word(n *yaml.Node, what string) string {
	s, ok := d.filled(n, what)
	if ok && strings.ContainsAny(s, " \t\r\n") {
		d.fail(n, s, "%s cannot hold blanks, is %s", what, quote(s))
		return ""
	}
	return s
}

func readModule(d *document, n *yaml.Node, c *CloudSettings) {
	text, ok := d.filled(n, "module")
	switch {
	case !ok:
	case slices.Contains(kinds(), text), kind(text) == ownKind:
		c.Module = text
	default:
		d.fail(n, text, "module must be %s; is %s", modulesText, quote(text)).Suggestion = d.nearest(text, kinds())
	}
}

func readEndpoint(d *document, n *yaml.Node, c *CloudSettings) {
	s, ok := d.filled(n, "endpoint")
	if !ok {
		return
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		d.fail(n, "", "endpoint must be a URL such as http://localhost:5000, without user and password")
		return
	}
	c.Endpoint = s
}

// variablePattern is of the names that Terraform takes for a variable.
const variablePattern = `^[A-Za-z_][A-Za-z0-9_-]*$`

var variableName = regexp.MustCompile(variablePattern)

func readVariables(d *document, n *yaml.Node, c *CloudSettings) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, n.Value, "variables must be a mapping of names to values, is %s", kindOf(n))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i]; !variableName.MatchString(key.Value) {
			d.fail(key, key.Value, "%s is not the name of a Terraform variable", quote(key.Value))
		}
	}
	d.noCredentials(n, "variables", "env")
	c.Variables, _ = d.plain(n, "variables").(map[string]any)
}
