package emulator

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/levinrun/levin/provision/local/machine"
)

// Config is what an Emulator works with. Dir and Agent must be set.
type Config struct {
	Dir   string // folder of its machines, absolute
	Agent string // path of the levin-agent binary, which instances are made of
	// Second is how long a second lasts of the times that the cloud itself counts
	// (run durations, expiry timers, notices); default a second.
	Second time.Duration
	// Boot is how long an instance takes from its creation to its SSH server; default 0.
	Boot time.Duration
	// SSHPort is where the SSH servers of instances listen, each on a loopback address
	// of its own; default 22, as in clouds.
	SSHPort int
}

// State is where an instance stands.
type State string

// The states of an instance.
const (
	Pending     State = "pending"
	Running     State = "running"
	Terminating State = "terminating"
	Stopped     State = "stopped" // powered off and still there (GCP)
	Terminated  State = "terminated"
)

// Thing is one resource that exists in the emulated cloud. Terminated instances
// stay in the list, as clouds show them for a while.
type Thing struct {
	Cloud  string // "aws" or "gcp"
	Kind   string // the Terraform resource: "aws_instance", "google_compute_firewall", …; "aws_ebs_volume" and "google_compute_disk" for root disks
	ID     string // i-…, sg-…, key name, …; for GCP the name
	Name   string // the tag Name, or the name
	Region string
	Zone   string // zone id on AWS (use1-az1), zone on GCP (us-central1-a)
	Type   string // machine type
	Spot   bool
	Tags   map[string]string // tags or labels
	Args   map[string]any    // arguments as Terraform gave them, decoded from JSON
	Uses   []string          // IDs of what it needs: deleting those while it lives is refused

	State     State  // of an instance
	Reason    string // why it is not running any more, in the cloud's words
	CreatedAt time.Time
	ExpiresAt time.Time    // when it ends at the latest, when there is such a time: expiry timer, max_run_duration
	Machine   machine.Info // of an instance that runs

	state   cty.Value // as Terraform knows it
	stateID string    // the id that Terraform has for it
	life    *life     // of an instance
	disk    *Thing    // root disk of an instance
}

// Emulator is the emulated cloud. All methods are safe for concurrent use.
type Emulator struct {
	cfg     Config
	starter *machine.Starter

	mu      sync.Mutex
	things  []*Thing      // in order of creation
	changed chan struct{} // closed, and made anew, whenever a thing changes
	faults  []*fault
	calls   map[string]int // API calls by name, for tests that count
	closed  bool

	core
}

// FaultKind is what goes wrong.
type FaultKind string

// The faults. All but the last four are answers of the cloud in its own words,
// for the Terraform provider and for the APIs.
const (
	FaultCapacity  FaultKind = "capacity"       // InsufficientInstanceCapacity, ZONE_RESOURCE_POOL_EXHAUSTED
	FaultSpot      FaultKind = "spot capacity"  // no spot capacity at this price
	FaultQuota     FaultKind = "quota"          // VcpuLimitExceeded, QUOTA_EXCEEDED
	FaultThrottled FaultKind = "throttled"      // RequestLimitExceeded, rateLimitExceeded
	FaultExpired   FaultKind = "expired"        // ExpiredToken, invalid_grant
	FaultDenied    FaultKind = "denied"         // UnauthorizedOperation, PERMISSION_DENIED
	FaultLost      FaultKind = "lost"           // the instance is created and the provider dies before it says so: Terraform's state lacks it
	FaultNoBoot    FaultKind = "never boots"    // it runs, and its SSH server never answers
	FaultHang      FaultKind = "hangs"          // the request is not answered until its context ends
	FaultUnsaid    FaultKind = "answer is lost" // the API does what it is asked and the connection breaks before the answer
)

// Fault is something that goes wrong where it matches. Empty fields match all.
type Fault struct {
	Kind   FaultKind
	Cloud  string
	Op     string // "create", "terminate", "describe", "" for create
	Region string
	Zone   string
	Type   string
	Spot   *bool
	Times  int // how often; 0 is always
}

type fault struct {
	Fault
	left int // times; < 0 is always
}

// API is what the HTTP handlers and the provider share; see core.go. Every
// method but Things may wait for processes to end, until ctx does.
type API interface {
	// Things gives copies of all things of a kind ("" is every kind) and cloud.
	Things(cloud, kind string) []Thing
	// Terminate begins to end an instance (state terminating) and returns at once;
	// it is terminated when its processes are gone. Terminating a terminated one is
	// no error; one that never was is ErrNotFound.
	Terminate(cloud, id, reason string) error
	// Delete removes a thing that is not an instance. One that is in use is ErrInUse.
	Delete(cloud, kind, id string) error
	// Tag sets tags of a thing and leaves the others.
	Tag(cloud, id string, tags map[string]string) error
	// Check gives the error that a fault makes of an operation, nil for none. The
	// handler words it in its API's form.
	Check(ctx context.Context, cloud, op, region, zone, typ string, spot bool) (FaultKind, bool)
}

var _ API = (*Emulator)(nil)

// handlers are the HTTP APIs: /aws/ is every AWS endpoint (EC2, STS, Service
// Quotas, Pricing), /gcp/ is every Google endpoint, /metadata/<instance id>/ is
// what an AWS instance sees as its metadata service, /token is where a Google
// service account gets its tokens.
func (e *Emulator) handlers() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/aws", e.serveAWS) // the SDK does not end it with a slash
	mux.Handle("/aws/", http.StripPrefix("/aws", http.HandlerFunc(e.serveAWS)))
	mux.Handle("/gcp/", http.StripPrefix("/gcp", http.HandlerFunc(e.serveGCP)))
	mux.Handle("/metadata/", http.HandlerFunc(e.serveMetadata))
	mux.Handle("/token", http.HandlerFunc(e.serveToken))
	return mux
}
