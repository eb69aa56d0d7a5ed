package cluster

import (
	"encoding/json"
	"time"
)

// EventType names what happened. The strings are a public interface: they are
// what `levin run --json` prints.
type EventType string

// The events of a run.
const (
	EventRunStarted           EventType = "run.started"
	EventPlanChosen           EventType = "plan.chosen"
	EventBuildStarted         EventType = "build.started"
	EventBuildFinished        EventType = "build.finished"
	EventMachineRequested     EventType = "machine.requested"
	EventMachineReady         EventType = "machine.ready"
	EventCallStarted          EventType = "call.started" // an attempt began
	EventCallShipped          EventType = "call.shipped" // files are on the machine (bytes: sent over the wire)
	EventCallRunning          EventType = "call.running" // the work's process started
	EventCallLog              EventType = "call.log"
	EventCallExited           EventType = "call.exited"
	EventCallRetrying         EventType = "call.retrying"
	EventCallSucceeded        EventType = "call.succeeded"
	EventCallFailed           EventType = "call.failed"
	EventCallSkipped          EventType = "call.skipped"
	EventCallCancelled        EventType = "call.cancelled"
	EventMachineStopRequested EventType = "machine.stop_requested"
	EventMachineGone          EventType = "machine.gone"
	EventMachineLost          EventType = "machine.lost"      // ended by something other than Levin, or unreachable
	EventMachinePreempted     EventType = "machine.preempted" // the cloud has said that it takes a spot machine back
	EventWarning              EventType = "warning"
	EventRunStopping          EventType = "run.stopping"
	EventRunFinished          EventType = "run.finished"
)

// Event is one line of what happened. Everything shown to people is made from
// events. Fields that an event does not need are left out of its JSON.
type Event struct {
	Seq  int64     `json:"seq,omitempty"` // order within the run, from 1; given by the Store; 0 for call.log, which is not stored
	Time time.Time `json:"time"`          // RFC 3339, nanoseconds, UTC
	Run  string    `json:"run"`
	Type EventType `json:"type"`

	Component string `json:"component,omitempty"`
	Call      string `json:"call,omitempty"`
	Each      string `json:"each,omitempty"`
	Attempt   int    `json:"attempt,omitempty"`
	Machine   string `json:"machine,omitempty"`
	Cloud     string `json:"cloud,omitempty"`
	Region    string `json:"region,omitempty"`
	Zone      string `json:"zone,omitempty"`
	Offer     string `json:"offer,omitempty"` // machine type
	Address   string `json:"address,omitempty"`

	PricePerHour float64 `json:"price_per_hour,omitempty"` // USD
	Spot         bool    `json:"spot,omitempty"`           // the cloud may take the machine back
	Bytes        int64   `json:"bytes,omitempty"`

	Line     string          `json:"line,omitempty"`      // call.log: one line without its newline
	Offset   int64           `json:"offset,omitempty"`    // call.log: byte offset of the line in the call's log
	ExitCode *int            `json:"exit_code,omitempty"` // call.exited, call.failed
	ExitedAt *time.Time      `json:"exited_at,omitempty"` // call.exited: by the machine's clock
	Result   json.RawMessage `json:"result,omitempty"`    // call.succeeded

	State   string   `json:"state,omitempty"`   // run.finished: the run's final state
	Seconds float64  `json:"seconds,omitempty"` // machine.gone: billed; run.finished: wall
	Cost    *float64 `json:"cost,omitempty"`    // machine.gone, run.finished: USD
	Saved   *float64 `json:"saved,omitempty"`   // run.finished: USD that stopping early saved
	Leaked  *int     `json:"leaked,omitempty"`  // run.finished: machines not confirmed gone; must be 0

	Message string `json:"message,omitempty"` // for people
	Error   string `json:"error,omitempty"`   // for people
	Kind    string `json:"kind,omitempty"`    // FailureKind, when Error is set and the kind is known
}
