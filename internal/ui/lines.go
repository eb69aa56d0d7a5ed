package ui

import (
	"fmt"
	"strings"
	"time"

	"github.com/levinrun/levin/cluster"
)

// mood is how a line feels; it becomes a colour where there are colours.
type mood int

const (
	neutral mood = iota
	faint
	good
	bad
	warn
	logline
)

// line is one event in words.
type line struct {
	who  string // component, or component[item]; empty for the run itself
	text string // may hold several lines
	mood mood
}

// plain gives the line as it stands in a file: time, who, text.
func (l line) plain(at time.Time) string {
	sep := ": "
	if l.mood == logline {
		sep = " | "
	}
	head := at.Local().Format("15:04:05 ")
	if l.who != "" {
		head += l.who + sep
	}
	return head + strings.ReplaceAll(l.text, "\n", "\n    ")
}

// Who names the call of an event for people: train, or train[svm].
func Who(component, each string) string {
	if each == "" {
		return component
	}
	return component + "[" + Clean(each) + "]"
}

// describe puts an event into words; false for events that people need not see.
func describe(e cluster.Event) (line, bool) {
	l := line{who: Who(e.Component, e.Each)}
	switch e.Type {
	case cluster.EventCallLog:
		l.text, l.mood = Clean(e.Line), logline
	case cluster.EventRunStarted:
		l.text = "run " + e.Run
	case cluster.EventPlanChosen:
		l.text = "plan: " + offerText(e)
		if e.Message != "" {
			l.text += " (" + e.Message + ")"
		}
		l.mood = faint
	case cluster.EventBuildStarted:
		l.text, l.mood = "building: "+e.Message, faint
	case cluster.EventBuildFinished:
		l.text, l.mood = fmt.Sprintf("built in %s", Duration(e.Seconds)), faint
		if e.Error != "" {
			l.text, l.mood = "build failed\n"+CleanLines(e.Error), bad
		}
	case cluster.EventMachineRequested:
		l.text, l.mood = "machine "+e.Machine+" requested: "+offerText(e), faint
	case cluster.EventMachineReady:
		l.text = "machine ready"
		if e.Address != "" {
			l.text += " at " + Clean(e.Address)
		}
		if e.Seconds > 0 {
			l.text += " after " + Duration(e.Seconds)
		}
	case cluster.EventCallStarted:
		if e.Attempt <= 1 {
			return l, false
		}
		l.text = fmt.Sprintf("attempt %d", e.Attempt)
	case cluster.EventCallShipped:
		l.text, l.mood = "shipped "+Bytes(e.Bytes), faint
	case cluster.EventCallRunning:
		l.text = "running"
	case cluster.EventCallExited:
		if e.ExitCode == nil || *e.ExitCode == 0 {
			return l, false
		}
		l.text, l.mood = fmt.Sprintf("exited with %d", *e.ExitCode), warn
	case cluster.EventCallRetrying:
		l.text, l.mood = "trying again: "+CleanLines(e.Error), warn
	case cluster.EventCallSucceeded:
		l.text, l.mood = "succeeded", good
		if len(e.Result) > 0 {
			l.text += " " + Clean(short(string(e.Result), 200))
		}
	case cluster.EventCallFailed:
		l.text, l.mood = "failed: "+CleanLines(e.Error), bad
	case cluster.EventCallSkipped:
		l.text, l.mood = "skipped: "+CleanLines(e.Error+e.Message), warn
	case cluster.EventCallCancelled:
		l.text, l.mood = strings.TrimSuffix("cancelled: "+CleanLines(e.Error+e.Message), ": "), warn
	case cluster.EventMachineStopRequested:
		l.text, l.mood = "stopping machine "+e.Machine, faint
	case cluster.EventMachineGone:
		l.text, l.mood = "machine "+e.Machine+" is gone after "+Duration(e.Seconds), faint
		if e.Cost != nil && *e.Cost > 0 {
			l.text += ", cost " + Dollars(*e.Cost)
		}
	case cluster.EventMachineLost:
		l.text, l.mood = "machine "+e.Machine+" is lost: "+CleanLines(e.Error), bad
	case cluster.EventMachinePreempted:
		l.text, l.mood = "machine "+e.Machine+" is being taken back: "+CleanLines(e.Message), warn
	case cluster.EventWarning:
		l.text, l.mood = "warning: "+CleanLines(e.Message), warn
	case cluster.EventRunStopping:
		if e.Message == "" {
			return l, false // the ordinary end
		}
		l.text, l.mood = "stopping: "+CleanLines(e.Message), warn
	case cluster.EventRunFinished:
		return finished(e), true
	default:
		return l, false
	}
	return l, true
}

// finished is the last line of a run.
func finished(e cluster.Event) line {
	l := line{mood: good}
	if e.State != string(cluster.RunSucceeded) {
		l.mood = bad
	}
	l.text = fmt.Sprintf("run %s %s in %s", e.Run, e.State, Duration(e.Seconds))
	if e.Cost != nil {
		l.text += ", cost " + Dollars(*e.Cost)
	}
	if e.Saved != nil {
		l.text += ", saved " + Dollars(*e.Saved)
	}
	if e.Leaked != nil {
		l.text += fmt.Sprintf(", leaked: %d", *e.Leaked)
		if *e.Leaked > 0 {
			l.mood = bad
			l.text += fmt.Sprintf("\nMACHINES MAY STILL BE RUNNING. Remove them with: levin down %s", e.Run)
		}
	}
	if e.Error != "" {
		l.text += "\n" + CleanLines(e.Error)
	}
	if e.Message != "" {
		l.text += "\n" + CleanLines(e.Message)
	}
	return l
}

func offerText(e cluster.Event) string {
	parts := []string{e.Cloud}
	for _, p := range []string{e.Region, e.Zone, e.Offer} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	if e.Spot {
		parts = append(parts, "(spot)")
	}
	return strings.Join(parts, " ") + ", " + Dollars(e.PricePerHour) + "/h"
}

// CleanLines cleans text of several lines, keeping its line breaks.
func CleanLines(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i := range lines {
		lines[i] = Clean(lines[i])
	}
	return strings.Join(lines, "\n")
}

// Duration gives seconds for people: 0.4s, 12s, 3m20s, 2h05m.
func Duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
}

// Dollars gives an amount in USD; small amounts keep enough digits to be told
// from nothing.
func Dollars(usd float64) string {
	switch {
	case usd == 0:
		return "$0.00"
	case usd < 0.01:
		return fmt.Sprintf("$%.6f", usd)
	case usd < 1:
		return fmt.Sprintf("$%.4f", usd)
	default:
		return fmt.Sprintf("$%.2f", usd)
	}
}

// Bytes gives a size in binary units.
func Bytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, exp := float64(n)/unit, 0
	for f >= unit && exp < 4 {
		f /= unit
		exp++
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[exp])
}

func short(s string, max int) string {
	if len(s) <= max {
		return s
	}
	return strings.ToValidUTF8(s[:max], "") + "…"
}
