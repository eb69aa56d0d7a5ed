package terraform

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// Write puts the root's files into dir, which is made when it does not exist.
// State that is there stays. Each file is replaced whole or not at all.
func (r Root) Write(dir string) error {
	files, err := r.Files()
	if err != nil {
		return err
	}
	for name, content := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return fmt.Errorf("could not make the folder of a Terraform root: %w", err)
		}
		if err := renameio.WriteFile(file, content, 0o600, renameio.WithTempDir(filepath.Dir(file))); err != nil {
			return fmt.Errorf("could not write a Terraform root: %w", err)
		}
	}
	return nil
}

// Files gives the root's files by slash-separated name. The same root gives the
// same bytes: everything that comes from a map is sorted.
func (r Root) Files() (map[string][]byte, error) {
	main, err := r.main()
	if err != nil {
		return nil, fmt.Errorf("writing the root of group %s: %w", r.Group, err)
	}
	files := map[string][]byte{"main.tf": main}
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
		files[path.Join("modules", r.Module.Name, e.Name())] = b
	}
	return files, nil
}

// main writes main.tf.
func (r Root) main() ([]byte, error) {
	f := hclwrite.NewEmptyFile()
	body := f.Body()
	comment(body,
		fmt.Sprintf("Group %s of run %s. Written by levin.", r.Group, r.Run),
		"",
		fmt.Sprintf("Levin applies and destroys this root itself; `levin down %s` removes what is left.", r.Run),
		"The machines are described in modules/"+r.Module.Name+".")
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
	var names []string
	for _, name := range sortedKeys(r.Module.Requires) {
		if r.Module.Requires[name].Source != "" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return
	}
	block := body.AppendNewBlock("terraform", nil).Body().AppendNewBlock("required_providers", nil).Body()
	for _, name := range names {
		q := r.Module.Requires[name]
		fields := map[string]cty.Value{"source": cty.StringVal(q.Source)}
		if q.Version != "" {
			fields["version"] = cty.StringVal(q.Version)
		}
		block.SetAttributeValue(name, cty.ObjectVal(fields))
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
