package cluster

import (
	"encoding/json"
	"time"
)

// CallState is where a call stands.
//
//	waiting  ──► starting | skipped | cancelled
//	starting ──► running | failed (no machine could be had) | cancelled
//	running  ──► succeeded | failed | cancelled | starting (the next attempt)
//
// waiting: needs are not met, or no machine is free yet. starting: an attempt
// has begun; a machine is made or reused, code is shipped. running: the work's
// process is alive on the machine.
type CallState string

// The states of a call.
const (
	CallWaiting   CallState = "waiting"
	CallStarting  CallState = "starting"
	CallRunning   CallState = "running"
	CallSucceeded CallState = "succeeded"
	CallFailed    CallState = "failed"
	CallCancelled CallState = "cancelled"
	CallSkipped   CallState = "skipped"
)

// Final reports whether no further transition is possible.
func (s CallState) Final() bool {
	return s == CallSucceeded || s == CallFailed || s == CallCancelled || s == CallSkipped
}

// CanBecome reports whether a call may move from s to next; staying is always
// allowed.
func (s CallState) CanBecome(next CallState) bool { return allowed(callMoves, s, next) }

var callMoves = map[CallState][]CallState{
	CallWaiting:  {CallStarting, CallSkipped, CallCancelled},
	CallStarting: {CallRunning, CallFailed, CallCancelled},
	CallRunning:  {CallStarting, CallSucceeded, CallFailed, CallCancelled},
}

// Call is one invocation of a component with arguments.
type Call struct {
	ID        string    `json:"id"` // unique, a DNS label: <run>-<component>[-<index>]
	Run       string    `json:"run"`
	Component string    `json:"component"`
	Index     int       `json:"index"`          // position in for_each, else 0
	Each      string    `json:"each,omitempty"` // the item of for_each, else empty
	State     CallState `json:"state"`
	Attempt   int       `json:"attempt"` // the attempt now under way or the last one; 1 is the first, 0 is none yet
	Machine   string    `json:"machine,omitempty"`

	// Result is the JSON value the work wrote to $LEVIN_RESULT, if any.
	Result json.RawMessage `json:"result,omitempty"`
	// Artifacts are the files that came back, sorted by path.
	Artifacts []Artifact `json:"artifacts,omitempty"`

	ExitCode   *int      `json:"exit_code,omitempty"`  // of the last attempt; nil if none exited
	ExitedAt   time.Time `json:"exited_at,omitzero"`   // by the machine's clock
	StartedAt  time.Time `json:"started_at,omitzero"`  // first attempt began
	FinishedAt time.Time `json:"finished_at,omitzero"` // final state reached
	Error      string    `json:"error,omitempty"`      // why it failed or was skipped, for people
}

// Attempt is one try of a call. Attempts are history: an attempt is written when
// it starts and once more when it ended.
type Attempt struct {
	Call      string    `json:"call"`
	Number    int       `json:"number"` // 1 is the first
	Run       string    `json:"run"`
	Machine   string    `json:"machine,omitempty"`
	StartedAt time.Time `json:"started_at"`
	ExitCode  *int      `json:"exit_code,omitempty"`
	ExitedAt  time.Time `json:"exited_at,omitzero"` // by the machine's clock
	EndedAt   time.Time `json:"ended_at,omitzero"`
	Error     string    `json:"error,omitempty"`
}

// Artifact is a file that a call produced, by content.
type Artifact struct {
	Path   string `json:"path"`           // slash-separated, relative to the work folder
	Digest string `json:"digest"`         // "sha256:<hex>" of the content; of the target for a link
	Size   int64  `json:"size"`           // bytes
	Mode   uint32 `json:"mode"`           // permission bits
	Link   string `json:"link,omitempty"` // target, when it is a symbolic link
}
