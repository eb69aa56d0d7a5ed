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

	// Location is where the controller runs, for the price of moving data: "aws/us-east-1",
	// "gcp/us-central1"; empty is outside every cloud (an office, a laptop).
	Location string `json:"location,omitempty"`
	// Ingress are the addresses (CIDR) that machines in clouds take SSH from; empty
	// looks up the address that this computer has on the internet.
	Ingress []string `json:"ingress,omitempty"`
	// State is where Terraform's states are kept; nil is beside their roots.
	State *StateSettings `json:"state,omitempty"`
}

// StateSettings is a Terraform backend, passed through. Env are the names of
// variables of the user's environment that Terraform is given for it
// (PG_CONN_STR, TF_HTTP_PASSWORD, AWS_PROFILE …): credentials do not belong into
// Config.
type StateSettings struct {
	Backend string         `json:"backend"`          // s3, gcs, azurerm, pg, http, consul, kubernetes, cos, oss
	Config  map[string]any `json:"config,omitempty"` // ${run} and ${group} are replaced; one value must hold ${group}
	Env     []string       `json:"env,omitempty"`
}

// CloudSettings configures one cloud by its name. "local", "aws" and "gcp" are
// there without being set.
type CloudSettings struct {
	// Module is "local", "ssh", "aws" or "gcp"; anything with a slash in it is the
	// folder of the user's own module (absolute after loading).
	Module string  `json:"module,omitempty"`
	Price  float64 `json:"price,omitempty"` // USD per machine hour, for local; for ssh the default of its hosts
	Hosts  []Host  `json:"hosts,omitempty"` // module ssh

	// Clouds of VMs: aws, gcp, own modules.
	Regions      []string `json:"regions,omitempty"`       // machines are made and searched for only there; empty: where the catalog has offers
	Profile      string   `json:"profile,omitempty"`       // aws: profile of ~/.aws
	Project      string   `json:"project,omitempty"`       // gcp: project id; empty: from the environment or gcloud's configuration
	Endpoint     string   `json:"endpoint,omitempty"`      // aws, gcp: URL that takes the place of the cloud's own, for SDK and Terraform provider
	Network      string   `json:"network,omitempty"`       // aws: VPC id, gcp: network name; empty: the default one
	Subnets      []string `json:"subnets,omitempty"`       // aws: subnet ids, gcp: subnetwork names; empty: the zone's default one
	Private      bool     `json:"private,omitempty"`       // machines get no public address and are reached by their private one
	Role         string   `json:"role,omitempty"`          // aws: IAM instance profile, gcp: service account e-mail; empty: none
	Image        string   `json:"image,omitempty"`         // image instead of the module's choice
	User         string   `json:"user,omitempty"`          // whom to log in as; empty: what the module answers
	Identity     string   `json:"identity,omitempty"`      // further private key file to try; for own modules
	DiskType     string   `json:"disk_type,omitempty"`     // aws: gp3 (default), gp2, io2 …; gcp: pd-balanced (default), pd-ssd …
	ProxyJump    string   `json:"proxy_jump,omitempty"`    // [user@]host[:port][,…]
	ProxyCommand string   `json:"proxy_command,omitempty"` // shell line whose stdio is the connection; %h address, %p port, %r user, %n machine name, %i cloud id, %z zone

	// Own modules.
	Offers    string         `json:"offers,omitempty"`    // CSV of offers (absolute after loading)
	Variables map[string]any `json:"variables,omitempty"` // of the module, beyond the interface
	Env       []string       `json:"env,omitempty"`       // names of variables of the user's environment that Terraform is given
	Shared    bool           `json:"shared,omitempty"`    // its machines are not for Levin alone: the agent never powers them off
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
	ProxyCommand string  `json:"proxy_command,omitempty"` // shell line whose stdio is the connection; %h, %n, %p, %r are replaced
	Slots        int     `json:"slots,omitempty"`         // calls at the same time; default 1
	CPUs         float64 `json:"cpus,omitempty"`          // per slot; 0 is unknown
	Memory       float64 `json:"memory,omitempty"`        // GiB per slot; 0 is unknown
	Disk         float64 `json:"disk,omitempty"`          // GiB per slot; 0 is unknown
	GPU          string  `json:"gpu,omitempty"`           // MODEL[:COUNT] per slot
	Arch         string  `json:"arch,omitempty"`          // amd64 (default) or arm64
	Price        float64 `json:"price,omitempty"`         // USD per hour and slot
}
