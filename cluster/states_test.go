package cluster

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// stateMachine is one state machine, with its types taken off.
type stateMachine struct {
	file, typ string // where its arrows are drawn
	first     string
	moves     map[string][]string
	final     func(string) bool
	can       func(from, to string) bool
}

func plain[S ~string](moves map[S][]S) map[string][]string {
	out := map[string][]string{}
	for from, tos := range moves {
		for _, to := range tos {
			out[string(from)] = append(out[string(from)], string(to))
		}
	}
	return out
}

func stateMachines() []stateMachine {
	return []stateMachine{
		{
			"run.go", "RunState", string(RunPending), plain(runMoves),
			func(s string) bool { return RunState(s).Final() },
			func(a, b string) bool { return RunState(a).CanBecome(RunState(b)) },
		},
		{
			"machine.go", "GroupState", string(GroupPlanned), plain(groupMoves),
			func(s string) bool { return GroupState(s).Final() },
			func(a, b string) bool { return GroupState(a).CanBecome(GroupState(b)) },
		},
		{
			"machine.go", "MachineState", string(MachineRequested), plain(machineMoves),
			func(s string) bool { return MachineState(s).Final() },
			func(a, b string) bool { return MachineState(a).CanBecome(MachineState(b)) },
		},
		{
			"call.go", "CallState", string(CallWaiting), plain(callMoves),
			func(s string) bool { return CallState(s).Final() },
			func(a, b string) bool { return CallState(a).CanBecome(CallState(b)) },
		},
	}
}

func TestStateMachines(t *testing.T) {
	for _, sm := range stateMachines() {
		t.Run(sm.typ, func(t *testing.T) {
			doc, states := declared(t, sm.file, sm.typ)

			drawn := arrows(doc)
			for _, m := range []map[string][]string{drawn, sm.moves} {
				for from := range m {
					slices.Sort(m[from])
				}
			}
			if diff := cmp.Diff(drawn, sm.moves); diff != "" {
				t.Errorf("the arrows in the comment are not those of the table (-comment +table):\n%s", diff)
			}

			reached := map[string]bool{sm.first: true}
			for todo := []string{sm.first}; len(todo) > 0; todo = todo[1:] {
				for _, next := range sm.moves[todo[0]] {
					if !reached[next] {
						reached[next] = true
						todo = append(todo, next)
					}
				}
			}
			if diff := cmp.Diff(states, slices.Sorted(maps.Keys(reached))); diff != "" {
				t.Errorf("states that are declared and states that can be reached differ (-declared +reached):\n%s", diff)
			}

			for _, from := range states {
				if final := len(sm.moves[from]) == 0; sm.final(from) != final {
					t.Errorf("%s: Final() = %v, but its exits are %v", from, sm.final(from), sm.moves[from])
				}
				for _, to := range states {
					want := from == to || slices.Contains(sm.moves[from], to)
					if sm.can(from, to) != want {
						t.Errorf("%s.CanBecome(%s) = %v, want %v", from, to, !want, want)
					}
				}
				if sm.can(from, "") || sm.can("", from) {
					t.Errorf("%s may become the empty state, or the other way round", from)
				}
			}
			if !leadsToFinal(sm, states) {
				t.Error("some state can never reach a final one")
			}
		})
	}
}

func leadsToFinal(sm stateMachine, states []string) bool {
	ends := map[string]bool{}
	for range states { // each round carries "ends" one arrow back
		for _, s := range states {
			ends[s] = ends[s] || sm.final(s) || slices.ContainsFunc(sm.moves[s], func(n string) bool { return ends[n] })
		}
	}
	return !slices.ContainsFunc(states, func(s string) bool { return !ends[s] })
}

// declared gives the comment of a state type and the values of its constants,
// sorted.
func declared(t *testing.T, file, typ string) (doc string, states []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range g.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.Name == typ {
					doc = g.Doc.Text()
				}
			case *ast.ValueSpec:
				if id, ok := spec.Type.(*ast.Ident); ok && id.Name == typ {
					lit := spec.Values[0].(*ast.BasicLit)
					states = append(states, strings.Trim(lit.Value, `"`))
				}
			}
		}
	}
	slices.Sort(states)
	return doc, states
}

var (
	arrow  = regexp.MustCompile(`(?m)^\s*(\w+)\s+──► (.+)$`)
	remark = regexp.MustCompile(`\([^)]*\)`)
)

// arrows reads lines of the form "from ──► to | to (why)".
func arrows(doc string) map[string][]string {
	out := map[string][]string{}
	for _, m := range arrow.FindAllStringSubmatch(doc, -1) {
		for to := range strings.SplitSeq(remark.ReplaceAllString(m[2], ""), "|") {
			out[m[1]] = append(out[m[1]], strings.TrimSpace(to))
		}
	}
	return out
}
