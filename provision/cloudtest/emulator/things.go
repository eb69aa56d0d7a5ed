package emulator

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Things gives copies of all things of a kind ("" is every kind) and cloud, in the
// order of their creation.
func (e *Emulator) Things(cloud, kind string) []Thing {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Thing
	for _, t := range e.things {
		if t.Cloud == cloud && (kind == "" || t.Kind == kind) {
			out = append(out, t.copy())
		}
	}
	return out
}

// Left lists what still exists and would cost or clutter: instances that are not
// terminated, disks, keys, firewalls, placement groups, networks. Rules go with
// their security group and are not listed.
func (e *Emulator) Left() []Thing {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Thing
	for _, t := range e.things {
		if t.exists() && !t.rule() {
			out = append(out, t.copy())
		}
	}
	return out
}

// copy shares nothing that changes.
func (t *Thing) copy() Thing {
	c := *t
	c.Tags, c.Uses = maps.Clone(t.Tags), slices.Clone(t.Uses)
	c.Args = cloneArgs(t.Args)
	c.life = nil
	return c
}

func cloneArgs(args map[string]any) map[string]any {
	b, err := json.Marshal(args)
	if err != nil {
		panic(fmt.Sprintf("emulator: arguments that came from JSON are none: %v", err))
	}
	var clone map[string]any
	if err := json.Unmarshal(b, &clone); err != nil {
		panic(fmt.Sprintf("emulator: %v", err))
	}
	return clone
}

// exists says whether the cloud still has it; a terminated instance is only
// listed.
func (t *Thing) exists() bool { return t.State != Terminated }

func (t *Thing) instance() bool {
	return t.Kind == "aws_instance" || t.Kind == "google_compute_instance"
}

// rule says whether it is part of a security group.
func (t *Thing) rule() bool { return strings.HasSuffix(t.Kind, "_rule") }

// find gives the thing itself, which is read and changed with the lock held: one
// that exists before one that is only listed, and a newer one before an older one.
func (e *Emulator) find(cloud string, match func(*Thing) bool) *Thing {
	var found *Thing
	for _, t := range e.things {
		if t.Cloud == cloud && match(t) && (found == nil || t.exists() || !found.exists()) {
			found = t
		}
	}
	return found
}

func (e *Emulator) findID(cloud, kind, id string) *Thing {
	return e.find(cloud, func(t *Thing) bool { return t.ID == id && (kind == "" || t.Kind == kind) })
}

// add puts a thing into the books, unless one of its kind that same answers true
// for is there.
func (e *Emulator) add(t *Thing, same func(*Thing) bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, other := range e.things {
		if other.Cloud == t.Cloud && other.Kind == t.Kind && other.exists() && same(other) {
			return false
		}
	}
	e.things = append(e.things, t)
	e.notify()
	return true
}

// drop takes things out of the books. The lock is held.
func (e *Emulator) drop(gone func(*Thing) bool) {
	e.things = slices.DeleteFunc(e.things, gone)
	e.notify()
}

// notify wakes who waits for a change. The lock is held.
func (e *Emulator) notify() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// await waits until done, which is called with the lock held, answers true, or ctx
// ends.
func (e *Emulator) await(ctx context.Context, done func() bool) error {
	for {
		e.mu.Lock()
		ok, changed := done(), e.changed
		e.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-e.ctx.Done():
			return fmt.Errorf("the emulated cloud is closed")
		}
	}
}

// Delete removes a thing that is not an instance. One that is in use is ErrInUse.
func (e *Emulator) Delete(cloud, kind, id string) error {
	e.mu.Lock()
	t := e.findID(cloud, kind, id)
	e.mu.Unlock()
	if t == nil {
		return fmt.Errorf("%s %s: %w", kind, id, ErrNotFound)
	}
	return e.remove(t)
}

func (e *Emulator) remove(t *Thing) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.instance() {
		return fmt.Errorf("%s %s is terminated, not deleted", t.Kind, t.ID)
	}
	for _, other := range e.things {
		if other.exists() && !other.rule() && other.uses(t) {
			return fmt.Errorf("%s %s is used by %s %s: %w", t.Kind, t.ID, other.Kind, other.ID, ErrInUse)
		}
		if other.exists() && other.disk == t {
			return fmt.Errorf("%s %s is the disk of %s: %w", t.Kind, t.ID, other.ID, ErrInUse)
		}
	}
	e.drop(func(other *Thing) bool { return other == t || other.rule() && other.uses(t) })
	return nil
}

// uses says whether a thing needs another one.
func (t *Thing) uses(other *Thing) bool {
	near := t.Region == other.Region || other.Region == "" // some things of GCP are in no region
	return t.Cloud == other.Cloud && near && slices.Contains(t.Uses, other.ID)
}

// Tag sets tags of a thing and leaves the others.
func (e *Emulator) Tag(cloud, id string, tags map[string]string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	// On GCP an instance and its disk have the same name.
	t := e.find(cloud, func(t *Thing) bool { return t.ID == id && t.instance() })
	if t == nil {
		t = e.findID(cloud, "", id)
	}
	if t == nil || !t.exists() {
		return fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	merged := maps.Clone(t.Tags)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, tags)
	t.setTags(merged)
	e.notify()
	return nil
}

func (t *Thing) setTags(tags map[string]string) {
	t.Tags = tags
	if t.Cloud == AWS {
		t.Name = tags["Name"]
	}
}
