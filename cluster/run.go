package cluster

import "time"

// RunState is where a run stands.
//
//	pending  ──► running | stopping
//	running  ──► stopping (done, a failure, Ctrl-C, `levin stop`)
//	stopping ──► succeeded | failed | cancelled
//
// A run is stopping while its last machines are being ended, and reaches a
// final state only after the cloud has confirmed that each of them is gone, or
// after the run has said loudly which one is not (Run.Leaked).
type RunState string

// The states of a run.
const (
	RunPending   RunState = "pending"
	RunRunning   RunState = "running"
	RunStopping  RunState = "stopping"
	RunSucceeded RunState = "succeeded"
	RunFailed    RunState = "failed"
	RunCancelled RunState = "cancelled"
)

// Final reports whether no further transition is possible.
func (s RunState) Final() bool {
	return s == RunSucceeded || s == RunFailed || s == RunCancelled
}

// CanBecome reports whether a run may move from s to next. Staying in the same
// state is always allowed: a row may be rewritten with new details.
func (s RunState) CanBecome(next RunState) bool {
	return allowed(runMoves, s, next)
}

// runMoves is read only; a test holds it to the arrows above.
var runMoves = map[RunState][]RunState{
	RunPending:  {RunRunning, RunStopping},
	RunRunning:  {RunStopping},
	RunStopping: {RunSucceeded, RunFailed, RunCancelled},
}

// Run is one execution of an app.
type Run struct {
	ID     string   `json:"id"`      // unique, a DNS label: <app>-<6 random characters>
	App    string   `json:"app"`     // name of the app
	AppDir string   `json:"app_dir"` // absolute folder of the app file, on the controller's machine
	Cloud  string   `json:"cloud"`   // the cloud asked for on the command line or in the settings
	State  RunState `json:"state"`

	// Outcome is what the run becomes once its machines are gone. It is set when
	// the run starts stopping.
	Outcome RunState `json:"outcome,omitempty"`

	// Spec is the app as it was run (JSON of configs.App with --set applied). It
	// never holds secrets.
	Spec []byte `json:"-"`

	CreatedAt  time.Time `json:"created_at"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`

	// Controller names the process that owns the run: host name, process id and
	// the path of its control socket. It stays after the process died.
	Controller Controller `json:"controller,omitzero"`

	Error  string `json:"error,omitempty"` // why it failed, for people
	Leaked int    `json:"leaked"`          // machines that could not be confirmed gone
	Kept   bool   `json:"kept,omitempty"`  // --keep: machines outlive the run until `levin down`
}

// Controller identifies the process that runs a run.
type Controller struct {
	Host string `json:"host"`
	PID  int    `json:"pid"`
	// Socket is the unix socket on which the controller takes orders (stop, end a
	// component) and streams events.
	Socket string `json:"socket"`
}
