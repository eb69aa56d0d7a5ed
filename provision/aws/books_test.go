package aws

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/levinrun/levin/provision/cloudtest/emulator"
)

// books are the things of a cloud without machines, behind the emulator's APIs:
// a hundred instances cost nothing here.
type books struct {
	url string

	mu      sync.Mutex
	things  []*emulator.Thing
	linger  int // how many looks an instance that is ended stays on its way out
	looks   map[string]int
	calls   map[string]int
	ids     map[string]int // instances named in the requests of an action
	fault   func(op string) (emulator.FaultKind, bool)
	arrived func(action string) // called before a request is answered
	number  int
}

func newBooks(t *testing.T) *books {
	t.Helper()
	b := &books{looks: map[string]int{}, calls: map[string]int{}, ids: map[string]int{}}
	handler := emulator.AWSHandler(b)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		form, _ := url.ParseQuery(string(body))
		action := form.Get("Action")
		b.mu.Lock()
		b.calls[action]++
		for n := 1; form.Has(fmt.Sprintf("InstanceId.%d", n)); n++ {
			b.ids[action]++
		}
		arrived := b.arrived
		b.mu.Unlock()
		if arrived != nil {
			arrived(action)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func (b *books) add(thing emulator.Thing) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.number++
	thing.Cloud, thing.CreatedAt = emulator.AWS, time.Now()
	if thing.ID == "" {
		prefix := map[string]string{"aws_instance": "i", "aws_ebs_volume": "vol", "aws_security_group": "sg"}[thing.Kind]
		thing.ID = fmt.Sprintf("%s-%017x", prefix, b.number)
	}
	b.things = append(b.things, &thing)
	return thing.ID
}

func (b *books) find(id string) *emulator.Thing {
	for _, t := range b.things {
		if t.ID == id {
			return t
		}
	}
	return nil
}

// called says how often an action was asked for.
func (b *books) called(action string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[action]
}

// named says how many instances the requests of an action named.
func (b *books) named(action string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ids[action]
}

func (b *books) set(id string, change func(*emulator.Thing)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(b.find(id))
}

// Things implements emulator.API.
func (b *books) Things(cloud, kind string) []emulator.Thing {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []emulator.Thing
	for _, t := range b.things {
		if kind != "" && t.Kind != kind {
			continue
		}
		if t.State == emulator.Terminating {
			if b.looks[t.ID]++; b.looks[t.ID] > b.linger {
				t.State = emulator.Terminated
			}
		}
		c := *t
		c.Tags = maps.Clone(t.Tags)
		all = append(all, c)
	}
	return all
}

// Terminate implements emulator.API.
func (b *books) Terminate(_, id, reason string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.find(id)
	if t == nil {
		return emulator.ErrNotFound
	}
	if t.State != emulator.Terminated {
		t.State, t.Reason = emulator.Terminating, reason
	}
	return nil
}

// Delete implements emulator.API.
func (b *books) Delete(_, kind, id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.things {
		if t.State != emulator.Terminated && slices.Contains(t.Uses, id) {
			return emulator.ErrInUse
		}
	}
	before := len(b.things)
	b.things = slices.DeleteFunc(b.things, func(t *emulator.Thing) bool { return t.Kind == kind && t.ID == id })
	if len(b.things) == before {
		return emulator.ErrNotFound
	}
	return nil
}

// Tag implements emulator.API.
func (b *books) Tag(_, id string, tags map[string]string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.find(id)
	if t == nil {
		return emulator.ErrNotFound
	}
	maps.Copy(t.Tags, tags)
	return nil
}

// Check implements emulator.API.
func (b *books) Check(_ context.Context, _, op, _, _, _ string, _ bool) (emulator.FaultKind, bool) {
	b.mu.Lock()
	fault := b.fault
	b.mu.Unlock()
	if fault == nil {
		return "", false
	}
	return fault(op)
}
