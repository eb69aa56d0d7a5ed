package configs

import "time"

// Settings are what a user sets once for every app: a file
// ($LEVIN_CONFIG, else <config folder>/levin/settings.yaml), LEVIN_* variables
// and flags, in rising order of precedence, decoded once.
type Settings struct {
	Home   string                   `json:"home"`  // absolute; state lives here ($LEVIN_HOME)
	Cloud  string                   `json:"cloud"` // default cloud of `levin run`; "local" when unset
	Clouds map[string]CloudSettings `json:"clouds,omitempty"`

	Lease        time.Duration `json:"lease"`               // how long a machine lives without its controller; default 10m, at least 2s
	MaxMachines  int           `json:"max_machines"`        // default of a component's max_machines; default 16
	MaxTerraform int           `json:"max_terraform"`       // Terraform processes at the same time; 0 derives it from cores and memory
	Terraform    string        `json:"terraform,omitempty"` // path of the terraform or tofu binary; empty looks on PATH
	StopTimeout  time.Duration `json:"stop_timeout"`        // how long clean-up may take after Ctrl-C; default 5m
	LostAfter    time.Duration `json:"lost_after"`          // how long a machine that cannot be reached is tried before it counts as lost; default 2m, at least 1s
}

// CloudSettings configures one cloud by its name.
type CloudSettings struct {
	Module string  `json:"module,omitempty"` // "local", "ssh"
	Price  float64 `json:"price,omitempty"`  // USD per machine hour, for local; for ssh the default of its hosts
	Hosts  []Host  `json:"hosts,omitempty"`  // module ssh
}

// Host is one of the user's own machines.
type Host struct {
	Name         string  `json:"name"`                    // DNS label, unique in its cloud; default: derived from Address
	Address      string  `json:"address"`                 // host name, IP, or an alias of ~/.ssh/config
	Port         int     `json:"port,omitempty"`          // 0: from ssh config, else 22
	User         string  `json:"user,omitempty"`          // empty: from ssh config, else the local user
	Identity     string  `json:"identity,omitempty"`      // private key file; empty: from ssh config, then ssh-agent, then ~/.ssh/id_*
	HostKey      string  `json:"host_key,omitempty"`      // "ssh-ed25519 AAAA…"; empty: from known_hosts
	ProxyJump    string  `json:"proxy_jump,omitempty"`    // [user@]host[:port][,…]
	ProxyCommand string  `json:"proxy_command,omitempty"` // shell line whose stdio is the connection; %h, %p, %r are replaced
	Slots        int     `json:"slots,omitempty"`         // calls at the same time; default 1
	CPUs         float64 `json:"cpus,omitempty"`          // per slot; 0 is unknown
	Memory       float64 `json:"memory,omitempty"`        // GiB per slot; 0 is unknown
	Disk         float64 `json:"disk,omitempty"`          // GiB per slot; 0 is unknown
	GPU          string  `json:"gpu,omitempty"`           // MODEL[:COUNT] per slot
	Arch         string  `json:"arch,omitempty"`          // amd64 (default) or arm64
	Price        float64 `json:"price,omitempty"`         // USD per hour and slot
}
