package provision

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os/user"
	"strconv"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/terraform"
)

// Config is what a Provisioner works with. Run, Dir, Journal and Runner must be
// set.
type Config struct {
	Run     string
	Dir     string // folder of the run; group roots go into groups/<id>
	KeyFile string // private key of the run, OpenSSH form, 0600
	PubKey  string // its public half, authorized_keys form
	Journal *cluster.Journal
	Runner  terraform.Runner
	Clouds  []Cloud
	// Tags are put on all that is created, beside levin-run, levin-component,
	// levin-expires and levin-owner (the local user, unless it is among Tags).
	Tags map[string]string

	// TTL is how long a machine may live before its cloud ends it; 0 is for ever.
	// While a machine is wanted its end is put off; see Extend.
	TTL time.Duration
	// Unreached is after how long a machine that nobody has ever reached ends itself;
	// 0 leaves that to the module.
	Unreached time.Duration
	// Extend moves the time at which a machine ends itself. It is asked when half of
	// the TTL is over, and again until it succeeds. An error that wraps
	// ErrExpiryFixed says that this machine's end cannot be moved; nil says so of all.
	Extend func(ctx context.Context, m cluster.Machine, until time.Time) error
	// Ingress gives the addresses (CIDR) that may reach machines. It is asked once,
	// and only when a module has a firewall.
	Ingress func(ctx context.Context) ([]string, error)
	// Backend is where Terraform keeps the states; nil is beside the roots.
	// BackendEnv is added to Terraform's environment for it; what a cloud needs there
	// goes before.
	Backend    *terraform.Backend
	BackendEnv map[string]string

	// Window is how long a group stays open after the last request that joined it,
	// and a twentieth of how long it stays open at all; default 5 ms.
	Window   time.Duration
	MaxGroup int              // machines in one group at the most; default 100 (state writing grows with the square)
	Backoff  time.Duration    // wait before something is tried for the second time; doubles; default 1 s
	Now      func() time.Time // default time.Now
}

// Request asks for one machine.
type Request struct {
	Component string
	Number    int               // distinguishes the component's machines; part of the name
	Resources configs.Resources // as the component asked
	Choice    Choice            // the plan's answer for the component
	Ports     []int             // TCP ports that its firewall opens, beside 22
}

// Provisioner gives a run its machines and takes them away again.
//
// It owns every goroutine it starts: one for each group that is not destroyed,
// one for each call of a cloud's fast path, and one that puts off the end of
// machines. Close ends them and waits. All methods are safe for concurrent use.
type Provisioner struct {
	cfg    Config
	clouds map[string]Cloud
	tags   map[string]string

	writeRoot func(dir string, root terraform.Root) error // terraform's, but for tests

	life   context.Context // ends with Close; all that goes on in the background hangs on it
	end    context.CancelFunc
	taking context.Context // ends with StopAll, at the latest with life
	refuse context.CancelFunc
	tasks  sync.WaitGroup

	// mu guards everything below and in machine and group. It is held while a
	// change is committed, so that the memory of what is and the store never
	// disagree about the order of events. The journal takes changes one at a time
	// anyway, so nothing waits longer for that.
	mu       sync.Mutex
	closed   bool
	machines map[string]*machine
	groups   []*group
	open     map[place]*group // groups that still take requests
	groupNo  int
	troubles []error              // changes that the store refused while cleaning up
	changed  chan struct{}        // closed and replaced when a machine or a group has moved
	cut      map[string]time.Time // by cloud: when an apply failed last, which may have lost machines from the state
	swept    sweepResult          // of the last sweep
	watching bool                 // the goroutine that puts off ends was started

	asks  sync.Mutex
	asked []stopping // machines that Stop was called for and that nobody has dealt with yet

	confirm   sync.Mutex
	confirmed []*machine // ended by their fast path; their end is not committed yet

	readied chan struct{} // a machine got ready: its end is to be put off
	ingress ingress
}

// place is what the machines of one group share.
type place struct{ cloud, region string }

// machine is a machine of this run. Provisioner.mu guards it.
type machine struct {
	row    cluster.Machine // as it was last committed
	offer  Offer
	input  terraform.MachineInput
	group  *group
	stored bool // the row is committed

	applying bool // Terraform is working on a root that has it

	answer   chan outcome // holds what Create is waiting for; nil for a recovered machine
	answered bool

	fast      bool // the fast path is running
	fastAsked bool // the fast path was begun by this process
	fastError bool // and failed the last time
	stuck     bool // nothing more is tried for it alone; its group's end, if it has one, tries again

	extendAt time.Time // when its end is to be put off; zero: never
	fixed    bool      // its end cannot be put off
}

// outcome is what a try to create a machine came to.
type outcome struct {
	row cluster.Machine
	err error
	// innocent says that it was another machine that failed the group, so that the
	// same offer deserves a second try.
	innocent bool
	// busy says that all that the cloud has is taken.
	busy    bool
	machine string // its name
}

// New makes a Provisioner for a run that begins. For a run that has machines or
// groups already, see Recover.
func New(cfg Config) (*Provisioner, error) {
	if cfg.Run == "" || cfg.Dir == "" || cfg.Journal == nil || cfg.Runner == nil {
		return nil, fmt.Errorf("a provisioner needs a run, its folder, a journal and a runner")
	}
	cfg.Window = cmp.Or(cfg.Window, 5*time.Millisecond)
	cfg.MaxGroup = cmp.Or(cfg.MaxGroup, 100)
	cfg.Backoff = cmp.Or(cfg.Backoff, time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Provisioner{
		cfg:       cfg,
		clouds:    map[string]Cloud{},
		tags:      tags(cfg),
		writeRoot: func(dir string, root terraform.Root) error { return root.Write(dir) },
		machines:  map[string]*machine{},
		open:      map[place]*group{},
		changed:   make(chan struct{}),
		cut:       map[string]time.Time{},
		readied:   make(chan struct{}, 1),
	}
	for _, c := range cfg.Clouds {
		if p.clouds[c.Name()] != nil {
			return nil, fmt.Errorf("two clouds are called %q", c.Name())
		}
		p.clouds[c.Name()] = c
	}
	p.life, p.end = context.WithCancel(context.Background())
	p.taking, p.refuse = context.WithCancel(p.life)
	return p, nil
}

func tags(cfg Config) map[string]string {
	all := map[string]string{}
	if u, err := user.Current(); err == nil {
		all["levin-owner"] = u.Username
	}
	maps.Copy(all, cfg.Tags)
	all["levin-run"] = cfg.Run
	return all
}

// Close ends what goes on in the background and waits for it: Terraform is
// interrupted and keeps its state. Machines stay as they are; StopAll and Wait
// come before, unless they are to be kept.
func (p *Provisioner) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.end()
	p.tasks.Wait()
	return nil
}

// Target says how a machine of this run that is ready is reached.
func (p *Provisioner) Target(m cluster.Machine) (cluster.Target, error) {
	cloud := p.clouds[m.Cloud]
	if cloud == nil {
		return cluster.Target{}, notConfigured(m.Cloud)
	}
	return cloud.Target(m, p.cfg.KeyFile)
}

// notConfigured says that a cloud is not there.
func notConfigured(cloud string) error {
	return &cluster.Failure{
		Kind: cluster.BadInput,
		What: fmt.Sprintf("cloud %q is not configured", cloud),
		Next: "add it under clouds in the settings",
	}
}

// spawn runs a task that Close waits for. mu is held.
func (p *Provisioner) spawn(task func()) {
	if !p.closed {
		p.tasks.Go(task)
	}
}

// commit writes a change whatever the state of any caller's context: what has
// happened must be written down. mu is held.
func (p *Provisioner) commit(c cluster.Change) error {
	return p.cfg.Journal.Commit(context.WithoutCancel(p.life), c)
}

// record is commit for changes that tell what was done to clean up. A store that
// refuses them must not keep anything alive, so it is only remembered, and Wait
// says it. mu is held.
func (p *Provisioner) record(c cluster.Change) bool {
	if err := p.commit(c); err != nil {
		p.troubles = append(p.troubles, err)
		return false
	}
	return true
}

// notify wakes everybody who waits for a machine or a group to move. mu is held.
func (p *Provisioner) notify() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// event begins an event of this run.
func (p *Provisioner) event(t cluster.EventType) cluster.Event {
	return cluster.Event{Time: p.cfg.Now(), Run: p.cfg.Run, Type: t}
}

// machineEvent begins an event about a machine.
func (p *Provisioner) machineEvent(t cluster.EventType, row cluster.Machine) cluster.Event {
	e := p.event(t)
	e.Component, e.Machine = row.Component, row.Name
	e.Cloud, e.Region, e.Zone, e.Offer = row.Cloud, row.Region, row.Zone, row.Type
	e.Address = row.Address
	e.PricePerHour, e.Spot = row.PricePerHour, row.Spot
	return e
}

// warn tells people about something that went wrong and is tried again or left.
// mu is held.
func (p *Provisioner) warn(e cluster.Event, err error) {
	e.Type = cluster.EventWarning
	if err != nil {
		e.Error, e.Kind = err.Error(), string(cluster.KindOf(err))
	}
	p.record(cluster.Change{Events: []cluster.Event{e}})
}

// pause waits for d. It reports false when ctx ended or wake spoke before that.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-wake:
		return false
	case <-ctx.Done():
		return false
	}
}

// newName gives a machine of a request its name. A further try of the same
// request is another machine, whose name ends in -r2, -r3, …: names of first
// tries end in a number, so the two never meet. mu is held.
func (p *Provisioner) newName(r Request) string {
	parts := []string{p.cfg.Run, r.Component, strconv.Itoa(r.Number)}
	name := cluster.Name(parts...)
	for try := 2; p.machines[name] != nil; try++ {
		name = cluster.Name(append(parts[:3:3], "r"+strconv.Itoa(try))...)
	}
	return name
}
