package cluster

import "time"

// Entry is one machine's line in the ledger.
type Entry struct {
	Run          string    `json:"run"`
	Machine      string    `json:"machine"`
	Component    string    `json:"component"`
	Cloud        string    `json:"cloud"`
	Type         string    `json:"type,omitempty"`
	PricePerHour float64   `json:"price_per_hour"` // USD
	From         time.Time `json:"from"`           // Machine.CreatingAt: the moment from which a cloud may bill
	To           time.Time `json:"to"`             // Machine.GoneAt; now, for a machine that is still up
	Seconds      float64   `json:"seconds"`        // To − From
	Cost         float64   `json:"cost"`           // USD: Seconds × PricePerHour ÷ 3600
	Saved        float64   `json:"saved"`          // USD against keeping the machine to the end of its run
	Open         bool      `json:"open"`           // true while the machine is not gone
}

// Ledger says what each machine of a run cost and what stopping early saved.
type Ledger struct {
	Entries []Entry `json:"entries"`
	Seconds float64 `json:"seconds"`
	Cost    float64 `json:"cost"`  // USD
	Saved   float64 `json:"saved"` // USD
}

// NewLedger makes the ledger of a run from its machines, in their order.
//
// A machine costs from the moment Terraform was asked for it, when the cloud may
// begin to bill, until the cloud confirmed that it is gone: asking a cloud to
// stop does not end the bill. A machine that is not gone costs until now. One
// that was never asked for costs nothing and has no entry.
//
// Saved is what the machine would have cost on top if it had been kept to the
// end of its run (now, for a run that goes on), which is what a tool does that
// tears everything down together.
func NewLedger(run Run, machines []Machine, now time.Time) Ledger {
	end := run.FinishedAt
	if end.IsZero() {
		end = now
	}
	var l Ledger
	for _, m := range machines {
		if m.CreatingAt.IsZero() {
			continue
		}
		e := Entry{
			Run:          m.Run,
			Machine:      m.Name,
			Component:    m.Component,
			Cloud:        m.Cloud,
			Type:         m.Type,
			PricePerHour: m.PricePerHour,
			From:         m.CreatingAt,
			To:           m.GoneAt,
			Open:         !m.State.Final(),
		}
		if e.To.IsZero() {
			e.To = now
		}
		e.Seconds = secondsBetween(e.From, e.To)
		e.Cost = price(e.Seconds, m.PricePerHour)
		e.Saved = price(secondsBetween(e.To, end), m.PricePerHour)
		l.Entries = append(l.Entries, e)
		l.Seconds += e.Seconds
		l.Cost += e.Cost
		l.Saved += e.Saved
	}
	return l
}

// secondsBetween is never negative: clocks that disagree pay nobody back.
func secondsBetween(from, to time.Time) float64 {
	return max(0, to.Sub(from).Seconds())
}

func price(seconds, perHour float64) float64 { return seconds * perHour / 3600 }
