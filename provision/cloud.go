package provision

import (
	"context"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/terraform"
)

// Offer is one purchasable machine: what it is, where it is and what it costs.
type Offer struct {
	Cloud string `json:"cloud"`
	// Region is empty in a cloud that has none (local, own hosts). Machines of
	// different regions never share a root.
	Region       string  `json:"region,omitempty"`
	Zone         string  `json:"zone,omitempty"`
	Type         string  `json:"type"` // the cloud's machine type; the host's name for own hosts
	OS           string  `json:"os"`   // GOOS of the machine
	Arch         string  `json:"arch"` // GOARCH of the machine
	CPUs         float64 `json:"cpus,omitempty"`
	Memory       float64 `json:"memory,omitempty"` // GiB
	Disk         float64 `json:"disk,omitempty"`   // GiB; 0 means it can be chosen
	GPU          string  `json:"gpu,omitempty"`    // model, upper case
	GPUs         int     `json:"gpus,omitempty"`
	GPUMemory    float64 `json:"gpu_memory,omitempty"` // GiB per GPU
	PricePerHour float64 `json:"price_per_hour"`       // USD
	Spot         bool    `json:"spot,omitempty"`
	// Missing lists what was asked for and this offer lacks but is run all the same
	// (the local cloud without a GPU). Shown once to the user.
	Missing []string `json:"missing,omitempty"`
}

// Cloud is one place where machines come from.
//
// Contract, held by cloudtest for each implementation:
//   - Offers answers only with offers that satisfy the resources (see Unmet),
//     cheapest first (see SortOffers), in an order that does not change between
//     calls with the same inputs, and needs no network. No offers and a nil error
//     means that nothing fits; zero resources ask for everything there is, but for
//     spot offers, which must be allowed. The resources never hold any_of: whoever calls has taken it apart with
//     Alternatives.
//   - Module, together with the root it is put in, creates every machine of the
//     root on Apply and removes each on Destroy.
//   - All methods are safe for concurrent use.
//
// A cloud may also be a Stopper, Inspector, Sweeper, Extender, Judge, Preflighter,
// Refresher, Claimer, Lister or io.Closer.
type Cloud interface {
	Name() string
	Offers(ctx context.Context, r configs.Resources) ([]Offer, error)
	// Module gives the Terraform module for machines of one region ("" in a cloud
	// that has none) and where its providers come from. It may start the provider's
	// server; the server lives until Close.
	Module(ctx context.Context, region string) (terraform.Module, terraform.Providers, error)
	// Input translates an offer and the resources it satisfies (one alternative)
	// into the module's input for one machine.
	Input(o Offer, r configs.Resources) (terraform.MachineInput, error)
	// Target says how a machine that is ready is reached. The run's private key is
	// at keyFile, in OpenSSH form.
	Target(m cluster.Machine, keyFile string) (cluster.Target, error)
}

// Stopper is a cloud with a fast path: it ends a machine without Terraform.
// Stop returns once the cloud has confirmed that the machine is gone. Ending a
// machine that is gone already, or never came to be, is no error. Terraform may
// be destroying the same machine at the same time. Stop knows the machine by its
// name: one whose create was interrupted has no address or cloud id.
type Stopper interface {
	Stop(ctx context.Context, m cluster.Machine) error
}

// Status is where a machine stands in its cloud's own books.
type Status string

// The statuses of a machine.
const (
	StatusUnknown   Status = ""          // the cloud does not say
	StatusBooting   Status = "booting"   // exists, is not up yet
	StatusRunning   Status = "running"   // up
	StatusStopped   Status = "stopped"   // exists and does not run; may cost a disk
	StatusPreempted Status = "preempted" // taken back by the cloud, or about to be
	StatusGone      Status = "gone"      // does not exist
)

// Inspector is a cloud that can say how a machine is doing. Words are the cloud's
// own for the reason ("Server.SpotInstanceTermination: …"), when it gives one.
type Inspector interface {
	Status(ctx context.Context, m cluster.Machine) (status Status, words string, err error)
}

// Found is something in a cloud that carries Levin's tags.
type Found struct {
	Cloud     string `json:"cloud"`
	Region    string `json:"region,omitempty"`
	Zone      string `json:"zone,omitempty"`
	Kind      string `json:"kind"`           // "machine", "disk", "key", "firewall", "placement group"
	ID        string `json:"id"`             // the cloud's own
	Name      string `json:"name,omitempty"` // of a machine: its name in Levin
	Run       string `json:"run"`
	Component string `json:"component,omitempty"`
	Owner     string `json:"owner,omitempty"`
	Type      string `json:"type,omitempty"`
	Status    Status `json:"status,omitempty"` // of a machine
	Spot      bool   `json:"spot,omitempty"`

	CreatedAt    time.Time `json:"created_at,omitzero"`
	ExpiresAt    time.Time `json:"expires_at,omitzero"`
	PricePerHour float64   `json:"price_per_hour"` // USD, by the catalog; 0 for what costs nothing or is not known
}

// Sweeper is a cloud that is searched by tag, whatever Terraform's state says.
//
// Find lists what there is of a run, or of every run when run is "", in all
// regions the cloud is configured for. What is gone (an instance that EC2 still
// lists as terminated) is not there. When a region cannot be searched the rest is
// given together with an error that says which.
//
// Remove removes things in an order that works (machines first), returns once the
// cloud has confirmed each, and takes what is gone already for removed.
type Sweeper interface {
	Find(ctx context.Context, run string) ([]Found, error)
	Remove(ctx context.Context, found []Found) error
}

// Extender is a cloud whose tags say when a machine expires. Extend moves that
// time; it does not move what powers the machine off (the agent does). It gives an
// error that wraps ErrExpiryFixed, and moves nothing, when the cloud itself ends
// the machine at a time that cannot be moved.
type Extender interface {
	Extend(ctx context.Context, m cluster.Machine, until time.Time) error
}

// Scope is how far a failure reaches.
type Scope string

// The scopes of a failure.
const (
	ScopeZone    Scope = "zone"    // this type in this zone
	ScopeRegion  Scope = "region"  // this type in this region
	ScopeAccount Scope = "account" // the whole cloud
)

// Verdict is what a cloud's words mean.
type Verdict struct {
	Kind  cluster.FailureKind
	Scope Scope
	Next  string // what the user can do; may be empty
}

// Judge is a cloud that knows what its own words mean. Judge gets one message, of
// Terraform or of the SDK; the bool is false for words it does not know.
type Judge interface {
	Judge(words string) (Verdict, bool)
}

// Finding is one thing that Preflight has looked at.
type Finding struct {
	Check string // "credentials", "permissions", "quota", …; short
	OK    bool
	Text  string // what was found, or what is wrong and what to do
}

// Preflighter is a cloud that can look, before any machine is asked for, whether
// it would work: credentials, the permissions that are needed, quotas for the
// offers. It changes nothing.
type Preflighter interface {
	Preflight(ctx context.Context, offers []Offer) []Finding
}

// Refresher is a cloud whose offers can be read anew from its live APIs. Refresh
// writes them to the catalog's cache (see provision/catalog) and tells progress a
// line at a time.
type Refresher interface {
	Refresh(ctx context.Context, progress func(line string)) error
}

// Claimer is a cloud of which each offer exists a fixed number of times (own
// hosts). Claim waits, until ctx ends, for one of the offers to be free, and
// commits the machine's row with commit while no other process can claim. The
// claim is the row: it ends when the machine is gone. An error of commit ends
// Claim with that error; commit is called once at the most.
type Claimer interface {
	Claim(ctx context.Context, offers []Offer, commit func(Offer) error) (Offer, error)
}

// Lister is a cloud with a price list: its Offers are those of the list that
// satisfy the resources (see Fits), neither more nor less, in the list's order. A
// plan of many components then asks for it once.
type Lister interface {
	List(ctx context.Context) ([]Offer, error)
}

// Metered is a cloud that takes money for data that leaves it. Egress gives USD
// per GiB from one of its regions to a location: "<cloud>/<region>" with the
// cloud's kind ("aws/us-east-1"), or "" for anywhere outside clouds.
type Metered interface {
	Egress(region, location string) float64
}
