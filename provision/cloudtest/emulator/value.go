package emulator

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
	"github.com/zclconf/go-cty/cty/msgpack"
)

// values are arguments or attributes by name, as decoded from JSON. What is null
// or not known yet is not there.
type values map[string]any

func (v values) str(name string) string { s, _ := v[name].(string); return s }

func (v values) number(name string) float64 { n, _ := v[name].(float64); return n }

// boolean gives the value or, when there is none, otherwise.
func (v values) boolean(name string, otherwise bool) bool {
	if b, ok := v[name].(bool); ok {
		return b
	}
	return otherwise
}

func (v values) list(name string) []any { l, _ := v[name].([]any); return l }

func (v values) strings(name string) []string {
	var out []string
	for _, x := range v.list(name) {
		if s, ok := x.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func (v values) stringMap(name string) map[string]string {
	out := map[string]string{}
	m, _ := v[name].(map[string]any)
	for k, x := range m {
		if s, ok := x.(string); ok {
			out[k] = s
		}
	}
	return out
}

// blocks gives nested blocks; block the first one, or none.
func (v values) blocks(name string) []values {
	var out []values
	for _, x := range v.list(name) {
		m, _ := x.(map[string]any)
		out = append(out, m)
	}
	return out
}

func (v values) block(name string) values {
	if b := v.blocks(name); len(b) > 0 {
		return b[0]
	}
	return nil
}

// decode reads a value that Terraform has sent.
func decode(v *tfprotov6.DynamicValue, t cty.Type) (cty.Value, error) {
	switch {
	case v == nil:
		return cty.NullVal(t), nil
	case v.MsgPack != nil:
		return msgpack.Unmarshal(v.MsgPack, t)
	default:
		return ctyjson.Unmarshal(v.JSON, t)
	}
}

func encode(v cty.Value) (*tfprotov6.DynamicValue, error) {
	b, err := msgpack.Marshal(v, v.Type())
	if err != nil {
		return nil, err
	}
	return &tfprotov6.DynamicValue{MsgPack: b}, nil
}

// plain gives a value as JSON would decode it, without what is null or not known.
func plain(v cty.Value) any {
	if !v.IsKnown() || v.IsNull() {
		return nil
	}
	switch t := v.Type(); {
	case t == cty.String:
		return v.AsString()
	case t == cty.Bool:
		return v.True()
	case t == cty.Number:
		f, _ := v.AsBigFloat().Float64()
		return f
	case t.IsObjectType() || t.IsMapType():
		out := map[string]any{}
		for name, x := range v.AsValueMap() {
			if p := plain(x); p != nil {
				out[name] = p
			}
		}
		return out
	default:
		out := []any{}
		for _, x := range v.AsValueSlice() {
			out = append(out, plain(x))
		}
		return out
	}
}

func plainObject(v cty.Value) values {
	m, _ := plain(v).(map[string]any)
	return m
}

// typed turns a plain value into one of type t. Attributes of objects that are not
// there are null.
func typed(x any, t cty.Type) (cty.Value, error) {
	b, err := json.Marshal(x)
	if err != nil {
		return cty.NilVal, err
	}
	return ctyjson.Unmarshal(b, t)
}

// settle gives the state that becomes of a planned object when the cloud has
// answered: what was not known is what the cloud says, and empty where it says
// nothing, as the real providers have it.
func settle(b blockSchema, planned cty.Value, answers values) (cty.Value, error) {
	attrs := planned.AsValueMap()
	if attrs == nil {
		attrs = map[string]cty.Value{}
	}
	for name, a := range b.Attributes {
		answer, ok := answers[name]
		v := attrs[name]
		switch {
		case ok && (v == cty.NilVal || !v.IsWhollyKnown() || a.Computed && !a.Optional):
			value, err := typed(answer, a.Type)
			if err != nil {
				return cty.NilVal, fmt.Errorf("%s: %w", name, err)
			}
			attrs[name] = value
		case v == cty.NilVal || !v.IsWhollyKnown():
			attrs[name] = empty(a.Type)
		}
	}
	for name, n := range b.Blocks {
		value, err := settleNested(n, attrs[name], answers.blocks(name))
		if err != nil {
			return cty.NilVal, fmt.Errorf("%s: %w", name, err)
		}
		attrs[name] = value
	}
	return cty.ObjectVal(attrs), nil
}

func settleNested(n nestedSchema, planned cty.Value, answers []values) (cty.Value, error) {
	if n.Nesting == "single" {
		if planned == cty.NilVal || !planned.IsKnown() {
			return cty.NullVal(n.typ()), nil
		}
		return planned, nil
	}
	var elements []cty.Value
	if planned != cty.NilVal && planned.IsKnown() && !planned.IsNull() {
		elements = planned.AsValueSlice()
	} else {
		for range answers {
			elements = append(elements, unknownObject(n.Block))
		}
	}
	for i, el := range elements {
		var answer values
		if i < len(answers) {
			answer = answers[i]
		}
		value, err := settle(n.Block, el, answer)
		if err != nil {
			return cty.NilVal, err
		}
		elements[i] = value
	}
	switch {
	case n.Nesting == "set" && len(elements) == 0:
		return cty.SetValEmpty(n.Block.typ()), nil
	case n.Nesting == "set":
		return cty.SetVal(elements), nil
	case len(elements) == 0:
		return cty.ListValEmpty(n.Block.typ()), nil
	}
	return cty.ListVal(elements), nil
}

// unknownObject is an object of which nothing is known.
func unknownObject(b blockSchema) cty.Value {
	attrs := map[string]cty.Value{}
	for name, t := range b.typ().AttributeTypes() {
		attrs[name] = cty.UnknownVal(t)
	}
	return cty.ObjectVal(attrs)
}

// empty is what the real providers, which are older than null, make of an
// attribute that has no value.
func empty(t cty.Type) cty.Value {
	switch {
	case t == cty.String:
		return cty.StringVal("")
	case t == cty.Number:
		return cty.NumberIntVal(0)
	case t == cty.Bool:
		return cty.False
	case t.IsListType():
		return cty.ListValEmpty(t.ElementType())
	case t.IsSetType():
		return cty.SetValEmpty(t.ElementType())
	case t.IsMapType():
		return cty.MapValEmpty(t.ElementType())
	}
	return cty.NullVal(t)
}

// with gives an object with some attributes replaced.
func with(object cty.Value, replaced map[string]cty.Value) cty.Value {
	attrs := object.AsValueMap()
	maps.Copy(attrs, replaced)
	return cty.ObjectVal(attrs)
}

func stringMapValue(m map[string]string) cty.Value {
	if len(m) == 0 {
		return cty.MapValEmpty(cty.String)
	}
	out := map[string]cty.Value{}
	for k, v := range m {
		out[k] = cty.StringVal(v)
	}
	return cty.MapVal(out)
}
