package ui

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/levinrun/levin/cluster"
)

// maxRows bounds the live block; a for_each of hundreds shows those that move.
const maxRows = 20

// LiveConfig is what a live view needs to know of its terminal.
type LiveConfig struct {
	Out    io.Writer
	Width  func() int // columns; asked before every drawing, so resizing just works
	Height func() int // rows
	Color  bool       // NO_COLOR is the caller's to honour
	Now    func() time.Time
	Tick   <-chan time.Time // redraws the elapsed times; nil for none
}

// Live shows one line per component at the foot of the terminal, logs and news
// scrolling above.
type Live struct {
	cfg   LiveConfig
	q     *queue
	stop  chan struct{}
	rows  []*row
	index map[string]*row
	rates map[string]float64 // USD per hour of the machines that are up
	drawn int                // rows of the block now on the screen
}

// row is one call in the live block.
type row struct {
	who, state, machine string
	began, ended        time.Time
	final               bool
}

// NewLive starts a live view.
func NewLive(cfg LiveConfig) *Live {
	l := &Live{cfg: cfg, index: map[string]*row{}, rates: map[string]float64{}, stop: make(chan struct{})}
	tick := make(chan struct{})
	go func() { // turns the ticker into redraws until Close
		for {
			select {
			case <-l.stop:
				return
			case <-cfg.Tick:
				select {
				case tick <- struct{}{}:
				case <-l.stop:
					return
				}
			}
		}
	}()
	l.q = newQueue(l.show, tick, func() { l.draw("") })
	return l
}

// Event queues e.
func (l *Live) Event(e cluster.Event) { l.q.Event(e) }

// Close draws what is queued, leaves the last lines on the screen and the cursor
// below them.
func (l *Live) Close() {
	close(l.stop)
	l.q.close()
}

func (l *Live) show(batch []cluster.Event, dropped int) {
	var above strings.Builder
	if dropped > 0 {
		fmt.Fprintln(&above, droppedNote(dropped))
	}
	finished := false
	for _, e := range batch {
		l.update(e)
		finished = finished || e.Type == cluster.EventRunFinished
		if ln, ok := describe(e); ok && !inBlock(e.Type) {
			above.WriteString(l.paint(ln))
			above.WriteByte('\n')
		}
	}
	if finished { // the block gives way to the summary
		l.rows = nil
	}
	l.draw(above.String())
}

// inBlock lists events that the block itself tells; they need no line above it.
func inBlock(t cluster.EventType) bool {
	switch t {
	case cluster.EventMachineRequested, cluster.EventCallShipped, cluster.EventCallRunning,
		cluster.EventMachineStopRequested, cluster.EventMachineGone, cluster.EventMachineReady:
		return true
	}
	return false
}

// states are the words that the block has for where a call stands.
var states = map[cluster.EventType]string{
	cluster.EventCallStarted:   "starting",
	cluster.EventCallShipped:   "shipped",
	cluster.EventCallRunning:   "running",
	cluster.EventCallExited:    "collecting",
	cluster.EventCallRetrying:  "retrying",
	cluster.EventCallSucceeded: "succeeded",
	cluster.EventCallFailed:    "failed",
	cluster.EventCallSkipped:   "skipped",
	cluster.EventCallCancelled: "cancelled",
}

// update moves the rows by one event.
func (l *Live) update(e cluster.Event) {
	switch e.Type {
	case cluster.EventMachineRequested:
		l.rates[e.Machine] = e.PricePerHour
	case cluster.EventMachineStopRequested, cluster.EventMachineGone:
		delete(l.rates, e.Machine)
	}
	state, ok := states[e.Type]
	if !ok {
		return
	}
	r := l.row(Who(e.Component, e.Each), e.Time)
	r.state = state
	if e.Machine != "" {
		r.machine = e.Machine
	}
	switch e.Type {
	case cluster.EventCallStarted:
		if e.Attempt <= 1 {
			r.began = e.Time
		}
	case cluster.EventCallSucceeded, cluster.EventCallFailed, cluster.EventCallSkipped, cluster.EventCallCancelled:
		r.final, r.ended = true, e.Time
	}
}

func (l *Live) row(who string, began time.Time) *row {
	if r := l.index[who]; r != nil {
		return r
	}
	r := &row{who: who, began: began}
	l.index[who] = r
	l.rows = append(l.rows, r)
	return r
}

// draw puts above over the block and draws the block anew, in one write.
func (l *Live) draw(above string) {
	var b strings.Builder
	if l.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r\x1b[J", l.drawn) // up to the block's first row, clear to the end
	}
	b.WriteString(above)
	block := l.block()
	for _, s := range block {
		b.WriteString(s)
		b.WriteByte('\n')
	}
	l.drawn = len(block)
	io.WriteString(l.cfg.Out, b.String())
}

// block is the rows that fit: those that move first, in order of appearance.
func (l *Live) block() []string {
	room := min(maxRows, l.cfg.Height()-2)
	if len(l.rows) == 0 || room < 1 {
		return nil
	}
	shown := l.rows
	if len(shown) > room {
		shown = nil
		for _, final := range []bool{false, true} {
			for _, r := range l.rows {
				if r.final == final && len(shown) < room-1 {
					shown = append(shown, r)
				}
			}
		}
	}
	wide := 0
	for _, r := range shown {
		wide = max(wide, ansi.StringWidth(r.who))
	}
	var lines []string
	for _, r := range shown {
		lines = append(lines, ansi.Truncate(l.rowText(r, wide), l.cfg.Width()-1, "…"))
	}
	if n := len(l.rows) - len(shown); n > 0 {
		lines = append(lines, l.color(fmt.Sprintf("  and %d more", n), faint))
	}
	return lines
}

func (l *Live) rowText(r *row, wide int) string {
	mark, m := "●", neutral
	switch r.state {
	case "succeeded":
		mark, m = "✓", good
	case "failed":
		mark, m = "✗", bad
	case "skipped", "cancelled":
		mark, m = "–", warn
	case "running":
		mark, m = "▶", good
	}
	until := l.cfg.Now()
	if r.final {
		until = r.ended
	}
	rate := ""
	if usd, up := l.rates[r.machine]; up {
		rate = Dollars(usd) + "/h"
	}
	return fmt.Sprintf("%s %s%s  %-10s  %7s  %9s  %s", l.color(mark, m), r.who, strings.Repeat(" ", wide-ansi.StringWidth(r.who)),
		r.state, Duration(until.Sub(r.began).Seconds()), rate, l.color(r.machine, faint))
}

// paint gives a line for the part above the block.
func (l *Live) paint(ln line) string {
	if ln.who == "" {
		return l.color(ln.text, ln.mood)
	}
	if ln.mood == logline {
		return l.color(ln.who+" │ ", faint) + ln.text
	}
	return ln.who + ": " + l.color(strings.ReplaceAll(ln.text, "\n", "\n    "), ln.mood)
}

func (l *Live) color(s string, m mood) string {
	if !l.cfg.Color || s == "" {
		return s
	}
	switch m {
	case faint:
		return "\x1b[2m" + s + "\x1b[0m"
	case good:
		return "\x1b[32m" + s + "\x1b[0m"
	case bad:
		return "\x1b[31m" + s + "\x1b[0m"
	case warn:
		return "\x1b[33m" + s + "\x1b[0m"
	}
	return s
}
