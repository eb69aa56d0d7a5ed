package provision

import (
	"context"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/terraform"
)

// Offer is one purchasable machine: what it is, where it is and what it costs.
type Offer struct {
	Cloud string `json:"cloud"`
	// Region is empty in a cloud that has none (local, own hosts). Where there is
	// one, machines of different regions never share a root, and the root's module
	// is given it as the variable "region".
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
//     means that nothing fits; zero resources ask for everything there is. The
//     resources never hold any_of: whoever calls has taken it apart with
//     Alternatives.
//   - Module, together with the root it is put in, creates every machine of the
//     root on Apply and removes each on Destroy.
//   - All methods are safe for concurrent use.
//
// A cloud may also be a Stopper, a Claimer or an io.Closer.
type Cloud interface {
	Name() string
	Offers(ctx context.Context, r configs.Resources) ([]Offer, error)
	// Module gives the Terraform module and where its providers come from. It may
	// start the provider's server; the server lives until Close.
	Module(ctx context.Context) (terraform.Module, terraform.Providers, error)
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

// Claimer is a cloud of which each offer exists a fixed number of times (own
// hosts). Claim waits, until ctx ends, for one of the offers to be free, and
// commits the machine's row with commit while no other process can claim. The
// claim is the row: it ends when the machine is gone. An error of commit ends
// Claim with that error; commit is called once at the most.
type Claimer interface {
	Claim(ctx context.Context, offers []Offer, commit func(Offer) error) (Offer, error)
}
