package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// row is one number beside its goal.
type row struct {
	Name     string  `json:"name"` // what to give to scripts/bench to measure it again
	What     string  `json:"what"`
	Measured float64 `json:"measured"`
	Goal     float64 `json:"goal"`
	Unit     string  `json:"unit"`     // "s", "ms", "×", "MB", "%", "/s"
	AtLeast  bool    `json:"at_least"` // the goal is a lower bound
	Met      bool    `json:"met"`
	Detail   string  `json:"detail,omitempty"`
	Skipped  string  `json:"skipped,omitempty"` // why it was not measured
}

// report is what a run of the benchmark comes to.
type report struct {
	Host host  `json:"host"`
	Rows []row `json:"rows"`
}

// host says where the numbers come from. Only ratios can be compared between
// hosts, and times only mean something on a host that is not busy.
type host struct {
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	Cores      int    `json:"cores"`
	LoadBefore string `json:"load_before,omitempty"` // average of the last minute
	LoadAfter  string `json:"load_after,omitempty"`
}

func describeHost() host {
	return host{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), LoadBefore: loadAverage()}
}

// loadAverage is how many processes wanted to run in the last minute, "" where
// that is not known.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	load, _, _ := strings.Cut(string(b), " ")
	return load
}

// measured fills in a number and whether it reaches its goal.
func measured(what string, value, goal float64, unit string, atLeast bool, detail string, args ...any) row {
	return row{
		What: what, Measured: value, Goal: goal, Unit: unit, AtLeast: atLeast,
		Met:    atLeast && value >= goal || !atLeast && value <= goal,
		Detail: fmt.Sprintf(detail, args...),
	}
}

// skipped is a row that cannot be measured here.
func skipped(what, why string) row { return row{What: what, Skipped: why} }

func (r report) markdown() string {
	var b strings.Builder
	b.WriteString("| run again | what | measured | goal | |\n|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		if row.Skipped != "" {
			fmt.Fprintf(&b, "| `%s` | %s | not measured | | %s |\n", row.Name, row.What, row.Skipped)
			continue
		}
		bound, verdict := "≤", "reached"
		if row.AtLeast {
			bound = "≥"
		}
		if !row.Met {
			verdict = "**missed**"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s %s | %s |\n",
			row.Name, row.What, quantity(row.Measured, row.Unit), bound, quantity(row.Goal, row.Unit), verdict)
	}
	for _, row := range r.Rows {
		if row.Detail != "" {
			fmt.Fprintf(&b, "\n- `%s`, %s: %s", row.Name, row.What, row.Detail)
		}
	}
	fmt.Fprintf(&b, "\n\n%s/%s, %d cores", r.Host.OS, r.Host.Arch, r.Host.Cores)
	if r.Host.LoadBefore != "" {
		fmt.Fprintf(&b, "; load average %s before and %s after", r.Host.LoadBefore, r.Host.LoadAfter)
	}
	b.WriteString("\n")
	return b.String()
}

// quantity writes a number with three digits that count.
func quantity(v float64, unit string) string {
	digits := 0
	switch {
	case v == float64(int64(v)):
	case v < 1:
		digits = 3
	case v < 10:
		digits = 2
	case v < 100:
		digits = 1
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if whole, fraction, _ := strings.Cut(text, "."); len(whole) > 4 {
		var grouped []string
		for len(whole) > 3 {
			grouped = append(grouped, whole[len(whole)-3:])
			whole = whole[:len(whole)-3]
		}
		grouped = append(grouped, whole)
		slices.Reverse(grouped)
		text = strings.Join(grouped, ",")
		if fraction != "" {
			text += "." + fraction
		}
	}
	switch unit {
	case "×", "/s", "%":
		return text + unit
	}
	return strings.TrimSpace(text + " " + unit)
}

// seconds writes durations as seconds, for details.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
