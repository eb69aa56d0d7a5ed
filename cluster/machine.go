package cluster

import "time"

// MachineState is where a machine stands.
//
//	requested ──► creating | stopping (given up before Terraform was asked)
//	creating  ──► ready | stopping (create failed: whatever may exist is ended)
//	ready     ──► stopping
//	stopping  ──► gone
//
// A row in state requested is committed before anything is created (intent
// before effect). "gone" is written only after the cloud confirmed it.
type MachineState string

// The states of a machine.
const (
	MachineRequested MachineState = "requested"
	MachineCreating  MachineState = "creating"
	MachineReady     MachineState = "ready"
	MachineStopping  MachineState = "stopping"
	MachineGone      MachineState = "gone"
)

// Final reports whether no further transition is possible.
func (s MachineState) Final() bool { return s == MachineGone }

// CanBecome reports whether a machine may move from s to next; staying is
// always allowed.
func (s MachineState) CanBecome(next MachineState) bool { return allowed(machineMoves, s, next) }

var machineMoves = map[MachineState][]MachineState{
	MachineRequested: {MachineCreating, MachineStopping},
	MachineCreating:  {MachineReady, MachineStopping},
	MachineReady:     {MachineStopping},
	MachineStopping:  {MachineGone},
}

// Machine is one VM, host or process reachable by SSH.
type Machine struct {
	Name      string       `json:"name"` // deterministic: <run>-<component>-<n>, unique, a DNS label
	Run       string       `json:"run"`
	Component string       `json:"component"`
	Group     string       `json:"group"` // the group that owns it; empty while requested
	State     MachineState `json:"state"`

	// Where it is and what it costs: the offer that was taken.
	Cloud        string  `json:"cloud"`
	Region       string  `json:"region,omitempty"`
	Zone         string  `json:"zone,omitempty"`
	Type         string  `json:"type,omitempty"`
	PricePerHour float64 `json:"price_per_hour"` // USD
	Spot         bool    `json:"spot,omitempty"`

	// How it is reached; known once it is ready.
	Address        string `json:"address,omitempty"`         // host name or IP
	PrivateAddress string `json:"private_address,omitempty"` // inside its cloud, when there is one
	Port           int    `json:"port,omitempty"`            // of its SSH server
	User           string `json:"user,omitempty"`
	// HostKey is in authorized_keys form, "ssh-ed25519 AAAA…". While the key is being
	// rotated it is two lines, the new one and the one before; either is accepted.
	HostKey string `json:"host_key,omitempty"`
	CloudID string `json:"cloud_id,omitempty"` // the cloud's own name for it

	RequestedAt     time.Time `json:"requested_at"`
	CreatingAt      time.Time `json:"creating_at,omitzero"` // billing may start here
	ReadyAt         time.Time `json:"ready_at,omitzero"`
	StopRequestedAt time.Time `json:"stop_requested_at,omitzero"`
	GoneAt          time.Time `json:"gone_at,omitzero"`
	ExpiresAt       time.Time `json:"expires_at,omitzero"` // when the cloud itself ends it, unless that is put off; zero: never

	Error string `json:"error,omitempty"` // why it could not be created or ended
}

// GroupState is where a group stands.
//
//	planned    ──► applying | destroyed (nothing was applied)
//	applying   ──► applied | destroying
//	applied    ──► destroying | applying (a machine taken out, on a cloud without a fast path)
//	destroying ──► destroyed
//
// An apply that failed leaves the group in applying; what it created is in its
// state and goes when the group is destroyed.
type GroupState string

// The states of a group.
const (
	GroupPlanned    GroupState = "planned"
	GroupApplying   GroupState = "applying"
	GroupApplied    GroupState = "applied"
	GroupDestroying GroupState = "destroying"
	GroupDestroyed  GroupState = "destroyed"
)

// Final reports whether no further transition is possible.
func (s GroupState) Final() bool { return s == GroupDestroyed }

// CanBecome reports whether a group may move from s to next; staying is always
// allowed.
func (s GroupState) CanBecome(next GroupState) bool { return allowed(groupMoves, s, next) }

var groupMoves = map[GroupState][]GroupState{
	GroupPlanned:    {GroupApplying, GroupDestroyed},
	GroupApplying:   {GroupApplied, GroupDestroying},
	GroupApplied:    {GroupApplying, GroupDestroying},
	GroupDestroying: {GroupDestroyed},
}

// Group is the set of machines created by one Terraform root.
type Group struct {
	ID        string     `json:"id"` // unique, a DNS label: <run>-g<n>
	Run       string     `json:"run"`
	Cloud     string     `json:"cloud"`
	Region    string     `json:"region,omitempty"`
	Dir       string     `json:"dir"` // absolute folder of the root and its state
	State     GroupState `json:"state"`
	CreatedAt time.Time  `json:"created_at"`
	Error     string     `json:"error,omitempty"` // the last failure, in the cloud's words
}
