package configs

import "time"

// App is a parsed, defaulted and validated app file.
type App struct {
	Name        string            `json:"name"`
	Env         map[string]string `json:"env,omitempty"`
	OnFailure   OnFailure         `json:"on_failure"`             // cancel (default) or continue
	MaxParallel int               `json:"max_parallel,omitempty"` // calls at the same time in the whole run; 0 is no limit
	Components  []Component       `json:"components"`             // in the file's order
	// TTL is how long a machine may live before its cloud ends it, whatever becomes
	// of Levin; the controller puts it off while work runs. Default 24 h.
	TTL time.Duration `json:"ttl"`

	Dir  string `json:"-"` // absolute, symlinks resolved: the folder of the app file
	File string `json:"-"` // absolute path of the app file
}

// OnFailure says what happens to the other branches once a call has failed for
// good.
type OnFailure string

// Cancel stops calls that run and skips the rest; Continue lets every branch
// that does not need the failed component finish.
const (
	Cancel   OnFailure = "cancel"
	Continue OnFailure = "continue"
)

// Component is code and the machine it needs.
type Component struct {
	Name      string    `json:"name"`
	Resources Resources `json:"resources"`
	Needs     []string  `json:"needs,omitempty"`
	ForEach   []string  `json:"for_each,omitempty"` // one call per item; nil is one call
	// MaxMachines bounds how many machines the component holds at once; calls of a
	// wider for_each wait and reuse a machine that has finished. Always >= 1 after
	// defaults.
	MaxMachines int `json:"max_machines"`

	Files   []string `json:"files"`             // slash-separated, relative to App.Dir, cleaned; default ["."]; empty ships nothing
	Build   string   `json:"build,omitempty"`   // shell command run here, in App.Dir, before shipping
	Setup   string   `json:"setup,omitempty"`   // shell command on the machine, once per machine and content
	Run     Command  `json:"run"`               // what to run
	Outputs []string `json:"outputs,omitempty"` // slash-separated paths or globs (with ** for any depth), relative to the work folder
	// Checkpoint are paths or globs like Outputs. When a machine is taken back while
	// the work runs, what they match comes back, and the next attempt starts with it
	// in place.
	Checkpoint []string `json:"checkpoint,omitempty"`
	// OutputSize is how much the outputs of one call come to, about, in GiB; the plan
	// prices moving them. 0 is not known.
	OutputSize float64           `json:"output_size,omitempty"`
	Ports      []int             `json:"ports,omitempty"` // TCP ports of the machine that its firewall opens, beside 22
	Env        map[string]string `json:"env,omitempty"`   // App.Env merged in; may hold expressions

	Retries      int           `json:"retries"`                // further attempts after the first
	Timeout      time.Duration `json:"timeout,omitempty"`      // of one attempt's work (setup and run); 0 is none
	StartTimeout time.Duration `json:"start_timeout"`          // from the request to a machine that answers; > 0
	IdleTimeout  time.Duration `json:"idle_timeout,omitempty"` // how long an idle machine waits for another call; default 0
	Grace        time.Duration `json:"grace"`                  // between TERM and KILL when work is stopped; > 0
}

// Command is what a component runs: a shell line the user wrote, or an argument
// list that no shell sees. Exactly one is set. Both may hold expressions.
type Command struct {
	Shell string   `json:"shell,omitempty"`
	Args  []string `json:"args,omitempty"`
}

// Resources is what a component asks for. The zero value asks for any machine.
type Resources struct {
	GPU      *GPU        `json:"gpu,omitempty"`
	CPUs     Range       `json:"cpus,omitzero"`       // virtual CPUs
	Memory   Range       `json:"memory,omitzero"`     // GiB
	Disk     Range       `json:"disk,omitzero"`       // GiB of the root disk
	Arch     string      `json:"arch,omitempty"`      // "amd64", "arm64" or "" for either
	Machine  string      `json:"machine,omitempty"`   // an exact type of a cloud
	Size     string      `json:"size,omitempty"`      // the named size this came from, for display
	Clouds   []string    `json:"cloud,omitempty"`     // only these clouds
	Regions  []string    `json:"region,omitempty"`    // only these regions
	Zones    []string    `json:"zone,omitempty"`      // only these zones
	Spot     Spot        `json:"spot,omitempty"`      // "" is never; after Load each of AnyOf has its own, and this is ""
	MaxPrice float64     `json:"max_price,omitempty"` // USD per hour; 0 is no limit
	AnyOf    []Resources `json:"any_of,omitempty"`    // alternatives, each merged over the rest of this value
}

// GPU asks for accelerators.
type GPU struct {
	Models []string `json:"models,omitempty"` // upper case, any of; empty is any model
	Count  int      `json:"count"`            // >= 1
	Memory Range    `json:"memory,omitzero"`  // GiB per GPU
}

// Range is min..max, both inclusive. Max 0 is no upper bound; Min 0 is no lower
// bound; the zero value is "any".
type Range struct {
	Min float64 `json:"min,omitempty"`
	Max float64 `json:"max,omitempty"`
}

// Contains reports whether v lies in the range.
func (r Range) Contains(v float64) bool { return v >= r.Min && (r.Max == 0 || v <= r.Max) }

// IsZero reports whether the range allows anything.
func (r Range) IsZero() bool { return r == Range{} }

// Spot says whether a machine may be one that its cloud can take back.
type Spot string

// SpotAuto takes whichever is cheaper, spot or not, and goes on to the other when
// one cannot be had; SpotOnly takes nothing else.
const (
	SpotNever Spot = ""
	SpotAuto  Spot = "auto"
	SpotOnly  Spot = "only"
)
