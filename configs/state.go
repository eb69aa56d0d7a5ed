package configs

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// backends are the types of Terraform backend that keep a state for each group.
func backends() []string {
	return []string{"s3", "gcs", "azurerm", "pg", "http", "consul", "kubernetes", "cos", "oss"}
}

func readState(d *document, n *yaml.Node, s *Settings) {
	var state StateSettings
	nodes := stateKeys().read(d, "state", n, &state)
	s.State = &state
	if n.Kind != yaml.MappingNode {
		return
	}
	config := nodes["config"]
	switch {
	case nodes["backend"] == nil:
		d.fail(n, "", "state has no backend; it can be %s", strings.Join(backends(), ", "))
	case config == nil || config.Kind != yaml.MappingNode:
		if config == nil {
			d.fail(n, "", "state has no config; one of its values must hold ${group}, since each group has a state of its own")
		}
	case !holds(config, "${group}"):
		d.fail(config, "", "no value of config holds ${group}, so that all groups would share one state")
	}
}

// stateKeys is the table of `state`.
func stateKeys() object[StateSettings] {
	return object[StateSettings]{
		{"backend", "Type of the Terraform backend.", enumSchema(backends()...),
			func(d *document, n *yaml.Node, s *StateSettings) { s.Backend = d.oneOf(n, "backend", backends()...) }},
		{"config", "Settings of the backend, passed through; ${run} and ${group} are replaced, and one value must hold ${group}. Credentials come through env.",
			schema{"type": "object"}, readStateConfig},
		{"env", "Names of variables of your environment that Terraform is given for the backend.", namesSchema(),
			func(d *document, n *yaml.Node, s *StateSettings) { s.Env = d.variableNames(n, "env") }},
	}
}

func readStateConfig(d *document, n *yaml.Node, s *StateSettings) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, n.Value, "config must be a mapping of names to values, is %s", kindOf(n))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i]; !variableName.MatchString(key.Value) {
			d.fail(key, key.Value, "%s is not the name of a backend's argument", quote(key.Value))
		}
	}
	d.noCredentials(n, "config", "state.env")
	d.onlyKnownPlaceholders(n)
	s.Config, _ = d.plain(n, "config").(map[string]any)
}

// holds reports whether a text below n holds part.
func holds(n *yaml.Node, part string) bool {
	if n.Kind == yaml.ScalarNode {
		return strings.Contains(n.Value, part)
	}
	for i, c := range n.Content {
		if (n.Kind != yaml.MappingNode || i%2 == 1) && holds(c, part) {
			return true
		}
	}
	return false
}

var placeholder = regexp.MustCompile(`\$\{[^}]*\}?`)

func (d *document) onlyKnownPlaceholders(n *yaml.Node) {
	for _, p := range placeholder.FindAllString(n.Value, -1) {
		if p != "${run}" && p != "${group}" {
			d.fail(n, p, "config can hold ${run} and ${group}, holds %s", quote(p))
		}
	}
	for _, c := range n.Content {
		d.onlyKnownPlaceholders(c)
	}
}

// noCredentials refuses what looks like a credential below n: it would be written
// into Terraform's files. The value itself is never shown.
func (d *document) noCredentials(n *yaml.Node, what, env string) {
	refuse := func(at *yaml.Node, name, why string) {
		d.fail(at, "", "%s of %s %s, which Terraform would write to its files; put it into a variable of your environment and name that in %s", name, what, why, env)
	}
	var look func(n *yaml.Node, name string)
	look = func(n *yaml.Node, name string) {
		switch {
		case n.Kind == yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				look(n.Content[i+1], n.Content[i].Value)
			}
		case n.Kind == yaml.SequenceNode:
			for _, item := range n.Content {
				look(item, name)
			}
		case n.Tag == "!!bool" || n.Tag == "!!null" || n.Value == "":
		case credentialName.MatchString(name):
			refuse(n, name, "is a credential by its name")
		case holdsCredential(n.Value):
			refuse(n, name, "holds a password or a key")
		}
	}
	look(n, what)
}

// credentialName is of arguments whose values are credentials: those of the
// backends, and what people call them in modules. Some are so only as a whole
// word: the kms_encryption_key of gcs is a name.
var credentialName = regexp.MustCompile(`(?i)^(.*(password|passwd|secret|token)|(.*_)?(api|secret|access|private)_?key|(sse_)?(customer|encryption)_key|http_auth|credentials|client_key|.*private_key_pem|secret_id)$`)

var passwordParameter = regexp.MustCompile(`(?i)(^|[\s?&;])(password|sslpassword|sig)\s*=\s*[^\s&;]`)

// holdsCredential recognises values that are credentials under any name: a
// connection string or URL with a password, a private key, a key file of GCP.
func holdsCredential(s string) bool {
	if strings.Contains(s, "PRIVATE KEY-----") || strings.Contains(s, `"private_key"`) || passwordParameter.MatchString(s) {
		return true
	}
	_, rest, isURL := strings.Cut(s, "://")
	if !isURL {
		return false
	}
	if u, err := url.Parse(s); err == nil {
		_, set := u.User.Password()
		return u.User != nil && set
	}
	authority, _, _ := strings.Cut(rest, "/")
	user, _, at := strings.Cut(authority, "@")
	return at && strings.Contains(user, ":")
}

// variableNames reads names of variables of the user's environment.
func (d *document) variableNames(n *yaml.Node, what string) []string {
	d.notEmpty(n, what, nil)
	var all []string
	for _, item := range d.items(n, what) {
		name, ok := d.filled(item, what)
		switch {
		case !ok:
		case strings.Contains(name, "="):
			d.fail(item, "", "%s lists names of variables, not their values", what)
		case !isIdentifier(name):
			d.fail(item, name, "%s is not the name of a variable: letters, digits and _, not beginning with a digit", quote(name))
		case strings.HasPrefix(name, "LEVIN_"):
			d.fail(item, name, "%s: names beginning with LEVIN_ are Levin's own", name)
		case strings.HasPrefix(name, "TF_") && !strings.HasPrefix(name, "TF_HTTP_") && !strings.HasPrefix(name, "TF_TOKEN_"):
			d.fail(item, name, "%s: of Terraform's own variables only TF_HTTP_… and TF_TOKEN_… are passed on", name)
		case !slices.Contains(all, name):
			all = append(all, name)
		}
	}
	return all
}

func namesSchema() schema {
	name := schema{"type": "string", "pattern": `^[A-Za-z_][A-Za-z0-9_]*$`}
	return schema{"anyOf": []any{name, schema{"type": "array", "items": name, "minItems": 1}}}
}
