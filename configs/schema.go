package configs

import (
	"encoding/json"
	"slices"
)

// The schemas of single values. They are a little looser than the reader, which
// has the last word: an editor must never mark as wrong what Levin takes.

func textSchema() schema { return schema{"type": "string", "minLength": 1} }

// commandSchema is of a shell line. true and false are programs too.
func commandSchema() schema { return schema{"type": []string{"string", "boolean"}, "minLength": 1} }

func textOrListSchema() schema {
	return schema{"anyOf": []any{textSchema(), schema{"type": "array", "items": textSchema(), "minItems": 1}}}
}

// textOrAnyListSchema allows an empty list.
func textOrAnyListSchema() schema {
	return schema{"anyOf": []any{textSchema(), schema{"type": "array", "items": textSchema()}}}
}

func enumSchema(words ...string) schema { return schema{"enum": words} }

func wholeSchema(least int) schema { return schema{"type": "integer", "minimum": least} }

func portSchema() schema { return schema{"type": "integer", "minimum": 1, "maximum": 65535} }

// portsSchema is of one port or several.
func portsSchema() schema {
	return schema{"anyOf": []any{portSchema(), schema{"type": "array", "items": portSchema(), "minItems": 1, "uniqueItems": true}}}
}

func durationSchema(byDefault string) schema {
	s := schema{"type": []string{"string", "integer"}, "pattern": `^[+]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(h|m|s|ms|us|µs|ns))+$`, "maximum": 0, "minimum": 0}
	if byDefault != "" {
		s["default"] = byDefault
	}
	return s
}

func rangeSchema(sized bool) schema {
	end := `[+]?[0-9]*\.?[0-9]+`
	if sized {
		end += ` *([MGTmgt][Ii]?[Bb])?`
	}
	return schema{
		"type":             []string{"number", "string"},
		"exclusiveMinimum": 0,
		"pattern":          `^ *(` + end + ` *(\.\. *(` + end + `)?)?|\.\. *` + end + `) *$`,
	}
}

func gpuSchema() schema {
	return schema{"anyOf": []any{modelSchema(), gpuKeys().schema("")}}
}

// modelSchema is of MODEL[:COUNT]. A number of one or two digits must be a count.
func modelSchema() schema {
	return schema{"type": []string{"string", "integer"}, "minLength": 1, "minimum": 100}
}

func modelsSchema() schema {
	model := schema{"type": []string{"string", "integer"}, "minLength": 1}
	return schema{"anyOf": []any{model, schema{"type": "array", "items": model, "minItems": 1}}}
}

func environmentSchema() schema {
	return schema{
		"type":                 "object",
		"propertyNames":        schema{"pattern": `^[A-Za-z_][A-Za-z0-9_]*$`, "not": schema{"pattern": `^LEVIN_`}},
		"additionalProperties": schema{"type": []string{"string", "number", "boolean"}},
	}
}

func labelSchema(most int) schema {
	return schema{"type": "string", "pattern": labelPattern, "maxLength": most}
}

// schema describes the mapping of a table of keys. Keys that are not supported
// yet are left out, so that an editor does not offer them.
func (o object[T]) schema(doc string, required ...string) schema {
	properties := schema{}
	for _, p := range o {
		if p.read == nil {
			continue
		}
		value := schema{"description": p.doc}
		for k, v := range p.value {
			value[k] = v
		}
		properties[p.name] = value
	}
	s := schema{"type": "object", "additionalProperties": false, "properties": properties}
	if doc != "" {
		s["description"] = doc
	}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// AppSchema gives the JSON Schema of the app file, from the table of keys that
// Load reads by.
func AppSchema() ([]byte, error) {
	named, errs := loadSizes()
	if len(errs) > 0 {
		return nil, errs
	}
	t := newAppTables(named)
	alternative := slices.DeleteFunc(slices.Clone(t.resources.keys), func(p property[Resources]) bool { return p.name == "any_of" })
	s := t.app.schema("A Levin app: components, the machines they ask for and how they connect.", "name", "components")
	s["title"] = "Levin app file"
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$defs"] = schema{
		"component":   t.component.schema("Code and the machine it needs.", "run"),
		"resources":   schema{"anyOf": []any{enumSchema(named.names...), t.resources.keys.schema("What a component asks for.")}},
		"alternative": schema{"anyOf": []any{enumSchema(named.names...), alternative.schema("One alternative.")}},
	}
	return encodeSchema(s)
}

// SettingsSchema gives the JSON Schema of the settings file.
func SettingsSchema() ([]byte, error) {
	s := settingsKeys().schema("What a user sets once for every app.")
	s["title"] = "Levin settings"
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$defs"] = schema{
		"cloud": cloudKeys().schema("A cloud by its name."),
		"host":  hostKeys().schema("One of your own machines.", "address"),
	}
	return encodeSchema(s)
}

func encodeSchema(s schema) ([]byte, error) {
	data, err := json.MarshalIndent(s, "", "  ")
	return append(data, '\n'), err
}
