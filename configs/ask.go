package configs

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ParseResources reads what is asked for from text by the keys of `resources` in
// an app file, with the same rules: {"gpu": {"A100:8"}, "region": {"a", "b"}}. A
// key that has no texts, or one that is empty, is left out. Errors name a key as a
// flag: "--max-price".
func ParseResources(asked map[string][]string) (Resources, error) {
	named, errs := loadSizes()
	if err := errs.failure("the table of sizes is wrong"); err != nil {
		return Resources{}, err
	}
	d := &document{origins: map[*yaml.Node]string{}}
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, key := range slices.Sorted(maps.Keys(asked)) {
		texts := asked[key]
		if len(texts) == 0 || len(texts) == 1 && texts[0] == "" {
			continue
		}
		node := func(n yaml.Node) *yaml.Node {
			d.origins[&n] = "--" + strings.ReplaceAll(key, "_", "-")
			return &n
		}
		text := func(s string) *yaml.Node { return node(yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}) }
		value := text(texts[0])
		if len(texts) > 1 {
			value = node(yaml.Node{Kind: yaml.SequenceNode})
			for _, s := range texts {
				value.Content = append(value.Content, text(s))
			}
		}
		root.Content = append(root.Content, text(key), value)
	}
	var r Resources
	newResourceReader(named).read(d, root, &r)
	if err := d.errs.failure("what is asked for cannot be understood"); err != nil {
		return Resources{}, err
	}
	return r, nil
}
