package cluster

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNewLedger(t *testing.T) {
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	gone := Machine{
		Name: "m1", Run: "r", Component: "train", Cloud: "aws", Type: "g4dn.xlarge", State: MachineGone,
		PricePerHour: 3.6, RequestedAt: at(0), CreatingAt: at(10), ReadyAt: at(60), StopRequestedAt: at(100), GoneAt: at(110),
	}
	up := gone
	up.Name, up.State, up.GoneAt = "m2", MachineStopping, time.Time{}
	never := Machine{Name: "m3", Run: "r", State: MachineGone, PricePerHour: 3.6, RequestedAt: at(0), GoneAt: at(5)}
	backwards := gone
	backwards.Name, backwards.GoneAt = "m4", at(5)

	entry := func(m Machine, from, to int, cost, saved float64, open bool) Entry {
		return Entry{
			Run: "r", Machine: m.Name, Component: "train", Cloud: "aws", Type: "g4dn.xlarge", PricePerHour: 3.6,
			From: at(from), To: at(to), Seconds: max(0, float64(to-from)), Cost: cost, Saved: saved, Open: open,
		}
	}
	for _, tt := range []struct {
		name     string
		finished time.Time
		machines []Machine
		want     Ledger
	}{
		{"nothing", at(200), nil, Ledger{}},
		{"never asked for", at(200), []Machine{never}, Ledger{}},
		{"gone: billed until the cloud said so", at(210), []Machine{gone}, Ledger{
			Entries: []Entry{entry(gone, 10, 110, 0.1, 0.1, false)}, Seconds: 100, Cost: 0.1, Saved: 0.1,
		}},
		{"the run goes on: saved so far", time.Time{}, []Machine{gone}, Ledger{
			Entries: []Entry{entry(gone, 10, 110, 0.1, 0.2, false)}, Seconds: 100, Cost: 0.1, Saved: 0.2,
		}},
		{"still up after the run: costs until now, saves nothing", at(210), []Machine{up}, Ledger{
			Entries: []Entry{entry(up, 10, 310, 0.3, 0, true)}, Seconds: 300, Cost: 0.3,
		}},
		{"clocks that disagree", at(10), []Machine{backwards}, Ledger{
			Entries: []Entry{entry(backwards, 10, 5, 0, 0.005, false)}, Saved: 0.005,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := NewLedger(Run{ID: "r", FinishedAt: tt.finished}, tt.machines, at(310))
			near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })
			if diff := cmp.Diff(tt.want, got, near); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The ledger is the sum of machine-seconds × price, and cost + saved is what
// keeping everything to the end would have cost.
func TestLedgerAddsUp(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	t0 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for range 200 {
		end := t0.Add(time.Duration(rnd.Int64N(int64(10 * time.Hour))))
		var machines []Machine
		var seconds, cost, kept float64
		for range rnd.IntN(20) {
			m := Machine{State: MachineGone, PricePerHour: rnd.Float64() * 10, RequestedAt: t0}
			if rnd.IntN(4) > 0 {
				life := rnd.Int64N(int64(end.Sub(t0)) + 1)
				start := rnd.Int64N(life + 1)
				m.CreatingAt, m.GoneAt = t0.Add(time.Duration(start)), t0.Add(time.Duration(life))
				s := time.Duration(life - start).Seconds()
				seconds += s
				cost += s * m.PricePerHour / 3600
				kept += end.Sub(m.CreatingAt).Seconds() * m.PricePerHour / 3600
			}
			machines = append(machines, m)
		}
		l := NewLedger(Run{FinishedAt: end}, machines, end.Add(time.Hour))
		var entries float64
		for _, e := range l.Entries {
			entries += e.Cost
		}
		for _, pair := range [][2]float64{{l.Seconds, seconds}, {l.Cost, cost}, {l.Cost, entries}, {l.Cost + l.Saved, kept}} {
			if math.Abs(pair[0]-pair[1]) > 1e-6 {
				t.Fatalf("%v is not %v: %+v", pair[0], pair[1], l)
			}
		}
	}
}
