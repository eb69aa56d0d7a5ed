package module

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
)

// regionVariable is given the region of a group's offers, if a module declares it.
const regionVariable = "region"

// given are the variables that every module must declare: they are given to each.
func given() []string {
	return []string{"run_id", "machines", "ssh_public_key", "ingress_cidrs", "tags", "ttl_seconds"}
}

// offered are the variables that are given to the modules that declare them.
func offered() []string { return []string{"group_id", regionVariable} }

// machineFields and extraFields are what is told of one machine.
func machineFields() []string {
	return []string{"type", "zone", "disk", "spot", "image", "ports", "extra"}
}

func extraFields() []string {
	return []string{"component", "arch", "cpus", "memory", "gpu", "gpus", "unreached_seconds", "host_key", "host_key_public"}
}

// source is what the files of a module say of it.
type source struct {
	dir       string
	requires  map[string]terraform.Requirement
	variables map[string]variable
	outputs   map[string]bool
	extra     map[string]bool // the fields of a machine's extra that it declares
	firewall  bool            // it uses ingress_cidrs
	problems  []error         // what it cannot be used with
}

type variable struct {
	at        hcl.Range
	optional  bool // it has a default
	sensitive bool
}

// declares reports whether the module has a variable of that name.
func (s source) declares(name string) bool {
	_, ok := s.variables[name]
	return ok
}

// reads reports whether the module declares a field of a machine's extra.
func (s source) reads(field string) bool { return s.extra[field] }

// summary says, for people, what the module can do.
func (s source) summary() string {
	say := func(yes bool, can, cannot string) string {
		if yes {
			return can
		}
		return cannot
	}
	return strings.Join([]string{
		say(s.reads("host_key"), "puts host keys on machines", "answers the host keys of machines itself"),
		say(s.firewall, "limits who reaches port 22", "does not limit who reaches port 22"),
		say(s.reads("unreached_seconds"), "ends machines that were never reached", "leaves machines that were never reached to Levin and Terraform"),
	}, ", ")
}

// readSource reads the *.tf files of a module's folder.
func readSource(dir string) (source, error) {
	s := source{
		dir: dir, requires: map[string]terraform.Requirement{}, variables: map[string]variable{},
		outputs: map[string]bool{}, extra: map[string]bool{},
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return s, &cluster.Failure{Kind: cluster.BadInput, What: "could not read the module " + dir, Err: err}
	}
	read := false
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		switch {
		case e.IsDir():
		case strings.HasSuffix(e.Name(), ".tf.json"):
			s.problem("%s is in Terraform's JSON syntax, which Levin does not read; write it as %s", file, strings.TrimSuffix(e.Name(), ".json"))
		case filepath.Ext(e.Name()) == ".tf":
			read = true
			s.readFile(file)
		}
	}
	if !read {
		return s, &cluster.Failure{
			Kind: cluster.BadInput, What: "there are no *.tf files in the module " + dir,
			Next: "docs/clouds.md says what a module must have",
		}
	}
	return s, nil
}

func (s *source) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Errorf(format, args...))
}

func (s *source) readFile(file string) {
	src, err := os.ReadFile(file)
	if err != nil {
		s.problem("%w", err)
		return
	}
	f, diags := hclsyntax.ParseConfig(src, file, hcl.InitialPos)
	if diags.HasErrors() {
		s.problem("%w", diags)
		return
	}
	body := f.Body.(*hclsyntax.Body)
	for _, block := range body.Blocks {
		label := ""
		if len(block.Labels) > 0 {
			label = block.Labels[0]
		}
		switch block.Type {
		case "terraform":
			s.readSettings(block)
		case "variable":
			s.readVariable(label, block)
		case "output":
			s.outputs[label] = true
		}
	}
	s.firewall = s.firewall || uses(body, "ingress_cidrs")
}

// readSettings reads a terraform block.
func (s *source) readSettings(block *hclsyntax.Block) {
	for _, b := range block.Body.Blocks {
		switch b.Type {
		case "backend", "cloud":
			s.problem("%s: a module cannot say where its state is kept; set `state` in the settings", b.Range())
		case "required_providers":
			for name, a := range b.Body.Attributes {
				s.readProvider(name, a)
			}
		}
	}
}

// readProvider reads one of required_providers: an object, or a version alone.
func (s *source) readProvider(name string, a *hclsyntax.Attribute) {
	object, ok := a.Expr.(*hclsyntax.ObjectConsExpr)
	if !ok {
		s.requires[name] = terraform.Requirement{Source: "hashicorp/" + name, Version: s.literal(a.Expr)}
		return
	}
	q := terraform.Requirement{Source: "hashicorp/" + name}
	for _, item := range object.Items {
		switch hcl.ExprAsKeyword(item.KeyExpr) {
		case "source":
			q.Source = s.literal(item.ValueExpr)
		case "version":
			q.Version = s.literal(item.ValueExpr)
		case "configuration_aliases":
			s.problem("%s: provider %s wants a configuration of its caller, and Levin has none to give; configure it in the module", a.Range(), name)
			return
		}
	}
	if q.Source == "terraform.io/builtin/"+name {
		return // built into Terraform
	}
	s.requires[name] = q
}

// literal gives the text that an expression is.
func (s *source) literal(e hclsyntax.Expression) string {
	v, diags := e.Value(nil)
	if diags.HasErrors() || v.IsNull() || v.Type() != cty.String {
		s.problem("%s: it must be text", e.Range())
		return ""
	}
	return v.AsString()
}

func (s *source) readVariable(name string, block *hclsyntax.Block) {
	attributes := block.Body.Attributes
	v := variable{at: block.Range(), optional: attributes["default"] != nil}
	if a := attributes["sensitive"]; a != nil {
		value, diags := a.Expr.Value(nil)
		v.sensitive = diags.HasErrors() || value.Type() != cty.Bool || value.IsNull() || value.True()
	}
	s.variables[name] = v
	if name == "machines" && attributes["type"] != nil {
		s.readMachines(attributes["type"].Expr)
	}
}

// readMachines reads the type of the variable machines: what the module reads of
// each machine, and whether it wants what nobody tells it.
func (s *source) readMachines(expr hclsyntax.Expression) {
	t, _, diags := typeexpr.TypeConstraintWithDefaults(expr)
	if diags.HasErrors() {
		s.problem("%w", diags)
		return
	}
	if t == cty.DynamicPseudoType {
		return // any
	}
	if !t.IsMapType() {
		s.problem("%s: the variable machines must be a map of objects", expr.Range())
		return
	}
	machine := t.ElementType()
	s.wantsOnly(expr, machine, machineFields(), "a machine")
	if !machine.IsObjectType() || !machine.HasAttribute("extra") {
		return
	}
	extra := machine.AttributeType("extra")
	s.wantsOnly(expr, extra, extraFields(), "a machine's extra")
	if extra.IsObjectType() {
		for name := range extra.AttributeTypes() {
			s.extra[name] = true
		}
	}
}

// wantsOnly makes sure that all that an object must have is told.
func (s *source) wantsOnly(expr hclsyntax.Expression, t cty.Type, told []string, what string) {
	if !t.IsObjectType() {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(t.AttributeTypes())) {
		if !slices.Contains(told, name) && !t.AttributeOptional(name) {
			s.problem("%s: %s has no %s; it has %s; for anything else write optional(…)", expr.Range(), what, name, strings.Join(told, ", "))
		}
	}
}

// uses reports whether an expression of the body refers to a variable.
func uses(body *hclsyntax.Body, variable string) bool {
	for _, a := range body.Attributes {
		for _, t := range a.Expr.Variables() {
			if t.RootName() != "var" || len(t) < 2 {
				continue
			}
			if attr, ok := t[1].(hcl.TraverseAttr); ok && attr.Name == variable {
				return true
			}
		}
	}
	return slices.ContainsFunc(body.Blocks, func(b *hclsyntax.Block) bool {
		return b.Type != "variable" && uses(b.Body, variable) // a variable's own validation refers to itself
	})
}

// check refuses a module that Terraform would refuse with what it is given. cloud
// is its name in the settings, set are the variables that these give.
func (s *source) check(cloud string, set map[string]any) error {
	for _, name := range given() {
		if !s.declares(name) {
			s.problem("no file declares the variable %q, which every module is given", name)
		}
	}
	if !s.outputs["machines"] {
		s.problem("no file has the output \"machines\", which says how each machine is reached")
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		v, declared := s.variables[name]
		switch {
		case slices.Contains(given(), name) || slices.Contains(offered(), name):
			s.problem("clouds.%s.variables sets %s, which is Levin's to give", cloud, name)
		case !declared:
			s.problem("clouds.%s.variables sets %s, and no file declares that variable", cloud, name)
		case v.sensitive:
			s.problem("%s: clouds.%s.variables sets %s, which is sensitive and would be written to files; let the provider take it from a variable of the environment and name that in clouds.%s.env", v.at, cloud, name, cloud)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.variables)) {
		v, ours := s.variables[name], slices.Contains(given(), name) || slices.Contains(offered(), name)
		if _, isSet := set[name]; !ours && !isSet && !v.optional {
			s.problem("%s: the variable %s has no default; set it as clouds.%s.variables.%s", v.at, name, cloud, name)
		}
	}
	if len(s.problems) == 0 {
		return nil
	}
	err := errors.Join(s.problems...)
	return &cluster.Failure{
		Kind:  cluster.BadInput,
		What:  fmt.Sprintf("the module of cloud %s, %s, cannot be used", cloud, s.dir),
		Words: "\n  " + strings.ReplaceAll(err.Error(), "\n", "\n  "),
		Next:  "docs/clouds.md says what a module must have",
		Err:   err,
	}
}
