package configs

import (
	_ "embed"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed sizes.yaml
var sizesYAML []byte

// sizes is the table of named sizes, in the order of sizes.yaml.
type sizes struct {
	names []string
	by    map[string]Resources
}

// loadSizes reads the embedded table with the reader of the app file.
func loadSizes() (sizes, Errors) {
	d := parseDocument("sizes.yaml", sizesYAML)
	s := sizes{by: map[string]Resources{}}
	if d.root == nil || d.root.Kind != yaml.MappingNode {
		return s, d.errs
	}
	keys := resourceKeys(sizes{})
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		var r Resources
		name := d.root.Content[i].Value
		keys.read(d, name, d.root.Content[i+1], &r)
		r.Size = name
		s.names, s.by[name] = append(s.names, name), r
	}
	return s, d.errs
}

// under gives r with what it leaves open taken from the size that it names.
func (s sizes) under(r Resources) Resources {
	size := s.by[r.Size]
	if r.GPU == nil && size.GPU != nil {
		g := *size.GPU
		g.Models = slices.Clone(g.Models)
		r.GPU = &g
	}
	if r.CPUs.IsZero() {
		r.CPUs = size.CPUs
	}
	if r.Memory.IsZero() {
		r.Memory = size.Memory
	}
	if r.Disk.IsZero() {
		r.Disk = size.Disk
	}
	if r.Arch == "" {
		r.Arch = size.Arch
	}
	return r
}

// resourceReader reads what a component asks for.
type resourceReader struct {
	sizes sizes
	keys  object[Resources]
}

func newResourceReader(s sizes) resourceReader { return resourceReader{s, resourceKeys(s)} }

// read reads a mapping, or text alone: the name of a size.
func (rr resourceReader) read(d *document, n *yaml.Node, to *Resources) {
	if n.Kind == yaml.ScalarNode {
		if !slices.Contains(rr.sizes.names, n.Value) {
			d.fail(n, n.Value, "resources must be a mapping or a size (%s), is %s", strings.Join(rr.sizes.names, ", "), kindOf(n)).
				Suggestion = d.nearest(n.Value, rr.sizes.names)
			return
		}
		to.Size = n.Value
		*to = rr.sizes.under(*to)
		return
	}
	nodes := rr.keys.read(d, "resources", n, to)
	if list := nodes["any_of"]; list != nil {
		rr.readAlternatives(d, list, to)
	}
	*to = rr.sizes.under(*to)
}

func (rr resourceReader) readAlternatives(d *document, list *yaml.Node, to *Resources) {
	if list.Kind != yaml.SequenceNode {
		d.fail(list, list.Value, "any_of must be a list of resources, is %s", kindOf(list))
		return
	}
	if len(list.Content) == 0 {
		d.fail(list, "", "any_of is empty: no machine could satisfy it")
	}
	for _, item := range list.Content {
		if nested := valueOf(item, "any_of"); nested != nil {
			d.fail(nested, "any_of", "any_of cannot hold another any_of")
			continue
		}
		var alt Resources
		rr.read(d, item, &alt)
		if valueOf(item, "spot") == nil {
			alt.Spot = to.Spot
		}
		to.AnyOf = append(to.AnyOf, alt)
	}
	// Each alternative has it now: "never" is the empty value, which could not be put
	// over another.
	to.Spot = SpotNever
}

// valueOf gives the value of a key of a mapping, or nil.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// resourceKeys is the table of `resources`.
func resourceKeys(s sizes) object[Resources] {
	span := func(name string, sized bool, place func(*Resources) *Range) func(*document, *yaml.Node, *Resources) {
		return func(d *document, n *yaml.Node, r *Resources) { *place(r) = d.span(n, name, sized) }
	}
	return object[Resources]{
		{"gpu", "A GPU: MODEL[:COUNT], memory of each such as 24GB.., or a mapping.", gpuSchema(), readGPU},
		{"cpus", "Virtual CPUs: N, N.., ..M or N..M.", rangeSchema(false), span("cpus", false, func(r *Resources) *Range { return &r.CPUs })},
		{"memory", "Memory, such as 16GB..; GB is read as GiB.", rangeSchema(true), span("memory", true, func(r *Resources) *Range { return &r.Memory })},
		{"disk", "Root disk, such as 100GB; GB is read as GiB.", rangeSchema(true), span("disk", true, func(r *Resources) *Range { return &r.Disk })},
		{"arch", "Processor architecture; either when left out.", enumSchema("amd64", "arm64"),
			func(d *document, n *yaml.Node, r *Resources) { r.Arch = d.oneOf(n, "arch", "amd64", "arm64") }},
		{"machine", "An exact machine type of a cloud, or a size: " + strings.Join(s.names, ", ") + ".", textSchema(), func(d *document, n *yaml.Node, r *Resources) {
			text, ok := d.filled(n, "machine")
			switch {
			case !ok:
			case slices.Contains(s.names, text):
				r.Size = text
			case strings.ContainsAny(text, " \t\r\n"):
				d.fail(n, text, "machine must be a machine type or a size (%s), is %s", strings.Join(s.names, ", "), quote(text)).Suggestion = d.nearest(text, s.names)
			default:
				r.Machine = text
			}
		}},
		{"spot", "Machines that their cloud can take back: never, auto (whichever is cheaper, and the other when that cannot be had) or only.",
			schema{"enum": []string{"never", "auto", "only"}, "default": "never"},
			func(d *document, n *yaml.Node, r *Resources) {
				if word := d.oneOf(n, "spot", "never", string(SpotAuto), string(SpotOnly)); word != "never" {
					r.Spot = Spot(word)
				}
			}},
		{"cloud", "Only these clouds.", textOrListSchema(), func(d *document, n *yaml.Node, r *Resources) {
			r.Clouds = d.texts(n, "cloud")
			for i, item := range d.items(n, "cloud") {
				if item.Kind == yaml.ScalarNode && item.Value != "" && !isLabel(item.Value) {
					d.fail(item, item.Value, "cloud %d is not the name of a cloud: %s", i+1, quote(item.Value))
				}
			}
			d.notEmpty(n, "cloud", r.Clouds)
		}},
		{"region", "Only these regions.", textOrListSchema(), func(d *document, n *yaml.Node, r *Resources) {
			r.Regions = d.texts(n, "region")
			d.notEmpty(n, "region", r.Regions)
		}},
		{"zone", "Only these zones.", textOrListSchema(), func(d *document, n *yaml.Node, r *Resources) {
			r.Zones = d.texts(n, "zone")
			d.notEmpty(n, "zone", r.Zones)
		}},
		{"max_price", "At most this many USD per hour.", schema{"type": "number", "exclusiveMinimum": 0},
			func(d *document, n *yaml.Node, r *Resources) { r.MaxPrice = d.number(n, "max_price", false) }},
		{"any_of", "Alternatives, each put over the keys beside any_of; whichever offer costs least is taken.",
			schema{"type": "array", "minItems": 1, "items": schema{"$ref": "#/$defs/alternative"}},
			func(*document, *yaml.Node, *Resources) {}}, // read by resourceReader, which knows the whole table
	}
}

// notEmpty refuses a list without entries.
func (d *document) notEmpty(n *yaml.Node, what string, list []string) {
	if len(list) == 0 && n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		d.fail(n, "", "%s is an empty list; leave it out", what)
	}
}

// span reads a range.
func (d *document) span(n *yaml.Node, what string, sized bool) Range {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, "", "%s must be a range such as 4 or 2..8, is %s", what, kindOf(n))
		return Range{}
	}
	r, err := parseRange(n.Value, sized)
	if err != nil {
		d.fail(n, n.Value, "%s %s", what, err)
	}
	return r
}

func readGPU(d *document, n *yaml.Node, r *Resources) {
	if n.Kind == yaml.ScalarNode {
		if g, ok := d.gpu(n); ok {
			r.GPU = &g
		}
		return
	}
	g := GPU{Count: 1}
	gpuKeys().read(d, "gpu", n, &g)
	r.GPU = &g
}

// gpu reads the text form of gpu. A model such as 4090 may be a number for YAML.
func (d *document) gpu(n *yaml.Node) (GPU, bool) {
	if n.Tag == "!!bool" {
		d.fail(n, n.Value, "gpu must name a model, is %s; for one GPU of any model write {count: 1}", n.Value)
		return GPU{}, false
	}
	g, err := parseGPU(n.Value)
	if err != nil {
		d.fail(n, n.Value, "gpu %s", err)
	}
	return g, err == nil
}

// gpuKeys is the table of the mapping form of `gpu`.
func gpuKeys() object[GPU] {
	return object[GPU]{
		{"model", "One of these models; any when left out.", modelsSchema(), func(d *document, n *yaml.Node, g *GPU) {
			d.notEmpty(n, "model", nil)
			for _, item := range d.items(n, "model") {
				text, ok := d.text(item, "model", item.Tag != "!!bool") // 4090 is a number for YAML
				if !ok {
					continue
				}
				name, err := modelOf(text)
				if err != nil {
					d.fail(item, text, "model %s", err)
				}
				g.Models = append(g.Models, name)
			}
		}},
		{"count", "How many GPUs one machine has.", schema{"type": "integer", "minimum": 1, "default": 1},
			func(d *document, n *yaml.Node, g *GPU) { g.Count = d.whole(n, "count", 1) }},
		{"memory", "Memory of each GPU, such as 24GB..", rangeSchema(true),
			func(d *document, n *yaml.Node, g *GPU) { g.Memory = d.span(n, "memory", true) }},
	}
}
