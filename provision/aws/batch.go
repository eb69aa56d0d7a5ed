package aws

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// flights is how many requests of one sort are under way in a region at once.
	// Only what comes while that many are out is gathered, so that a machine that
	// ends alone never waits, and a hundred that end together are a few requests.
	flights = 4
	// perRequest is how many instances one request names: EC2's limit for the values
	// of a filter.
	perRequest = 200
	// requestTime bounds one request with all its attempts.
	requestTime = 2 * time.Minute
)

var errClosed = errors.New("the cloud is closed")

// outcome is what a request came to for one instance.
type outcome[V any] struct {
	value V
	err   error
}

// batch gathers what is asked of single instances into requests for many. A
// request goes on when whoever asked has given up: others wait for it too.
type batch[V any] struct {
	cloud *Cloud
	do    func(ctx context.Context, ids []string) map[string]outcome[V]

	mu     sync.Mutex
	flying int
	next   []string // instances that wait for a flight, in order
	asking map[string][]chan outcome[V]
}

func newBatch[V any](c *Cloud, do func(context.Context, []string) map[string]outcome[V]) *batch[V] {
	return &batch[V]{cloud: c, do: do, asking: map[string][]chan outcome[V]{}}
}

// ask gives the outcome for one instance.
func (b *batch[V]) ask(ctx context.Context, id string) (V, error) {
	answer := make(chan outcome[V], 1)
	b.mu.Lock()
	if len(b.asking[id]) == 0 {
		b.next = append(b.next, id)
	}
	b.asking[id] = append(b.asking[id], answer)
	if b.flying < flights && len(b.next) > 0 {
		if !b.cloud.background(b.fly) {
			b.mu.Unlock()
			var none V
			return none, errClosed
		}
		b.flying++
	}
	b.mu.Unlock()
	select {
	case o := <-answer:
		return o.value, o.err
	case <-ctx.Done():
		var none V
		return none, context.Cause(ctx)
	}
}

// fly carries what waits until nothing does.
func (b *batch[V]) fly() {
	for {
		b.mu.Lock()
		ids := b.next[:min(len(b.next), perRequest)]
		b.next = b.next[len(ids):]
		asking := map[string][]chan outcome[V]{}
		for _, id := range ids {
			asking[id] = b.asking[id]
			delete(b.asking, id)
		}
		if len(ids) == 0 {
			b.flying--
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()

		ctx, cancel := context.WithTimeout(b.cloud.life, requestTime)
		outcomes := b.do(ctx, ids)
		cancel()
		for id, answers := range asking {
			for _, answer := range answers {
				answer <- outcomes[id]
			}
		}
	}
}
