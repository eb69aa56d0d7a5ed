package terraform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/levinrun/levin/cluster"
)

// EjectOptions say what an ejected folder is about.
type EjectOptions struct {
	// Name of the app or run it came from: part of the names of what it creates. A
	// DNS label.
	Name string
}

// Eject writes groups into one folder of plain Terraform that
// `terraform init && terraform apply` accepts as it is: their modules, a root that
// calls them, variables, outputs and a README. From then on they are the user's:
// what it creates has none of Levin's tags, so no sweep looks at it; no time but
// ttl_seconds ends it; and each machine makes its own host key.
//
// The folder is made when it does not exist, and refused when anything is in it.
// Groups whose provider is part of Levin are refused. The folder holds no key and
// no secret: a root that has a private key in an unknown place is refused.
func Eject(dir string, groups []Root, o EjectOptions) error {
	files, err := Ejected(groups, o)
	if err != nil {
		return err
	}
	there, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &cluster.Failure{Kind: cluster.BadInput, What: "could not read the folder " + dir, Words: err.Error(), Err: err}
	}
	if len(there) > 0 {
		return &cluster.Failure{
			Kind: cluster.BadInput,
			What: fmt.Sprintf("%s is not empty: %s is there", dir, there[0].Name()),
			Next: "name a folder that does not exist yet",
		}
	}
	for _, name := range sortedKeys(files) {
		file := filepath.Join(dir, filepath.FromSlash(name))
		err := os.MkdirAll(filepath.Dir(file), 0o755)
		if err == nil {
			err = os.WriteFile(file, files[name], 0o644)
		}
		if err != nil {
			return &cluster.Failure{
				Kind: cluster.BadInput, What: "could not write " + file, Words: err.Error(), Err: err,
				Next: "remove what is in " + dir + " before the next try",
			}
		}
	}
	return nil
}

// Ejected gives the files that Eject writes, by slash-separated name. The same
// groups give the same bytes.
func Ejected(groups []Root, o EjectOptions) (map[string][]byte, error) {
	e := ejection{name: o.Name, groups: groups, files: map[string][]byte{}, requires: map[string]Requirement{}}
	for _, step := range []func() error{e.check, e.modules, e.calls, e.main, e.variables, e.outputs, e.readme, e.noSecrets} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return e.files, nil
}

// ejection is what Ejected works on.
type ejection struct {
	name     string
	groups   []Root
	files    map[string][]byte
	requires map[string]Requirement // by local name, of all modules
	provider []providerBlock
	call     []moduleCall
}

// providerBlock is one configuration of a provider.
type providerBlock struct {
	name, alias string
	settings    map[string]any
}

// moduleCall is one group.
type moduleCall struct {
	label     string
	number    int // from 1
	group     Root
	providers map[string]string // for the module's local names: alias, or "" for the default configuration
}

func (e *ejection) check() error {
	refuse := func(what, next string) error {
		return &cluster.Failure{Kind: cluster.BadInput, What: what, Next: next}
	}
	if len(e.groups) == 0 {
		return refuse("there is no machine to eject", "")
	}
	if e.name == "" || cluster.Name(e.name) != e.name {
		return refuse(fmt.Sprintf("%q is no name for what is to be created", e.name), "use lower-case letters, digits and dashes")
	}
	seen := map[string]bool{}
	for _, g := range e.groups {
		if err := g.check(); err != nil {
			return refuse(err.Error(), "")
		}
		for _, machine := range sortedKeys(g.Machines) {
			if seen[machine] {
				return refuse(fmt.Sprintf("two machines are called %q", machine), "")
			}
			seen[machine] = true
		}
		for _, name := range sortedKeys(g.Module.Requires) {
			q := g.Module.Requires[name]
			if q.InProcess {
				return refuse(fmt.Sprintf("machines of module %s cannot be ejected: their provider %s is part of levin, so Terraform alone cannot use it", g.Module.Name, q.Source), "choose another cloud with --cloud")
			}
			if q.Source == "" {
				continue // built into Terraform
			}
			if other, ok := e.requires[name]; ok && other != q {
				return refuse(fmt.Sprintf("two modules mean different providers by %q: %s %s and %s %s", name, other.Source, other.Version, q.Source, q.Version), "eject their components into different folders")
			}
			e.requires[name] = q
		}
	}
	return nil
}

func (e *ejection) modules() error {
	for _, g := range e.groups {
		sources, err := g.Module.sources()
		if err != nil {
			return err
		}
		for name, b := range sources {
			file := path.Join(modulesDir, g.Module.Name, name)
			if old, ok := e.files[file]; ok && !bytes.Equal(old, b) {
				return &cluster.Failure{Kind: cluster.BadInput, What: fmt.Sprintf("there are two different modules called %q", g.Module.Name)}
			}
			e.files[file] = b
		}
	}
	return nil
}

// calls names a block for each configuration of a provider, and one for each
// group.
func (e *ejection) calls() error {
	taken := map[string]int{}
	unique := func(label string) string {
		if taken[label]++; taken[label] > 1 {
			return fmt.Sprintf("%s_%d", label, taken[label])
		}
		return label
	}
	aliases := map[string]string{} // by the configuration itself
	for i, g := range e.groups {
		call := moduleCall{number: i + 1, group: g, providers: map[string]string{}}
		place := ""
		for _, name := range sortedKeys(e.requiredBy(g)) {
			settings := g.Module.ProviderConfig[name]
			if len(settings) == 0 {
				call.providers[name] = ""
				continue
			}
			text, err := json.Marshal(settings)
			if err != nil {
				return fmt.Errorf("provider %s: %w", name, err)
			}
			region, _ := settings["region"].(string)
			if place == "" {
				place = region
			}
			key := name + " " + string(text)
			if aliases[key] == "" {
				alias := strings.TrimPrefix(unique(name+"."+identifier(region, "main")), name+".")
				aliases[key] = alias
				e.provider = append(e.provider, providerBlock{name, alias, settings})
			}
			call.providers[name] = aliases[key]
		}
		call.label = unique(identifier(g.Module.Name+"_"+place, "machines"))
		e.call = append(e.call, call)
	}
	return nil
}

// requiredBy are the providers that a group's module needs and that are not built
// in.
func (e *ejection) requiredBy(g Root) map[string]Requirement {
	needed := maps.Clone(g.Module.Requires)
	maps.DeleteFunc(needed, func(_ string, q Requirement) bool { return q.Source == "" })
	return needed
}

// identifier makes a name of HCL out of text, or out of what stands for it when
// nothing is left.
func identifier(text, otherwise string) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, text), "_")
	if name == "" {
		return otherwise
	}
	if name[0] >= '0' && name[0] <= '9' {
		return "_" + name
	}
	return name
}

func (e *ejection) main() error {
	f := hclwrite.NewEmptyFile()
	body := f.Body()
	comment(body, "The machines of "+e.name+". See README.md.")
	body.AppendNewline()
	requirements(body, e.requires)
	for _, p := range e.provider {
		body.AppendNewline()
		block := body.AppendNewBlock("provider", []string{p.name}).Body()
		block.SetAttributeValue("alias", cty.StringVal(p.alias))
		if err := setProvider(block, p.settings); err != nil {
			return fmt.Errorf("provider %s: %w", p.name, err)
		}
	}
	for _, c := range e.call {
		body.AppendNewline()
		if err := e.module(body.AppendNewBlock("module", []string{c.label}).Body(), c); err != nil {
			return fmt.Errorf("module %s: %w", c.label, err)
		}
	}
	e.files[mainFile] = hclwrite.Format(f.Bytes())
	return nil
}

// module writes the call of one group.
func (e *ejection) module(body *hclwrite.Body, c moduleCall) error {
	body.SetAttributeValue("source", cty.StringVal("./modules/"+c.group.Module.Name))
	if len(c.providers) > 0 {
		var passed []hclwrite.ObjectAttrTokens
		for _, name := range sortedKeys(c.providers) {
			configuration := name
			if alias := c.providers[name]; alias != "" {
				configuration += "." + alias
			}
			passed = append(passed, hclwrite.ObjectAttrTokens{
				Name: hclwrite.TokensForIdentifier(name), Value: hclwrite.TokensForIdentifier(configuration),
			})
		}
		body.SetAttributeRaw("providers", hclwrite.TokensForObject(passed))
	}
	body.AppendNewline()
	vars, err := c.group.variables()
	if err != nil {
		return err
	}
	vars["machines"] = ejectedMachines(c.group.Machines)
	vars["tags"] = map[string]string{"project": e.name}
	maps.DeleteFunc(vars, func(name string, _ any) bool { return slices.Contains(ejectedVariables(), name) })
	_, grouped := vars[groupVariable]
	delete(vars, groupVariable)

	raw := func(name, expression string) { body.SetAttributeRaw(name, hclwrite.TokensForIdentifier(expression)) }
	raw("run_id", "var.name")
	if grouped && len(e.call) > 1 { // alone, its names need nothing more than var.name
		raw(groupVariable, fmt.Sprintf(`"${var.name}-%d"`, c.number))
	}
	raw("ssh_public_key", "trimspace(file(pathexpand(var.ssh_public_key_file)))")
	raw("ingress_cidrs", "var.ingress_cidrs")
	raw("ttl_seconds", "var.ttl_seconds")
	return setAll(body, vars)
}

// ejectedVariables are those of the interface that come from variables of the
// ejected root.
func ejectedVariables() []string {
	return []string{"run_id", "ssh_public_key", "ingress_cidrs", "ttl_seconds"}
}

// ejectedMachines are the machines without what only Levin gives them: host keys
// and the time after which a machine that Levin never reached ends itself.
func ejectedMachines(machines map[string]MachineInput) map[string]any {
	ejected := map[string]any{}
	for name, m := range machines {
		m.Extra = maps.Clone(m.Extra)
		for _, own := range []string{"host_key", "host_key_public", "unreached_seconds"} {
			delete(m.Extra, own)
		}
		if m.Extra == nil {
			m.Extra = map[string]any{}
		}
		if m.Ports == nil {
			m.Ports = []int{}
		}
		ejected[name] = struct {
			MachineInput
			Extra map[string]any `json:"extra"` // also when it is empty: modules expect it
		}{m, m.Extra}
	}
	return ejected
}

func (e *ejection) variables() error {
	var cidrs []string
	ttl := 0
	for _, g := range e.groups {
		cidrs = append(cidrs, g.IngressCIDRs...)
		ttl = max(ttl, g.TTL)
	}
	slices.Sort(cidrs)
	cidrs = slices.Compact(cidrs)

	f := hclwrite.NewEmptyFile()
	variable := func(name, description, typ string, value any) error {
		if name != "name" {
			f.Body().AppendNewline()
		}
		block := f.Body().AppendNewBlock("variable", []string{name}).Body()
		block.SetAttributeValue("description", cty.StringVal(description))
		block.SetAttributeRaw("type", hclwrite.TokensForIdentifier(typ))
		if value == nil {
			return nil
		}
		return setAll(block, map[string]any{"default": value})
	}
	var allowed any // without one Terraform asks for it
	if len(cidrs) > 0 {
		allowed = cidrs
	}
	err := errors.Join(
		variable("name", "Part of the names of keys, firewall rules and the like.", "string", e.name),
		variable("ssh_public_key_file", "File of the SSH public key that may log in.", "string", "~/.ssh/id_ed25519.pub"),
		variable("ingress_cidrs", "Who may reach port 22 and the declared ports, as CIDRs: your own address, as in 192.0.2.7/32.", "list(string)", allowed),
		variable("ttl_seconds", "After how many seconds a machine ends itself, whatever it is doing; 0 is never.", "number", ttl),
	)
	e.files["variables.tf"] = hclwrite.Format(f.Bytes())
	return err
}

func (e *ejection) outputs() error {
	var all []string
	for _, c := range e.call {
		all = append(all, "module."+c.label+".machines")
	}
	e.files["outputs.tf"] = hclwrite.Format([]byte(`output "machines" {
  description = "How each machine is reached, by name."
  value       = local.machines
}

output "ssh" {
  description = "The command that logs in to each machine."
  value       = { for name, machine in local.machines : name => "ssh -p ${machine.port} ${machine.user}@${machine.address}" }
}

locals {
  machines = merge(` + strings.Join(all, ", ") + `)
}
`))
	return nil
}

func (e *ejection) readme() error {
	var b strings.Builder
	fmt.Fprintf(&b, `# Machines of %s

Plain Terraform, written by `+"`levin eject`"+`. It is yours: Levin does not know of what you create with it, does not
run anything on it and does not remove it.

**It costs money from `+"`terraform apply`"+` until `+"`terraform destroy`"+`.**

| machine | type | where | |
|---|---|---|---|
`, e.name)
	for _, c := range e.call {
		for _, name := range sortedKeys(c.group.Machines) {
			m := c.group.Machines[name]
			kind := "on demand"
			if m.Spot {
				kind = "spot: the cloud may take it back"
			}
			where := strings.TrimSpace("module." + c.label + " " + m.Zone)
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, m.Type, where, kind)
		}
	}
	fmt.Fprintf(&b, `
## Create

`+"```sh"+`
terraform init
terraform apply
terraform output ssh      # how to log in
`+"```"+`

Needed: Terraform or OpenTofu %s or newer, and the usual credentials of each cloud in your environment. `+"`variables.tf`"+` says what can be changed
(`+"`terraform apply -var ttl_seconds=0`"+`). The first connection shows a host key that you have to judge yourself.

## Remove

`+"```sh"+`
terraform destroy
`+"```"+`

Keep `+"`terraform.tfstate`"+` until then: it is the only record of what exists. A machine that has ended itself (`+"`ttl_seconds`"+`, powering
off) may leave its key, its firewall rules or its disk behind; destroy removes those too.

## What is here

`+"`main.tf`"+` calls the folders in `+"`modules/`"+`, one call for each cloud and region. Each module's `+"`variables.tf`"+` says what it understands.
`, minVersion)
	e.files["README.md"] = []byte(b.String())
	return nil
}

// noSecrets refuses what has a private key in it.
func (e *ejection) noSecrets() error {
	for _, name := range sortedKeys(e.files) {
		if bytes.Contains(e.files[name], []byte("PRIVATE KEY")) {
			return &cluster.Failure{Kind: cluster.BadInput, What: "a private key would be written into " + name, Next: "give it to Terraform by the environment (env: in the cloud's settings) instead"}
		}
	}
	return nil
}
