package terraform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// The files of a root.
const (
	mainFile   = "main.tf"
	modulesDir = "modules"
)

// groupVariable is given to modules that declare it.
const groupVariable = "group_id"

// interfaceVariables are what modules take from their root.
func interfaceVariables() []string {
	return []string{"run_id", groupVariable, "machines", "ssh_public_key", "ingress_cidrs", "tags", "ttl_seconds"}
}

// Write puts the root's files into dir, which is made when it does not exist.
// State that is there stays; files of the module that it has no longer go. Each
// file is replaced whole or not at all, and only if it differs.
func (r Root) Write(dir string) error {
	files, err := r.Files()
	if err != nil {
		return err
	}
	module := filepath.Join(dir, modulesDir, r.Module.Name)
	if err := os.MkdirAll(module, 0o700); err != nil {
		return fmt.Errorf("could not make the folder of a Terraform root: %w", err)
	}
	if err := removeOld(module, path.Join(modulesDir, r.Module.Name), files); err != nil {
		return fmt.Errorf("could not remove what is no longer part of a Terraform root: %w", err)
	}
	for _, name := range sortedKeys(files) {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, files[name]) {
			continue
		}
		err := os.MkdirAll(filepath.Dir(file), 0o700)
		if err == nil {
			err = renameio.WriteFile(file, files[name], 0o600, renameio.WithTempDir(filepath.Dir(file)))
		}
		if err != nil {
			return fmt.Errorf("could not write a Terraform root: %w", err)
		}
	}
	return nil
}

// removeOld removes the *.tf files below the folder of a module, whose name in the
// root is given, that are not among files.
func removeOld(folder, name string, files map[string][]byte) error {
	return filepath.WalkDir(folder, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(file) != ".tf" {
			return err
		}
		rel, err := filepath.Rel(folder, file)
		if err != nil {
			return err
		}
		if _, ok := files[path.Join(name, filepath.ToSlash(rel))]; ok {
			return nil
		}
		return os.Remove(file)
	})
}

// Files gives the root's files by slash-separated name. The same root gives the
// same bytes: everything that comes from a map is sorted.
func (r Root) Files() (map[string][]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("writing the root of group %s: %w", r.Group, err)
	}
	main, err := r.main()
	if err != nil {
		return nil, fmt.Errorf("writing the root of group %s: %w", r.Group, err)
	}
	files := map[string][]byte{mainFile: main}
	sources, err := r.Module.sources()
	if err != nil {
		return nil, err
	}
	for name, b := range sources {
		files[path.Join(modulesDir, r.Module.Name, name)] = b
	}
	return files, nil
}

// check refuses what would not come out as a root of this module.
func (r Root) check() error {
	if !hclsyntax.ValidIdentifier(r.Module.Name) || r.Module.Files == nil {
		return fmt.Errorf("module %q has no name or no files", r.Module.Name)
	}
	for name := range r.Extra {
		if slices.Contains(interfaceVariables(), name) {
			return fmt.Errorf("%q is a variable of every module and cannot be set for one", name)
		}
	}
	if r.Backend != nil {
		return r.Backend.check()
	}
	return nil
}

// main writes main.tf.
func (r Root) main() ([]byte, error) {
	f := hclwrite.NewEmptyFile()
	body := f.Body()
	comment(body, append([]string{
		fmt.Sprintf("Group %s of run %s. Written by levin.", r.Group, r.Run),
		"",
		fmt.Sprintf("Levin applies and destroys this root itself; `levin down %s` removes what is left.", r.Run),
		r.whereState(),
		"described in modules/" + r.Module.Name + ".",
	}, r.byHand()...)...)
	body.AppendNewline()
	settings := requirements(body, r.Module.Requires)
	if r.Backend != nil {
		if err := r.Backend.write(settings, r.Run, r.Group); err != nil {
			return nil, fmt.Errorf("backend %s: %w", r.Backend.Type, err)
		}
	}
	body.AppendNewline()
	for _, name := range sortedKeys(r.Module.ProviderConfig) {
		if err := setProvider(body.AppendNewBlock("provider", []string{name}).Body(), r.Module.ProviderConfig[name]); err != nil {
			return nil, fmt.Errorf("provider %s: %w", name, err)
		}
		body.AppendNewline()
	}
	module := body.AppendNewBlock("module", []string{"machines"}).Body()
	module.SetAttributeValue("source", cty.StringVal("./modules/"+r.Module.Name))
	module.AppendNewline()
	vars, err := r.variables()
	if err != nil {
		return nil, err
	}
	if err := setAll(module, vars); err != nil {
		return nil, err
	}
	body.AppendNewline()
	output := body.AppendNewBlock("output", []string{"machines"}).Body()
	output.SetAttributeRaw("value", hclwrite.TokensForIdentifier("module.machines.machines"))
	return hclwrite.Format(f.Bytes()), nil
}

// whereState says where the record of what exists is, up to the middle of a
// sentence about the machines.
func (r Root) whereState() string {
	if r.Backend != nil {
		return "What exists is in the state that the backend below keeps. The machines are"
	}
	return "What exists is in terraform.tfstate: keep it until all is removed. The machines are"
}

// byHand says whether Terraform can remove the machines without Levin.
func (r Root) byHand() []string {
	for _, name := range sortedKeys(r.Module.Requires) {
		if q := r.Module.Requires[name]; q.InProcess {
			return []string{"The provider " + q.Source + " is part of levin, so nothing else can remove them."}
		}
	}
	return []string{"By hand, in this folder: terraform init && terraform destroy"}
}

// variables are what the module is given: the interface of every module, and
// what this one takes beyond it.
func (r Root) variables() (map[string]any, error) {
	machines := map[string]any{}
	for name, m := range r.Machines {
		if m.Ports == nil {
			m.Ports = []int{}
		}
		machines[name] = m
	}
	vars := map[string]any{
		"run_id":         r.Run,
		"machines":       machines,
		"ssh_public_key": r.SSHPublicKey,
		"ingress_cidrs":  append([]string{}, r.IngressCIDRs...),
		"tags":           r.Tags,
		"ttl_seconds":    r.TTL,
	}
	if r.Tags == nil {
		vars["tags"] = map[string]string{}
	}
	grouped, err := r.Module.declares(groupVariable)
	if err != nil {
		return nil, err
	}
	if grouped {
		vars[groupVariable] = r.Group
	}
	for name, v := range r.Extra {
		vars[name] = v
	}
	return vars, nil
}

// requirements writes the terraform block, and gives it for what else belongs
// into it.
func requirements(body *hclwrite.Body, requires map[string]Requirement) *hclwrite.Body {
	block := body.AppendNewBlock("terraform", nil).Body()
	block.SetAttributeValue("required_version", cty.StringVal(">= "+minVersion))
	var providers *hclwrite.Body
	for _, name := range sortedKeys(requires) {
		q := requires[name]
		if q.Source == "" {
			continue // built into Terraform
		}
		if providers == nil {
			block.AppendNewline()
			providers = block.AppendNewBlock("required_providers", nil).Body()
		}
		fields := map[string]cty.Value{"source": cty.StringVal(q.Source)}
		if q.Version != "" {
			fields["version"] = cty.StringVal(q.Version)
		}
		providers.SetAttributeValue(name, cty.ObjectVal(fields))
	}
	return block
}

// setProvider writes the settings of a provider: attributes, then nested blocks.
func setProvider(body *hclwrite.Body, settings map[string]any) error {
	attributes := map[string]any{}
	for name, v := range settings {
		if _, nested := v.(map[string]any); !nested {
			attributes[name] = v
		}
	}
	if err := setAll(body, attributes); err != nil {
		return err
	}
	for _, name := range sortedKeys(settings) {
		nested, ok := settings[name].(map[string]any)
		if !ok {
			continue
		}
		if !hclsyntax.ValidIdentifier(name) {
			return fmt.Errorf("%q is no name for a block", name)
		}
		body.AppendNewline()
		if err := setProvider(body.AppendNewBlock(name, nil).Body(), nested); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// setAll sets attributes in the order of their names. Values go through JSON, so
// that a struct is written with the names its module expects.
func setAll(body *hclwrite.Body, values map[string]any) error {
	for _, name := range sortedKeys(values) {
		if !hclsyntax.ValidIdentifier(name) {
			return fmt.Errorf("%q is no name for a variable", name)
		}
		b, err := json.Marshal(values[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		t, err := ctyjson.ImpliedType(b)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		v, err := ctyjson.Unmarshal(b, t)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		body.SetAttributeValue(name, v)
	}
	return nil
}

// ReadMachines gives the machines that the root in dir asks for, by name.
func ReadMachines(dir string) (map[string]MachineInput, error) {
	file := filepath.Join(dir, mainFile)
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading a Terraform root: %w", err)
	}
	f, diags := hclsyntax.ParseConfig(src, file, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, fmt.Errorf("reading a Terraform root: %w", diags)
	}
	for _, block := range f.Body.(*hclsyntax.Body).Blocks {
		a := block.Body.Attributes["machines"]
		if block.Type != "module" || a == nil {
			continue
		}
		v, diags := a.Expr.Value(nil)
		if diags.HasErrors() {
			return nil, fmt.Errorf("reading a Terraform root: %w", diags)
		}
		b, err := ctyjson.Marshal(v, v.Type())
		if err != nil {
			return nil, fmt.Errorf("reading the machines in %s: %w", file, err)
		}
		var machines map[string]MachineInput
		if err := decodeStrict(b, &machines); err != nil {
			return nil, fmt.Errorf("reading the machines in %s: %w", file, err)
		}
		return machines, nil
	}
	return nil, fmt.Errorf("%s calls no module with machines", file)
}

func comment(body *hclwrite.Body, lines ...string) {
	var tokens hclwrite.Tokens
	for _, line := range lines {
		line = strings.TrimRight("# "+strings.NewReplacer("\n", " ", "\r", " ").Replace(line), " ")
		tokens = append(tokens, &hclwrite.Token{Type: hclsyntax.TokenComment, Bytes: []byte(line + "\n")})
	}
	body.AppendUnstructuredTokens(tokens)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
