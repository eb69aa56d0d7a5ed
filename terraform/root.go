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

// interfaceVariables are what every module takes.
func interfaceVariables() []string {
	return []string{"run_id", "machines", "ssh_public_key", "ingress_cidrs", "tags", "ttl_seconds"}
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
	old, err := os.ReadDir(module)
	if err != nil {
		return fmt.Errorf("could not read a Terraform root: %w", err)
	}
	for _, e := range old {
		if _, ok := files[path.Join(modulesDir, r.Module.Name, e.Name())]; !ok && path.Ext(e.Name()) == ".tf" {
			if err := os.Remove(filepath.Join(module, e.Name())); err != nil {
				return fmt.Errorf("could not remove what is no longer part of a Terraform root: %w", err)
			}
		}
	}
	for _, name := range sortedKeys(files) {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, files[name]) {
			continue
		}
		if err := renameio.WriteFile(file, files[name], 0o600, renameio.WithTempDir(filepath.Dir(file))); err != nil {
			return fmt.Errorf("could not write a Terraform root: %w", err)
		}
	}
	return nil
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
	entries, err := fs.ReadDir(r.Module.Files, ".")
	if err != nil {
		return nil, fmt.Errorf("reading module %s: %w", r.Module.Name, err)
	}
	for _, e := range entries {
		if e.IsDir() || path.Ext(e.Name()) != ".tf" {
			continue
		}
		b, err := fs.ReadFile(r.Module.Files, e.Name())
		if err != nil {
			return nil, fmt.Errorf("reading module %s: %w", r.Module.Name, err)
		}
		files[path.Join(modulesDir, r.Module.Name, e.Name())] = b
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
		"What exists is in terraform.tfstate: keep it until all is removed. The machines are",
		"described in modules/" + r.Module.Name + ".",
	}, r.byHand()...)...)
	body.AppendNewline()
	r.requirements(body)
	for _, name := range sortedKeys(r.Module.ProviderConfig) {
		block := body.AppendNewBlock("provider", []string{name}).Body()
		if err := setAll(block, r.Module.ProviderConfig[name]); err != nil {
			return nil, fmt.Errorf("provider %s: %w", name, err)
		}
		body.AppendNewline()
	}
	module := body.AppendNewBlock("module", []string{"machines"}).Body()
	module.SetAttributeValue("source", cty.StringVal("./modules/"+r.Module.Name))
	module.AppendNewline()
	if err := setAll(module, r.variables()); err != nil {
		return nil, err
	}
	body.AppendNewline()
	output := body.AppendNewBlock("output", []string{"machines"}).Body()
	output.SetAttributeRaw("value", hclwrite.TokensForIdentifier("module.machines.machines"))
	return hclwrite.Format(f.Bytes()), nil
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
func (r Root) variables() map[string]any {
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
	for name, v := range r.Extra {
		vars[name] = v
	}
	return vars
}

func (r Root) requirements(body *hclwrite.Body) {
	block := body.AppendNewBlock("terraform", nil).Body()
	block.SetAttributeValue("required_version", cty.StringVal(">= "+minVersion))
	var providers *hclwrite.Body
	for _, name := range sortedKeys(r.Module.Requires) {
		q := r.Module.Requires[name]
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
	body.AppendNewline()
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
