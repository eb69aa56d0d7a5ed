package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"go.uber.org/goleak"

	"github.com/levinrun/levin/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var at = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func event(t cluster.EventType, edit func(*cluster.Event)) cluster.Event {
	e := cluster.Event{Type: t, Run: "demo-abc123", Time: at, Component: "train", Machine: "demo-abc123-train-1"}
	if edit != nil {
		edit(&e)
	}
	return e
}

func TestCleanNeutralises(t *testing.T) {
	for in, want := range map[string]string{
		"plain text, tabs\tand ünïcode ✓": "plain text, tabs\tand ünïcode ✓",
		"\x1b[31mred\x1b[0m":              "red",
		"\x1b]0;title\x07after":           "after",
		"\x1b]52;c;cm0gLXJmIC8=\x07":      "",
		"a\rb\x08c\x7f":                   "a\uFFFDb\uFFFDc\uFFFD",
		"bell\x07":                        "bell\uFFFD",
		"right-to-left \u202e override":   "right-to-left \uFFFD override",
		"bad utf8 \xff":                   "bad utf8 \uFFFD",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b[2J\x1b[H")
	f.Add("\x9b31m")
	f.Add("\xc2\x9b0m")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range Clean(s) {
			if r != '\t' && unicode.IsControl(r) {
				t.Errorf("Clean(%q) keeps %q", s, r)
			}
		}
	})
}

// A screen that takes nothing must not hold up whoever reports.
func TestSinkNeverBlocks(t *testing.T) {
	gate := make(chan struct{})
	w := &gated{gate: gate}
	s := NewText(w)
	for i := range 3 * maxQueued {
		s.Event(event(cluster.EventCallLog, func(e *cluster.Event) { e.Line = fmt.Sprint("line ", i) }))
	}
	s.Event(event(cluster.EventCallSucceeded, nil))
	close(gate)
	s.Close()
	out := w.String()
	if !strings.Contains(out, "log lines not shown") {
		t.Error("nothing says that lines were left out")
	}
	if !strings.Contains(out, "succeeded") {
		t.Error("an event that is no log line was left out")
	}
}

type gated struct {
	gate <-chan struct{}
	mu   sync.Mutex
	buf  bytes.Buffer
}

func (g *gated) Write(p []byte) (int, error) {
	<-g.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.buf.Write(p)
}

func (g *gated) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.buf.String()
}

func TestJSONIsOneObjectALine(t *testing.T) {
	var out bytes.Buffer
	s := NewJSON(&out)
	leaked, cost := 0, 1.5
	want := []cluster.Event{
		event(cluster.EventCallLog, func(e *cluster.Event) { e.Line = "a <b> & \x1b[31m" }),
		event(cluster.EventRunFinished, func(e *cluster.Event) { e.Leaked, e.Cost = &leaked, &cost }),
	}
	for _, e := range want {
		s.Event(e)
	}
	s.Close()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	for i, line := range lines {
		var e cluster.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Type != want[i].Type || e.Line != want[i].Line {
			t.Errorf("line %d: %v %+v", i, err, e)
		}
	}
	if !strings.Contains(lines[1], `"leaked":0`) {
		t.Errorf("leaked: 0 must be said: %s", lines[1])
	}
}

func TestLeakIsShouted(t *testing.T) {
	leaked := 2
	l, ok := describe(event(cluster.EventRunFinished, func(e *cluster.Event) { e.Leaked, e.State = &leaked, "failed" }))
	if !ok || l.mood != bad || !strings.Contains(l.text, "levin down demo-abc123") {
		t.Errorf("%+v", l)
	}
}

func TestDuration(t *testing.T) {
	for seconds, want := range map[float64]string{0: "0.0s", 9.94: "9.9s", 59.9: "59s", 60: "1m00s", 3599: "59m59s", 7500: "2h05m"} {
		if got := Duration(seconds); got != want {
			t.Errorf("Duration(%v) = %s, want %s", seconds, got, want)
		}
	}
}

// screen is a small terminal: it knows the three sequences that Live uses.
type screen struct {
	mu   sync.Mutex
	rows []string
	row  int
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := string(p)
	for text != "" {
		var up int
		switch {
		case strings.HasPrefix(text, "\x1b[J"):
			s.rows = s.rows[:min(s.row, len(s.rows))]
			text = text[3:]
		case text[0] == '\r':
			text = text[1:]
		case strings.HasPrefix(text, "\x1b["):
			fmt.Sscanf(text, "\x1b[%dA", &up)
			s.row -= up
			text = text[strings.IndexByte(text, 'A')+1:]
		case text[0] == '\n':
			s.row++
			text = text[1:]
		default:
			end := strings.IndexAny(text, "\x1b\r\n")
			for len(s.rows) <= s.row {
				s.rows = append(s.rows, "")
			}
			s.rows[s.row] += text[:end]
			text = text[end:]
		}
	}
	return len(p), nil
}

func TestLive(t *testing.T) {
	s := &screen{}
	l := NewLive(LiveConfig{Out: s, Width: func() int { return 100 }, Height: func() int { return 24 }, Now: func() time.Time { return at.Add(3 * time.Second) }})
	l.Event(event(cluster.EventMachineRequested, func(e *cluster.Event) { e.PricePerHour = 0.5 }))
	l.Event(event(cluster.EventCallStarted, func(e *cluster.Event) { e.Attempt = 1 }))
	l.Event(event(cluster.EventCallRunning, nil))
	l.Event(event(cluster.EventCallLog, func(e *cluster.Event) { e.Line = "epoch 1" }))
	l.Event(event(cluster.EventCallLog, func(e *cluster.Event) { e.Line = "epoch 2 \x1b[2J" }))
	l.Close()
	want := []string{"train │ epoch 1", "train │ epoch 2 "}
	if len(s.rows) != 3 || s.rows[0] != want[0] || s.rows[1] != want[1] {
		t.Fatalf("screen:\n%s", strings.Join(s.rows, "\n"))
	}
	for _, part := range []string{"train", "running", "3.0s", "$0.5000/h", "demo-abc123-train-1"} {
		if !strings.Contains(s.rows[2], part) {
			t.Errorf("the block lacks %q: %s", part, s.rows[2])
		}
	}
}

// A block that is taller than the screen would scroll at every drawing.
func TestLiveFitsTheScreen(t *testing.T) {
	s := &screen{}
	l := NewLive(LiveConfig{Out: s, Width: func() int { return 40 }, Height: func() int { return 10 }, Now: func() time.Time { return at }})
	for i := range 200 {
		l.Event(event(cluster.EventCallStarted, func(e *cluster.Event) { e.Component, e.Machine = fmt.Sprint("c", i), strings.Repeat("long", 30) }))
	}
	l.Close()
	if len(s.rows) > 8 {
		t.Errorf("%d rows", len(s.rows))
	}
	for _, r := range s.rows {
		if n := len([]rune(r)); n > 39 {
			t.Errorf("row of %d columns: %s", n, r)
		}
	}
	if last := s.rows[len(s.rows)-1]; !strings.Contains(last, "more") {
		t.Errorf("nothing says that rows are left out: %s", last)
	}
}
