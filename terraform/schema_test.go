package terraform_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/levinrun/levin/terraform"
)

// schemaBlock is a block as `terraform providers schema -json` describes it.
type schemaBlock struct {
	Attributes map[string]struct {
		Required bool
		Optional bool
	}
	BlockTypes map[string]struct {
		Block    schemaBlock
		MinItems int `json:"min_items"`
	} `json:"block_types"`
}

type providerSchema struct {
	Resources map[string]struct{ Block schemaBlock } `json:"resource_schemas"`
	Data      map[string]struct{ Block schemaBlock } `json:"data_source_schemas"`
}

// readSchema reads the schema of a real provider, which the emulated clouds have
// too.
func readSchema(t *testing.T, file, source string) providerSchema {
	t.Helper()
	b, err := os.ReadFile("../provision/cloudtest/emulator/schema/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Schemas map[string]providerSchema `json:"provider_schemas"`
	}
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	schema, ok := all.Schemas["registry.terraform.io/"+source]
	if !ok {
		t.Fatalf("%s says nothing of %s", file, source)
	}
	return schema
}

// wrongs lists what a module's resources say that the provider does not know.
func wrongs(t *testing.T, files fs.FS, schema providerSchema) []string {
	t.Helper()
	names, err := fs.Glob(files, "*.tf")
	if err != nil {
		t.Fatal(err)
	}
	var wrong []string
	for _, name := range names {
		src, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		f, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		for _, block := range f.Body.(*hclsyntax.Body).Blocks {
			known := schema.Resources
			switch block.Type {
			case "resource":
			case "data":
				known = schema.Data
			default:
				continue
			}
			at := strings.Join(append([]string{block.Type}, block.Labels...), ".")
			kind, ok := known[block.Labels[0]]
			if !ok {
				wrong = append(wrong, at+": no such type")
				continue
			}
			wrong = append(wrong, wrongIn(at, block.Body, kind.Block, "for_each", "count", "depends_on", "provider", "lifecycle")...)
		}
	}
	slices.Sort(wrong)
	return wrong
}

func wrongIn(at string, body *hclsyntax.Body, schema schemaBlock, meta ...string) []string {
	var wrong []string
	for name := range body.Attributes {
		a, ok := schema.Attributes[name]
		switch {
		case slices.Contains(meta, name):
		case !ok:
			wrong = append(wrong, fmt.Sprintf("%s: no argument %s", at, name))
		case !a.Required && !a.Optional:
			wrong = append(wrong, fmt.Sprintf("%s: %s cannot be set", at, name))
		}
	}
	for name, a := range schema.Attributes {
		if a.Required && body.Attributes[name] == nil {
			wrong = append(wrong, fmt.Sprintf("%s: needs %s", at, name))
		}
	}
	seen := map[string]int{}
	for _, block := range body.Blocks {
		name, inner := block.Type, block.Body
		if name == "dynamic" {
			name, inner = block.Labels[0], nil
			for _, content := range block.Body.Blocks {
				if content.Type == "content" {
					inner = content.Body
				}
			}
		}
		nested, ok := schema.BlockTypes[name]
		switch {
		case slices.Contains(meta, name):
			continue
		case !ok || inner == nil:
			wrong = append(wrong, fmt.Sprintf("%s: no block %s", at, name))
			continue
		}
		seen[name]++
		wrong = append(wrong, wrongIn(at+"."+name, inner, nested.Block)...)
	}
	for name, nested := range schema.BlockTypes {
		if seen[name] < nested.MinItems {
			wrong = append(wrong, fmt.Sprintf("%s: needs block %s", at, name))
		}
	}
	return wrong
}

// The modules say nothing that the real providers do not understand.
func TestModulesAgainstSchemas(t *testing.T) {
	for _, c := range []struct {
		file   string
		module terraform.Module
	}{
		{"aws.json", terraform.AWSModule()},
		{"google.json", terraform.GCPModule()},
	} {
		for _, q := range c.module.Requires {
			for _, wrong := range wrongs(t, c.module.Files, readSchema(t, c.file, q.Source)) {
				t.Errorf("%s: %s", c.module.Name, wrong)
			}
		}
	}
}

// The check finds what is wrong.
func TestSchemaCheck(t *testing.T) {
	got := wrongs(t, fstest.MapFS{"main.tf": {Data: []byte(`
resource "aws_key_pair" "a" {
  count       = 1
  fingerprint = "x"
  publik_key  = "x"
}
resource "aws_keys" "b" {}
data "aws_subnets" "c" {
  filter {
    name = "x"
  }
  dynamic "filters" {
    for_each = []
    content {}
  }
}
resource "google_compute_instance" "d" {}
`)}}, readSchema(t, "aws.json", "hashicorp/aws"))
	want := []string{
		"data.aws_subnets.c.filter: needs values",
		"data.aws_subnets.c: no block filters",
		"resource.aws_key_pair.a: fingerprint cannot be set",
		"resource.aws_key_pair.a: needs public_key",
		"resource.aws_key_pair.a: no argument publik_key",
		"resource.aws_keys.b: no such type",
		"resource.google_compute_instance.d: no such type",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
