package terraform

import (
	"context"
	"sync"
)

// turns lets calls with the same key go one after the other. The zero value is
// ready.
type turns struct {
	mu    sync.Mutex
	byKey map[string]*turn
}

type turn struct {
	token chan struct{} // holds one token while somebody has the turn
	users int           // who has it or waits for it
}

// take waits for the key's turn, until ctx ends. The function gives it back.
func (t *turns) take(ctx context.Context, key string) (func(), error) {
	t.mu.Lock()
	if t.byKey == nil {
		t.byKey = map[string]*turn{}
	}
	own := t.byKey[key]
	if own == nil {
		own = &turn{token: make(chan struct{}, 1)}
		t.byKey[key] = own
	}
	own.users++
	t.mu.Unlock()

	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if own.users--; own.users == 0 {
			delete(t.byKey, key)
		}
	}
	if err := ctx.Err(); err != nil {
		leave()
		return nil, err
	}
	select {
	case own.token <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
	return func() {
		<-own.token
		leave()
	}, nil
}

// processes bounds how many Terraform processes run at the same time. Those that
// remove go before those that create, because a machine costs money until it is
// gone.
type processes struct {
	mu      sync.Mutex
	free    int
	waiting [2][]chan struct{} // the urgent first; each is closed when its turn has come
}

func newProcesses(n int) *processes { return &processes{free: n} }

// take waits for a process to be free, until ctx ends.
func (p *processes) take(ctx context.Context, urgent bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	queue := 1
	if urgent {
		queue = 0
	}
	p.mu.Lock()
	if p.free > 0 {
		p.free--
		p.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	p.waiting[queue] = append(p.waiting[queue], mine)
	p.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	for i, c := range p.waiting[queue] {
		if c == mine {
			p.waiting[queue] = append(p.waiting[queue][:i], p.waiting[queue][i+1:]...)
			p.mu.Unlock()
			return ctx.Err()
		}
	}
	p.mu.Unlock()
	p.give() // it came in the same moment
	return ctx.Err()
}

// give gives a process back.
func (p *processes) give() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for queue := range p.waiting {
		if len(p.waiting[queue]) > 0 {
			close(p.waiting[queue][0])
			p.waiting[queue] = p.waiting[queue][1:]
			return
		}
	}
	p.free++
}
