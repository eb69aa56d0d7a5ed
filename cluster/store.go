package cluster

import (
	"context"
	"errors"
	"time"
)

// ErrNotFound is wrapped by a Store's answer when no row has the name asked for.
var ErrNotFound = errors.New("not found")

// Change is what one Commit writes, all or nothing. Rows are whole: a row that
// exists is replaced, one that does not is added. The moves of Run, Groups,
// Machines and Calls are checked against their state machines.
type Change struct {
	Run      *Run
	Groups   []Group
	Machines []Machine
	Calls    []Call
	Attempts []Attempt
	// Events are appended in order. Commit fills in their Seq in place, so the
	// caller can pass them on with their number. A call.log event is refused: logs
	// live in files, not in the store.
	Events []Event
	// Cooldowns belong to no run. One for the same cloud, region, zone, type and spot
	// is replaced.
	Cooldowns []Cooldown
}

// RunFilter narrows Runs. The zero value selects every run.
type RunFilter struct {
	Active bool   // only runs that are not in a final state, or that have machines which are not gone
	App    string // only runs of this app
	Limit  int    // at most this many, newest first; 0 is all
}

// Store keeps runs and everything in them.
//
// Contract, held by storetest for each implementation:
//   - Commit is atomic and durable: when it returns nil the change survives the
//     death of the process, and of the machine where money depends on it. A ctx
//     that ends while Commit waits for its turn refuses the change; once its turn
//     has come the change is written whole.
//   - What may be written is decided by Check: an illegal transition anywhere in a
//     change refuses the whole change with a *TransitionError. A new run begins
//     pending, a new group planned, a new machine requested, a new call waiting.
//     Everything belongs to a run that is there, in the store or in the same
//     change. A refused change leaves its own events' Seq as it was.
//   - All methods are safe for concurrent use, from several goroutines and, for
//     stores on disk, several processes.
//   - Slices come in a stable order: runs newest first; groups, machines, calls
//     and attempts in order of creation; events by Seq.
//   - Values returned are copies, in the form that Clone gives; changing them
//     changes nothing in the store. Times keep nanoseconds and come back in UTC.
//   - Run and DeleteRun of a run that is not there give an error that wraps
//     ErrNotFound; the lists of such a run are empty.
//   - After Close every other method answers with an error. Closing twice is fine.
type Store interface {
	Commit(ctx context.Context, c Change) error

	Run(ctx context.Context, id string) (Run, error)
	Runs(ctx context.Context, f RunFilter) ([]Run, error)
	Groups(ctx context.Context, run string) ([]Group, error)
	Machines(ctx context.Context, run string) ([]Machine, error)
	// AllMachines gives the machines of every run that are not gone. Own hosts are
	// claimed against it.
	AllMachines(ctx context.Context) ([]Machine, error)
	Calls(ctx context.Context, run string) ([]Call, error)
	Attempts(ctx context.Context, run string) ([]Attempt, error)
	// Events gives at most limit events of a run with Seq > after; limit 0 is all.
	Events(ctx context.Context, run string, after int64, limit int) ([]Event, error)
	// DeleteRun forgets a run in a final state whose machines are all gone, and
	// refuses any other.
	DeleteRun(ctx context.Context, id string) error

	// Cooldowns gives those that last beyond now, the one that ends first in front.
	// A Commit of cooldowns may forget those that ended before.
	Cooldowns(ctx context.Context, now time.Time) ([]Cooldown, error)

	Close() error
}
