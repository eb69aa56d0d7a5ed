package flow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

func isJSON(p []byte) bool { return json.Valid(p) }

// expand fills in the command and the environment of an attempt. Values of
// expressions never become part of a shell line: the line gets variables.
func (c *Coordinator) expand(a *attempt, w *Work) error {
	spec, row := a.call.comp.spec, &a.call.row
	value := func(e configs.Expr) (string, error) { return a.call.value(e) }
	w.Env = make(map[string]string, len(spec.Env)+8)
	for _, name := range slices.Sorted(maps.Keys(spec.Env)) { // sorted, so that of several errors it is always the same
		v, err := configs.ExpandString(spec.Env[name], value)
		if err != nil {
			return cannotStart("env "+name, err)
		}
		w.Env[name] = v
	}
	if spec.Run.Shell != "" {
		line, vars, err := configs.ExpandShell(spec.Run.Shell, value)
		if err != nil {
			return cannotStart("run", err)
		}
		w.Command.Shell = line
		maps.Copy(w.Env, vars)
	}
	for _, arg := range spec.Run.Args {
		v, err := configs.ExpandString(arg, value)
		if err != nil {
			return cannotStart("run", err)
		}
		w.Command.Args = append(w.Command.Args, v)
	}
	w.Env["LEVIN_RUN"] = row.Run
	w.Env["LEVIN_APP"] = c.cfg.App.Name
	w.Env["LEVIN_COMPONENT"] = spec.Name
	w.Env["LEVIN_CALL"] = row.ID
	w.Env["LEVIN_ATTEMPT"] = strconv.Itoa(a.number)
	w.Env["LEVIN_NODE_RANK"], w.Env["LEVIN_NODES"] = "0", "1"
	if spec.ForEach != nil {
		w.Env["LEVIN_EACH"] = row.Each
	}
	return nil
}

func cannotStart(key string, err error) error {
	return &cluster.Failure{Kind: cluster.WorkFailed, What: "the work could not be started: its " + key + " has no value", Err: err}
}

// value is what an expression stands for in this call.
func (cl *call) value(e configs.Expr) (string, error) {
	if e.Field == "each" {
		if cl.comp.spec.ForEach == nil {
			return "", fmt.Errorf("%s has no meaning without for_each", e)
		}
		return cl.row.Each, nil
	}
	for _, up := range cl.comp.needs { // these have succeeded; any other may be running
		if up.spec.Name == e.Component {
			return up.lookUp(e.Path)
		}
	}
	return "", fmt.Errorf("%s does not need %s, so %s has no value", cl.comp.spec.Name, e.Component, e)
}

// result is what a component's calls gave, put together once for those who read
// it.
type result struct {
	once  sync.Once
	value json.RawMessage
}

// resultOf gives the JSON of a component that has succeeded: the result of its
// call, or an object by item when there is one call for each. Nil when there is
// none.
func (comp *component) resultOf() json.RawMessage {
	comp.result.once.Do(func() {
		if comp.spec.ForEach == nil {
			comp.result.value = comp.calls[0].row.Result
			return
		}
		byItem := map[string]json.RawMessage{}
		for i := range comp.calls {
			if row := &comp.calls[i].row; len(row.Result) > 0 {
				byItem[row.Each] = row.Result
			}
		}
		// Results are valid JSON, so this cannot fail.
		comp.result.value, _ = json.Marshal(byItem)
	})
	return comp.result.value
}

// lookUp follows a path of fields into a component's result: strings come raw,
// any other value as compact JSON.
func (comp *component) lookUp(path []string) (string, error) {
	name, value := comp.spec.Name, comp.resultOf()
	if len(value) == 0 {
		return "", fmt.Errorf("%s gave no result: it wrote nothing to $LEVIN_RESULT", name)
	}
	at := name + "'s result"
	for _, field := range path {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(value, &fields); err != nil || fields == nil {
			return "", fmt.Errorf("%s has no field %s: it is %s", at, field, shortJSON(value))
		}
		next, ok := fields[field]
		if !ok {
			return "", fmt.Errorf("%s has no field %s; it has %s", at, field, fieldList(fields))
		}
		value = next
		at += "." + field
	}
	return rawOrCompact(value), nil
}

// fieldList names at most ten fields, sorted.
func fieldList(fields map[string]json.RawMessage) string {
	if len(fields) == 0 {
		return "none"
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) > 10 {
		names = append(names[:10], "…")
	}
	return strings.Join(names, ", ")
}

// shortJSON is a value as it fits into a message.
func shortJSON(value json.RawMessage) string {
	const most = 60
	s := compact(value)
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for !utf8.ValidString(s) && len(s) > 0 {
		s = s[:len(s)-1]
	}
	return s + "…"
}

func rawOrCompact(value json.RawMessage) string {
	text := compact(value)
	var s string
	if strings.HasPrefix(text, `"`) && json.Unmarshal(value, &s) == nil {
		return s
	}
	return text
}

func compact(value json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Compact(&b, value); err != nil {
		return string(value)
	}
	return b.String()
}
