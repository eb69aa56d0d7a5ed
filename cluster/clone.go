package cluster

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"
)

// The Clone methods give a copy that shares nothing with the original, in the
// form that a Store keeps: times in UTC without a monotonic reading, empty
// slices as nil, results without white space.

// Clone copies the run.
func (r Run) Clone() Run {
	r.Spec = bytesOf(r.Spec)
	utc(&r.CreatedAt, &r.StartedAt, &r.FinishedAt)
	return r
}

// Clone copies the group.
func (g Group) Clone() Group {
	utc(&g.CreatedAt)
	return g
}

// Clone copies the machine.
func (m Machine) Clone() Machine {
	utc(&m.RequestedAt, &m.CreatingAt, &m.ReadyAt, &m.StopRequestedAt, &m.GoneAt, &m.ExpiresAt)
	return m
}

// Clone copies the call.
func (c Call) Clone() Call {
	c.Result = compact(c.Result)
	if len(c.Artifacts) == 0 {
		c.Artifacts = nil
	} else {
		c.Artifacts = slices.Clone(c.Artifacts)
	}
	c.ExitCode = pointee(c.ExitCode)
	utc(&c.ExitedAt, &c.StartedAt, &c.FinishedAt)
	return c
}

// Clone copies the attempt.
func (a Attempt) Clone() Attempt {
	a.ExitCode = pointee(a.ExitCode)
	utc(&a.StartedAt, &a.ExitedAt, &a.EndedAt)
	return a
}

// Clone copies the event.
func (e Event) Clone() Event {
	e.ExitCode = pointee(e.ExitCode)
	e.Result = compact(e.Result)
	e.Cost = pointee(e.Cost)
	e.Saved = pointee(e.Saved)
	e.Leaked = pointee(e.Leaked)
	utc(&e.Time)
	if e.ExitedAt != nil {
		at := *e.ExitedAt
		utc(&at)
		e.ExitedAt = &at
	}
	return e
}

// Clone copies the cooldown.
func (c Cooldown) Clone() Cooldown {
	utc(&c.Until)
	return c
}

func utc(times ...*time.Time) {
	for _, t := range times {
		*t = t.Round(0).UTC()
	}
}

func bytesOf[B ~[]byte](b B) B {
	if len(b) == 0 {
		return nil
	}
	return slices.Clone(b)
}

// compact copies a JSON value without its white space; what is not JSON stays as
// it is, for Check to refuse.
func compact(v json.RawMessage) json.RawMessage {
	if len(v) == 0 {
		return nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, v); err != nil {
		return slices.Clone(v)
	}
	return b.Bytes()
}

func pointee[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
