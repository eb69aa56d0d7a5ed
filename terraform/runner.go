package terraform

import (
	"context"
	"encoding/json"
	"io/fs"
)

// Runner drives Terraform in a root's folder.
//
// Contract, held by runnertest for each implementation:
//   - A cancelled ctx sends SIGINT and gives Terraform time to write its state; it
//     is killed only after that time. The error then satisfies
//     errors.Is(err, ctx.Err()).
//   - State is kept on failure: a failed or interrupted Apply leaves everything
//     that was created in the root's state, and Destroy of that root removes it.
//   - Errors are *cluster.Failure with Words in Terraform's or the provider's own
//     words, and wrap an *ApplyError that holds every diagnostic. Their Kind is
//     Provisioning, or Interrupted when ctx was cancelled: what the words of a cloud
//     mean is for its own table to say.
//   - Safe for concurrent use on different folders; calls on one folder queue.
//   - At most Config.MaxProcesses Terraform processes run at the same time; those
//     that destroy go before those that apply.
type Runner interface {
	// Apply initialises dir if needed and makes the world match it. The outputs are
	// those of the root.
	//
	// What the state holds is taken to be as the state says and is not looked at
	// again: a machine that has ended by itself is not created anew.
	Apply(ctx context.Context, dir string, p Providers) (Outputs, error)
	// Destroy removes everything in dir's state, wherever that is kept. A folder
	// without state is done at once, without starting Terraform, unless its root has
	// a backend.
	Destroy(ctx context.Context, dir string, p Providers) error
}

// Outputs are a root's output values by name.
type Outputs map[string]json.RawMessage

// Providers says where the providers of a root come from beyond the registry.
type Providers struct {
	// Reattach maps a provider's source address ("levinrun/levin") to a server that
	// already runs in this process; nil when all come from the registry or the cache.
	// Those that TF_REATTACH_PROVIDERS of the user's environment names are used as
	// well. Providers that run already are not looked for at init.
	Reattach map[string]Reattach
	// Env is added to Terraform's environment (credentials of a cloud). Everything
	// else comes from an allow-list.
	Env map[string]string
}

// Reattach is the address of a provider served in-process
// (TF_REATTACH_PROVIDERS).
type Reattach struct {
	Protocol        string // "grpc"
	ProtocolVersion int    // 6
	PID             int
	Network         string // "unix"
	Address         string
}

// Module is a Terraform module with the one interface of every cloud: it takes
// run_id, machines, ssh_public_key, ingress_cidrs, tags and ttl_seconds, and gives
// the output machines. A module that declares the variable group_id is given that
// too: a run may have several groups in one region, and what has to have a name of
// its own there (a key, a firewall rule) is best named after the group.
type Module struct {
	Name string // "local", "ssh", "aws", …; becomes the folder modules/<name> in a root
	// Files are its *.tf files at the top level, and whatever these need: templates,
	// scripts, modules in folders of their own.
	Files fs.FS
	// Requires are the providers it needs, by local name.
	Requires map[string]Requirement
	// ProviderConfig holds the settings of each provider block, by local name. A
	// map[string]any among them is a nested block; every other value is an attribute.
	ProviderConfig map[string]map[string]any
	// Variables are the module's variables beyond the interface, by name.
	Variables map[string]any
	// HostKeys says that the module puts extra.host_key (a private key, OpenSSH PEM)
	// on each machine as its SSH host key; extra.host_key_public is its public half,
	// which the module answers as host_key.
	HostKeys bool
	// Firewall says that the module opens port 22 to ingress_cidrs and to nobody else.
	Firewall bool
}

// Requirement is one entry of required_providers. An empty Source is a provider
// built into Terraform and is not written.
type Requirement struct {
	Source  string // "levinrun/local"
	Version string // constraint; may be empty
	// InProcess says that Levin itself serves it, so that Terraform alone cannot use
	// the root.
	InProcess bool
}

// Root is the input of one group's Terraform root. The same Root gives the same
// bytes.
type Root struct {
	Run          string // run id
	Group        string // group id
	Module       Module
	Machines     map[string]MachineInput // by machine name
	SSHPublicKey string                  // authorized_keys form
	IngressCIDRs []string                // who may reach port 22
	Tags         map[string]string
	TTL          int // seconds after which the cloud itself ends a machine; 0 is none
	// Region and further module variables (a cloud's own), by variable name.
	Extra map[string]any
	// Backend is where the state is kept; nil is a file beside the root.
	Backend *Backend
}

// Backend is a Terraform backend ("s3", "gcs", "pg", "http", …) and its settings.
// In values, ${run} and ${group} stand for the root's run and group; one value must
// hold ${group}. Settings are attributes: what a backend takes as a nested block
// cannot be given. Credentials are refused: they come through Providers.Env.
type Backend struct {
	Type   string
	Config map[string]any
}

// MachineInput is what the module is told of one machine. Values a cloud has no
// use for stay zero. Fields that only one module reads go into Extra.
type MachineInput struct {
	Type  string         `json:"type"`
	Zone  string         `json:"zone"`
	Disk  int            `json:"disk"` // GiB; 0 is the module's default
	Spot  bool           `json:"spot"`
	Image string         `json:"image"`
	Ports []int          `json:"ports"`
	Extra map[string]any `json:"extra,omitempty"`
}

// MachineOutput is what the module answers for one machine: the value of the
// output "machines", by name.
type MachineOutput struct {
	Address        string `json:"address"`
	PrivateAddress string `json:"private_address"`
	Port           int    `json:"port"`
	User           string `json:"user"`
	HostKey        string `json:"host_key"` // authorized_keys form; empty when only known_hosts knows it
	CloudID        string `json:"cloud_id"`
}
