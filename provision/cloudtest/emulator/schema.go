package emulator

import (
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"github.com/zclconf/go-cty/cty"
)

// schemas are what `terraform providers schema -json` prints of the real
// providers, AWS 5.31 and Google 7.45, cut to what is emulated.
//
//go:embed schema/aws.json schema/google.json
var schemas embed.FS

// providerSchema is the schema of a provider.
type providerSchema struct {
	Provider    typeSchema            `json:"provider"`
	Resources   map[string]typeSchema `json:"resource_schemas"`
	DataSources map[string]typeSchema `json:"data_source_schemas"`
}

// typeSchema is the schema of a resource, data source or provider configuration.
type typeSchema struct {
	Version int64       `json:"version"`
	Block   blockSchema `json:"block"`
}

type blockSchema struct {
	Attributes map[string]attributeSchema `json:"attributes"`
	Blocks     map[string]nestedSchema    `json:"block_types"`
}

type attributeSchema struct {
	Type       cty.Type `json:"type"`
	Required   bool     `json:"required"`
	Optional   bool     `json:"optional"`
	Computed   bool     `json:"computed"`
	Sensitive  bool     `json:"sensitive"`
	Deprecated bool     `json:"deprecated"`
}

type nestedSchema struct {
	Nesting string      `json:"nesting_mode"` // single, list or set
	Block   blockSchema `json:"block"`
	Min     int64       `json:"min_items"`
	Max     int64       `json:"max_items"`
}

func embeddedSchema(cloud string) (providerSchema, error) {
	name := map[string]string{AWS: "aws", GCP: "google"}[cloud]
	b, err := schemas.ReadFile("schema/" + name + ".json")
	if err != nil {
		return providerSchema{}, err
	}
	return readSchema(b, "registry.terraform.io/"+source(cloud))
}

// readSchema reads the output of `terraform providers schema -json`.
func readSchema(b []byte, provider string) (providerSchema, error) {
	var file struct {
		Providers map[string]providerSchema `json:"provider_schemas"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return providerSchema{}, fmt.Errorf("schema of %s: %w", provider, err)
	}
	s, ok := file.Providers[provider]
	if !ok {
		return providerSchema{}, fmt.Errorf("there is no schema of %s", provider)
	}
	return s, nil
}

// typ is the type of values with the schema.
func (b blockSchema) typ() cty.Type {
	types := map[string]cty.Type{}
	for name, a := range b.Attributes {
		types[name] = a.Type
	}
	for name, n := range b.Blocks {
		types[name] = n.typ()
	}
	return cty.Object(types)
}

func (n nestedSchema) typ() cty.Type {
	switch n.Nesting {
	case "list":
		return cty.List(n.Block.typ())
	case "set":
		return cty.Set(n.Block.typ())
	}
	return n.Block.typ()
}

// protocol gives the schema in Terraform's own form.
func (t typeSchema) protocol() *tfprotov6.Schema {
	return &tfprotov6.Schema{Version: t.Version, Block: t.Block.protocol()}
}

func (b blockSchema) protocol() *tfprotov6.SchemaBlock {
	out := &tfprotov6.SchemaBlock{}
	for _, name := range slices.Sorted(maps.Keys(b.Attributes)) {
		a := b.Attributes[name]
		out.Attributes = append(out.Attributes, &tfprotov6.SchemaAttribute{
			Name: name, Type: protocolType(a.Type), Deprecated: a.Deprecated,
			Required: a.Required, Optional: a.Optional, Computed: a.Computed, Sensitive: a.Sensitive,
		})
	}
	for _, name := range slices.Sorted(maps.Keys(b.Blocks)) {
		n := b.Blocks[name]
		nesting := map[string]tfprotov6.SchemaNestedBlockNestingMode{
			"single": tfprotov6.SchemaNestedBlockNestingModeSingle,
			"list":   tfprotov6.SchemaNestedBlockNestingModeList,
			"set":    tfprotov6.SchemaNestedBlockNestingModeSet,
		}[n.Nesting]
		out.BlockTypes = append(out.BlockTypes, &tfprotov6.SchemaNestedBlock{
			TypeName: name, Nesting: nesting, MinItems: n.Min, MaxItems: n.Max, Block: n.Block.protocol(),
		})
	}
	return out
}

func protocolType(t cty.Type) tftypes.Type {
	switch {
	case t == cty.String:
		return tftypes.String
	case t == cty.Number:
		return tftypes.Number
	case t == cty.Bool:
		return tftypes.Bool
	case t.IsListType():
		return tftypes.List{ElementType: protocolType(t.ElementType())}
	case t.IsSetType():
		return tftypes.Set{ElementType: protocolType(t.ElementType())}
	case t.IsMapType():
		return tftypes.Map{ElementType: protocolType(t.ElementType())}
	case t.IsObjectType():
		types := map[string]tftypes.Type{}
		for name, a := range t.AttributeTypes() {
			types[name] = protocolType(a)
		}
		return tftypes.Object{AttributeTypes: types}
	}
	panic("emulator: no schema has a " + t.FriendlyName())
}
