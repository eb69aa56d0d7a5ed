package ui

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"github.com/levinrun/levin/cluster"
)

// Sink shows events. Event never blocks and may be called from any goroutine;
// Close shows what is still queued and returns when it is on the screen.
type Sink interface {
	Event(cluster.Event)
	Close()
}

// JSON prints one object a line, as `levin run --json` does.
type JSON struct{ q *queue }

// NewJSON makes a JSON sink that writes to w.
func NewJSON(w io.Writer) *JSON {
	buf := bufio.NewWriter(w)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	return &JSON{newQueue(func(batch []cluster.Event, dropped int) {
		if dropped > 0 {
			enc.Encode(cluster.Event{Type: cluster.EventWarning, Time: batch[0].Time, Run: batch[0].Run, Message: droppedNote(dropped)})
		}
		for _, e := range batch {
			enc.Encode(e)
		}
		buf.Flush() // a reader that went away is not an error of the run
	}, nil, nil)}
}

// Event queues e.
func (s *JSON) Event(e cluster.Event) { s.q.Event(e) }

// Close flushes.
func (s *JSON) Close() { s.q.close() }

// Text prints plain lines for people who read a file or a pipe.
type Text struct{ q *queue }

// NewText makes a Text sink that writes to w.
func NewText(w io.Writer) *Text {
	buf := bufio.NewWriter(w)
	return &Text{newQueue(func(batch []cluster.Event, dropped int) {
		if dropped > 0 {
			fmt.Fprintln(buf, droppedNote(dropped))
		}
		for _, e := range batch {
			if l, ok := describe(e); ok {
				fmt.Fprintln(buf, l.plain(e.Time))
			}
		}
		buf.Flush()
	}, nil, nil)}
}

// Event queues e.
func (s *Text) Event(e cluster.Event) { s.q.Event(e) }

// Close flushes.
func (s *Text) Close() { s.q.close() }

func droppedNote(n int) string {
	return fmt.Sprintf("(%d log lines not shown: the screen could not keep up; `levin logs` has them)", n)
}
