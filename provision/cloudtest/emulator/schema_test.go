package emulator

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"
)

// Every resource and data source of the schemas behaves somehow, and the other way
// round; defaults and the like are of attributes that exist.
func TestSchemasAreCovered(t *testing.T) {
	for cloud, behaviour := range map[string]struct {
		resources map[string]resource
		data      map[string]dataSource
	}{AWS: {awsResources(), awsDataSources()}, GCP: {gcpResources(), gcpDataSources()}} {
		s, err := embeddedSchema(cloud)
		if err != nil {
			t.Fatal(err)
		}
		for name := range s.Resources {
			if _, ok := behaviour.resources[name]; !ok {
				t.Errorf("nothing implements resource %s", name)
			}
		}
		for name := range s.DataSources {
			if behaviour.data[name] == nil {
				t.Errorf("nothing implements data source %s", name)
			}
		}
		for name := range behaviour.data {
			if _, ok := s.DataSources[name]; !ok {
				t.Errorf("data source %s has no schema", name)
			}
		}
		for name, r := range behaviour.resources {
			schema, ok := s.Resources[name]
			if !ok {
				t.Errorf("resource %s has no schema", name)
				continue
			}
			paths := slices.Concat(r.filled, r.forceNew, r.updated)
			for path := range r.defaults {
				paths = append(paths, path)
			}
			for _, path := range paths {
				if !schema.Block.has(path) {
					t.Errorf("%s has no %s", name, path)
				}
			}
		}
	}
}

func (b blockSchema) has(path string) bool {
	name, rest, deeper := strings.Cut(path, ".")
	_, attribute := b.Attributes[name]
	nested, block := b.Blocks[name]
	if !deeper {
		return attribute || block
	}
	return block && nested.Block.has(rest)
}

// The schemas are those of the real providers. LEVIN_PROVIDER_SCHEMAS names a
// folder of files that `terraform providers schema -json` has printed.
func TestSchemasAreReal(t *testing.T) {
	dir := os.Getenv("LEVIN_PROVIDER_SCHEMAS")
	if dir == "" {
		t.Skip("LEVIN_PROVIDER_SCHEMAS names no folder with the output of `terraform providers schema -json`")
	}
	for cloud, pattern := range map[string]string{AWS: "aws-*.schema.json", GCP: "google-*.schema.json"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) == 0 {
			t.Errorf("no file %s in %s: %v", pattern, dir, errors.Join(err, fs.ErrNotExist))
			continue
		}
		ours, err := embeddedSchema(cloud)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			real, err := readSchema(b, "registry.terraform.io/"+source(cloud))
			if err != nil {
				t.Fatal(err)
			}
			// Files from which descriptions were cut may have lost the attributes of that
			// name as well.
			bare := !strings.Contains(string(b), `"description"`)
			compare := func(what string, ours, real typeSchema) {
				if bare {
					ours.Block = ours.Block.bare()
				}
				if !reflect.DeepEqual(ours, real) {
					t.Errorf("%s differs from %s", what, file)
				}
			}
			compare("the provider block", ours.Provider, real.Provider)
			for name, schema := range ours.Resources {
				compare("resource "+name, schema, real.Resources[name])
			}
			for name, schema := range ours.DataSources {
				compare("data source "+name, schema, real.DataSources[name])
			}
		}
	}
}

// bare is the schema without attributes that are called description.
func (b blockSchema) bare() blockSchema {
	var out blockSchema
	if b.Attributes != nil {
		out.Attributes = map[string]attributeSchema{}
	}
	for name, a := range b.Attributes {
		if name != "description" {
			a.Type = bareType(a.Type)
			out.Attributes[name] = a
		}
	}
	if b.Blocks != nil {
		out.Blocks = map[string]nestedSchema{}
	}
	for name, n := range b.Blocks {
		n.Block = n.Block.bare()
		out.Blocks[name] = n
	}
	return out
}

func bareType(t cty.Type) cty.Type {
	switch {
	case t.IsSetType():
		return cty.Set(bareType(t.ElementType()))
	case t.IsListType():
		return cty.List(bareType(t.ElementType()))
	case t.IsObjectType():
		types := map[string]cty.Type{}
		for name, a := range t.AttributeTypes() {
			if name != "description" {
				types[name] = bareType(a)
			}
		}
		return cty.Object(types)
	}
	return t
}
