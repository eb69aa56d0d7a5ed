package cli

import (
	"log/slog"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"github.com/levinrun/levin/internal/ui"
)

type logger = *slog.Logger

// newSink picks how events are shown: JSON when asked for, a live view on a
// terminal, plain lines elsewhere.
func (d *deps) newSink() ui.Sink {
	if d.json {
		return ui.NewJSON(d.Stdout)
	}
	f, ok := terminal(d.Stdout)
	if !ok || d.Getenv("TERM") == "dumb" {
		return ui.NewText(d.Stdout)
	}
	size := func() (int, int) {
		w, h, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 80, 24
		}
		return w, h
	}
	ticker := time.NewTicker(time.Second)
	return liveSink{ui.NewLive(ui.LiveConfig{
		Out: f, Color: d.color(), Now: d.Now, Tick: ticker.C,
		Width:  func() int { w, _ := size(); return w },
		Height: func() int { _, h := size(); return h },
	}), ticker}
}

// liveSink stops the ticker with the view.
type liveSink struct {
	*ui.Live
	ticker *time.Ticker
}

func (s liveSink) Close() {
	s.ticker.Stop()
	s.Live.Close()
}

var _ ui.Sink = liveSink{}

// color says whether to colour: a terminal, and no NO_COLOR.
func (d *deps) color() bool {
	_, isTerminal := terminal(d.Stdout)
	return isTerminal && d.Getenv("NO_COLOR") == ""
}

// abs makes a path of the command line absolute against the world's folder.
func (d *deps) abs(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(d.Dir, path)
}
