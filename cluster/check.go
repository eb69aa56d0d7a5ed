package cluster

import (
	"encoding/json"
	"fmt"
)

// Kind names a sort of row that has a state or a run of its own.
type Kind string

// The kinds of rows that Check asks a store about.
const (
	KindRun     Kind = "run"
	KindGroup   Kind = "group"
	KindMachine Kind = "machine"
	KindCall    Kind = "call"
)

// Held is what Check must know of a row: the run it belongs to (its own ID, for
// a run) and the state it is in.
type Held struct {
	Run   string
	State string
}

// Find looks up a row of a store. The bool is false when there is none.
type Find func(kind Kind, id string) (Held, bool, error)

// Check decides whether a change may be written over what find answers. Every
// Store calls it inside the transaction that writes, so that all of them refuse
// the same things:
//
//   - a move along an arrow that does not exist, or a new row that does not begin
//     at its first state: a *TransitionError;
//   - anything of a run that does not exist, and an attempt of a call that does
//     not: an error that wraps ErrNotFound;
//   - a row without its name, a row that would change runs, a result that is not
//     JSON, a call.log event, a cooldown without its cloud or its end.
//
// Rows are taken in the order Run, Groups, Machines, Calls, Attempts, Events; a
// later row of the change sees the earlier ones, so one change can hold a run
// and everything in it.
func Check(c Change, find Find) error {
	k := checker{find: find, seen: map[rowKey]Held{}}
	if c.Run != nil {
		if err := checkRow(&k, KindRun, c.Run.ID, c.Run.ID, c.Run.State, RunPending); err != nil {
			return err
		}
	}
	for i := range c.Groups {
		g := &c.Groups[i]
		if err := checkRow(&k, KindGroup, g.ID, g.Run, g.State, GroupPlanned); err != nil {
			return err
		}
	}
	for i := range c.Machines {
		m := &c.Machines[i]
		if err := checkRow(&k, KindMachine, m.Name, m.Run, m.State, MachineRequested); err != nil {
			return err
		}
	}
	for i := range c.Calls {
		call := &c.Calls[i]
		if err := checkRow(&k, KindCall, call.ID, call.Run, call.State, CallWaiting); err != nil {
			return err
		}
		if err := checkResult(call.Result, string(KindCall), call.ID); err != nil {
			return err
		}
	}
	for i := range c.Attempts {
		if err := k.attempt(&c.Attempts[i]); err != nil {
			return err
		}
	}
	for i := range c.Events {
		if err := k.event(&c.Events[i]); err != nil {
			return err
		}
	}
	for _, cd := range c.Cooldowns {
		if cd.Cloud == "" || cd.Until.IsZero() {
			return fmt.Errorf("a cooldown without its cloud or its end cannot be stored")
		}
	}
	return nil
}

// CheckDelete decides whether a run may be forgotten: it has reached a final
// state and the cloud has confirmed that each of its machines is gone.
func CheckDelete(r Run, machines []Machine) error {
	if !r.State.Final() {
		return &Failure{
			Kind: BadInput,
			What: fmt.Sprintf("run %s is %s and cannot be forgotten", r.ID, r.State),
			Next: "stop it first: levin stop " + r.ID,
		}
	}
	for _, m := range machines {
		if !m.State.Final() {
			return &Failure{
				Kind: BadInput,
				What: fmt.Sprintf("run %s cannot be forgotten: its machine %s is %s", r.ID, m.Name, m.State),
				Next: "remove what is left first: levin down " + r.ID,
			}
		}
	}
	return nil
}

type rowKey struct {
	kind Kind
	id   string
}

// checker remembers the rows of the change that it has passed already.
type checker struct {
	find Find
	seen map[rowKey]Held
}

func (k *checker) held(kind Kind, id string) (Held, bool, error) {
	if h, ok := k.seen[rowKey{kind, id}]; ok {
		return h, true, nil
	}
	return k.find(kind, id)
}

// state is what the four state types have in common.
type state[S any] interface {
	~string
	CanBecome(S) bool
}

func checkRow[S state[S]](k *checker, kind Kind, id, run string, to, first S) error {
	if id == "" {
		return fmt.Errorf("a %s without a name cannot be stored", kind)
	}
	old, found, err := k.held(kind, id)
	if err != nil {
		return err
	}
	switch {
	case found && old.Run != run:
		return fmt.Errorf("%s %s belongs to run %s, not to %q", kind, id, old.Run, run)
	case found && !S(old.State).CanBecome(to):
		return &TransitionError{What: string(kind), ID: id, From: old.State, To: string(to)}
	case !found && to != first:
		return &TransitionError{What: string(kind), ID: id, To: string(to)}
	case !found && kind != KindRun:
		if err := k.exists(KindRun, run, string(kind), id); err != nil {
			return err
		}
	}
	k.seen[rowKey{kind, id}] = Held{Run: run, State: string(to)}
	return nil
}

func (k *checker) attempt(a *Attempt) error {
	if a.Number < 1 {
		return fmt.Errorf("attempt %d of call %s cannot be stored: attempts count from 1", a.Number, a.Call)
	}
	call, found, err := k.held(KindCall, a.Call)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("attempt %d of call %q: no such call: %w", a.Number, a.Call, ErrNotFound)
	}
	if call.Run != a.Run {
		return fmt.Errorf("call %s belongs to run %s, not to %q", a.Call, call.Run, a.Run)
	}
	return nil
}

func (k *checker) event(e *Event) error {
	if e.Type == EventCallLog {
		return fmt.Errorf("a %s event cannot be stored: logs live in files", EventCallLog)
	}
	if err := checkResult(e.Result, "event", string(e.Type)); err != nil {
		return err
	}
	return k.exists(KindRun, e.Run, "event", string(e.Type))
}

func checkResult(result json.RawMessage, ofKind, of string) error {
	if len(result) > 0 && !json.Valid(result) {
		return fmt.Errorf("%s %s: its result is not JSON", ofKind, of)
	}
	return nil
}

// exists refuses what belongs to a row that is not there.
func (k *checker) exists(kind Kind, id, ofKind, of string) error {
	_, found, err := k.held(kind, id)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%s %s: no %s %q: %w", ofKind, of, kind, id, ErrNotFound)
	}
	return nil
}
