package emulator

import (
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// plan gives what Terraform is promised: the proposed object, with what the cloud
// will say as unknown and with the provider's defaults.
func (r resource) plan(b blockSchema, path string, prior, proposed, config cty.Value) cty.Value {
	if !proposed.IsKnown() || proposed.IsNull() {
		return proposed
	}
	attrs := proposed.AsValueMap()
	for name, a := range b.Attributes {
		v, c := attrs[name], config.GetAttr(name)
		value, isDefault := r.defaults[path+name]
		switch {
		case !c.IsNull():
		case a.Computed && (v.IsNull() || prior.IsNull()):
			attrs[name] = cty.UnknownVal(a.Type)
		case isDefault && v.IsNull():
			attrs[name] = value
		}
	}
	for name, n := range b.Blocks {
		attrs[name] = r.planNested(n, path+name, nested(prior, name, n), attrs[name], config.GetAttr(name))
	}
	return cty.ObjectVal(attrs)
}

func (r resource) planNested(n nestedSchema, path string, prior, proposed, config cty.Value) cty.Value {
	if n.Nesting == "single" || !proposed.IsKnown() || proposed.IsNull() {
		return proposed
	}
	elements := proposed.AsValueSlice()
	if len(elements) == 0 {
		switch {
		case !slices.Contains(r.filled, path):
			return proposed
		case prior.IsNull():
			return cty.UnknownVal(proposed.Type())
		default:
			return prior
		}
	}
	at := func(list cty.Value, i int, otherwise cty.Value) cty.Value {
		if n.Nesting != "list" || list.IsNull() || !list.IsKnown() || i >= list.LengthInt() {
			return otherwise
		}
		return list.Index(cty.NumberIntVal(int64(i)))
	}
	for i, el := range elements {
		none := cty.NullVal(n.Block.typ())
		// The elements of a set have no place by which to find what they were before.
		elements[i] = r.plan(n.Block, path+".", at(prior, i, none), el, at(config, i, el))
	}
	if n.Nesting == "set" {
		return cty.SetVal(elements)
	}
	return cty.ListVal(elements)
}

func nested(object cty.Value, name string, n nestedSchema) cty.Value {
	if object.IsNull() {
		return cty.NullVal(n.typ())
	}
	return object.GetAttr(name)
}

// replaced lists the arguments whose change needs another resource.
func (r resource) replaced(prior, planned cty.Value) []string {
	var names []string
	for _, path := range r.forceNew {
		if !valueAt(prior, path).RawEquals(valueAt(planned, path)) {
			name, _, _ := strings.Cut(path, ".")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// valueAt gives an attribute, or one of the first of the nested blocks:
// "root_block_device.encrypted".
func valueAt(v cty.Value, path string) cty.Value {
	name, rest, deeper := strings.Cut(path, ".")
	v = v.GetAttr(name)
	if !deeper {
		return v
	}
	if !v.IsKnown() || v.IsNull() || v.LengthInt() == 0 {
		return cty.NullVal(cty.DynamicPseudoType)
	}
	return valueAt(v.AsValueSlice()[0], rest)
}
