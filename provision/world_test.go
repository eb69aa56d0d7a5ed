package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/terraform"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is what exists: in the scripted clouds and in Terraform's state. It is
// the Runner of the tests and what their clouds look at.
type world struct {
	mu    sync.Mutex
	roots map[string]terraform.Root  // by folder
	state map[string]map[string]bool // by folder: names of machines in its state
	alive map[string]bool            // machines that the cloud has
	made  map[string]Found           // what the clouds know of machines, by name; those that are gone too
	extra map[string]Found           // keys and the like that exist, by id
	calls []string                   // what was asked, in order
	most  int                        // machines in the biggest root
	env   map[string]string          // of the last apply

	// Scripts; nil is success.
	onApply   func(ctx context.Context, root terraform.Root) applied
	onDestroy func(ctx context.Context, group string) error
	onStop    func(ctx context.Context, m cluster.Machine) error
	onFind    func(ctx context.Context, cloud string) error
	onRemove  func(ctx context.Context, found []Found) error
}

// applied is how a scripted apply goes: machines that fail, with what Terraform
// says of each, or an error that is nobody's in particular.
type applied struct {
	failing map[string]*cluster.Failure
	err     error
	// half creates what fails nevertheless, as a cloud does that times out.
	half bool
	// outputs are given although the apply failed.
	outputs bool
	// lost creates what fails and leaves it out of the state, as a provider does that
	// dies.
	lost bool
}

func newWorld() *world {
	return &world{
		roots: map[string]terraform.Root{}, state: map[string]map[string]bool{}, alive: map[string]bool{},
		made: map[string]Found{}, extra: map[string]Found{},
	}
}

func (w *world) writeRoot(dir string, r terraform.Root) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.roots[dir] = r
	w.most = max(w.most, len(r.Machines))
	return os.MkdirAll(dir, 0o700)
}

func (w *world) note(format string, args ...any) {
	w.calls = append(w.calls, fmt.Sprintf(format, args...))
}

func (w *world) Apply(ctx context.Context, dir string, p terraform.Providers) (terraform.Outputs, error) {
	w.mu.Lock()
	root := w.roots[dir]
	names := slices.Sorted(maps.Keys(root.Machines))
	w.note("apply %s %s", root.Group, strings.Join(names, ","))
	w.env = p.Env
	script := w.onApply
	w.mu.Unlock()
	var how applied
	if script != nil {
		how = script(ctx, root)
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state[dir] == nil {
		w.state[dir] = map[string]bool{}
	}
	for name := range w.state[dir] {
		if _, ok := root.Machines[name]; !ok {
			delete(w.state[dir], name)
			delete(w.alive, name)
		}
	}
	key := Found{Cloud: root.Module.Name, Kind: "key", ID: "key-" + root.Group, Run: root.Run}
	w.extra[key.ID] = key
	machines := map[string]terraform.MachineOutput{}
	for i, name := range names {
		fails := how.failing[name] != nil || how.err != nil
		if fails && how.lost && !w.state[dir][name] {
			w.make(root, name)
		}
		if !fails || how.half {
			if !w.state[dir][name] {
				w.make(root, name)
			}
			w.state[dir][name] = true
			machines[name] = terraform.MachineOutput{Address: "10.0.0.1", Port: 1000 + i, User: "levin", HostKey: "ssh-ed25519 AAAA", CloudID: "i-" + name}
		}
	}
	for name := range how.failing {
		delete(machines, name)
	}
	data, _ := json.Marshal(machines)
	outputs := terraform.Outputs{"machines": data}
	switch {
	case how.err != nil:
		return nil, how.err
	case len(how.failing) > 0:
		if !how.outputs {
			outputs = nil
		}
		return outputs, applyError(how.failing)
	}
	return outputs, nil
}

// make creates a machine of a root. mu is held.
func (w *world) make(root terraform.Root, name string) {
	in := root.Machines[name]
	component, _ := in.Extra["component"].(string)
	w.alive[name] = true
	w.made[name] = Found{
		Cloud: root.Module.Name, Zone: in.Zone, Kind: "machine", ID: "i-" + name, Name: name, Run: root.Run, Component: component,
		Owner: root.Tags["levin-owner"], Type: in.Type, Spot: in.Spot, Status: StatusRunning, ExpiresAt: expiryOf(root.Tags),
	}
}

func expiryOf(tags map[string]string) time.Time {
	n, err := strconv.ParseInt(tags["levin-expires"], 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(n, 0)
}

func (w *world) Destroy(ctx context.Context, dir string, _ terraform.Providers) error {
	group := filepath.Base(dir)
	w.mu.Lock()
	w.note("destroy %s", group)
	script := w.onDestroy
	w.mu.Unlock()
	if script != nil {
		if err := script(ctx, group); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.state[dir] {
		delete(w.alive, name)
	}
	delete(w.state, dir)
	delete(w.extra, "key-"+group)
	return nil
}

// asked gives the calls that begin with a word.
func (w *world) asked(word string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var some []string
	for _, c := range w.calls {
		if strings.HasPrefix(c, word) {
			some = append(some, c)
		}
	}
	return some
}

// scripted is a cloud of a world, without a fast path.
type scripted struct {
	name   string
	world  *world
	offers []Offer
}

func (c *scripted) Name() string { return c.name }

func (c *scripted) Offers(_ context.Context, r configs.Resources) ([]Offer, error) {
	var fit []Offer
	for _, o := range c.offers {
		if len(Unmet(o, r)) == 0 {
			fit = append(fit, o)
		}
	}
	SortOffers(fit)
	return fit, nil
}

func (c *scripted) Module(_ context.Context, region string) (terraform.Module, terraform.Providers, error) {
	m := terraform.Module{Name: c.name, Files: fstest.MapFS{}}
	if region != "" {
		m.Variables = map[string]any{"region": region}
	}
	return m, terraform.Providers{Env: map[string]string{"CLOUD": c.name}}, nil
}

func (c *scripted) Input(o Offer, _ configs.Resources) (terraform.MachineInput, error) {
	return terraform.MachineInput{Type: o.Type, Zone: o.Zone, Spot: o.Spot}, nil
}

func (c *scripted) Target(m cluster.Machine, keyFile string) (cluster.Target, error) {
	return cluster.Target{Address: m.Address, Port: m.Port, User: m.User, HostKeys: []string{m.HostKey}, KeyFiles: []string{keyFile}}, nil
}

// quick is a cloud of a world with a fast path.
type quick struct{ *scripted }

func (c quick) Stop(ctx context.Context, m cluster.Machine) error {
	w := c.world
	w.mu.Lock()
	w.note("stop %s", m.Name)
	script := w.onStop
	w.mu.Unlock()
	if script != nil {
		if err := script(ctx, m); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.alive, m.Name)
	return nil
}

// Judge understands words that begin with a kind, and perhaps a scope:
// "quota@region: too many".
func (c *scripted) Judge(words string) (Verdict, bool) {
	head, _, ok := strings.Cut(words, ": ")
	kind, scope, _ := strings.Cut(head, "@")
	v := Verdict{Kind: cluster.FailureKind(kind), Scope: Scope(scope)}
	switch v.Kind {
	case cluster.Capacity, cluster.Quota, cluster.Price, cluster.Throttled, cluster.Transient, cluster.BadRequest:
	case cluster.Auth:
		v.Next = "sign in"
	default:
		ok = false
	}
	return v, ok
}

// vm is a cloud of a world that has everything a cloud can have.
type vm struct{ quick }

func (c vm) Module(ctx context.Context, region string) (terraform.Module, terraform.Providers, error) {
	m, p, err := c.quick.Module(ctx, region)
	m.HostKeys, m.Firewall = true, true
	return m, p, err
}

func (c vm) Find(ctx context.Context, run string) ([]Found, error) {
	w := c.world
	w.mu.Lock()
	w.note("find %s %s", c.name, run)
	script := w.onFind
	w.mu.Unlock()
	if script != nil {
		if err := script(ctx, c.name); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []Found
	for _, list := range []map[string]Found{w.made, w.extra} {
		for _, key := range slices.Sorted(maps.Keys(list)) {
			f := list[key]
			if f.Cloud == c.name && (run == "" || f.Run == run) && (f.Kind != "machine" || w.alive[f.Name]) {
				found = append(found, f)
			}
		}
	}
	return found, nil
}

func (c vm) Remove(ctx context.Context, found []Found) error {
	w := c.world
	w.mu.Lock()
	for _, f := range found {
		w.note("remove %s", f.ID)
	}
	script := w.onRemove
	w.mu.Unlock()
	if script != nil {
		if err := script(ctx, found); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range found {
		delete(w.alive, f.Name)
		delete(w.extra, f.ID)
	}
	return nil
}

func (c vm) Status(_ context.Context, m cluster.Machine) (Status, string, error) {
	c.world.mu.Lock()
	defer c.world.mu.Unlock()
	if c.world.alive[m.Name] {
		return StatusRunning, "", nil
	}
	return StatusGone, "Client.UserInitiatedShutdown", nil
}

func (c vm) Extend(_ context.Context, m cluster.Machine, until time.Time) error {
	c.world.mu.Lock()
	defer c.world.mu.Unlock()
	c.world.note("extend %s", m.Name)
	f := c.world.made[m.Name]
	f.ExpiresAt = until
	c.world.made[m.Name] = f
	return nil
}

const testRun = "app-abc123"

// bench is a Provisioner in a world, with all that a test looks at.
type bench struct {
	*Provisioner
	t       *testing.T
	world   *world
	store   cluster.Store
	journal *cluster.Journal
	dir     string

	mu     sync.Mutex
	events []cluster.Event
}

func offer(cloud, typ string, price float64) Offer {
	return Offer{Cloud: cloud, Type: typ, OS: "linux", Arch: "amd64", CPUs: 4, Memory: 16, PricePerHour: price}
}

// newBench makes a bench with cloud "slow", which only Terraform can end, and
// cloud "fast", which has a fast path, and cloud "vm", which has all that a cloud can
// have. Its Close is left to the test's end.
func newBench(t *testing.T, change func(*Config)) *bench {
	t.Helper()
	w := newWorld()
	b := &bench{t: t, world: w, store: memory.New(), dir: t.TempDir()}
	b.journal = cluster.NewJournal(b.store)
	b.journal.Listen(func(e cluster.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, e)
	})
	row := cluster.Run{ID: testRun, App: "app", State: cluster.RunPending, CreatedAt: time.Now()}
	if err := b.journal.Commit(t.Context(), cluster.Change{Run: &row}); err != nil {
		t.Fatal(err)
	}
	p, err := New(b.config(change))
	if err != nil {
		t.Fatal(err)
	}
	b.use(p)
	return b
}

func (b *bench) config(change func(*Config)) Config {
	slow := &scripted{"slow", b.world, []Offer{offer("slow", "small", 1), offer("slow", "big", 2)}}
	fast := quick{&scripted{"fast", b.world, []Offer{offer("fast", "small", 1), offer("fast", "big", 2)}}}
	vm := vm{quick{&scripted{"vm", b.world, []Offer{offer("vm", "small", 1), offer("vm", "big", 2)}}}}
	cfg := Config{
		Run: testRun, Dir: b.dir, KeyFile: filepath.Join(b.dir, "key"), PubKey: "ssh-ed25519 AAAA",
		Journal: b.journal, Runner: b.world, Clouds: []Cloud{slow, fast, vm},
		Ingress: func(context.Context) ([]string, error) { return []string{"192.0.2.1/32"}, nil },
	}
	if change != nil {
		change(&cfg)
	}
	return cfg
}

func (b *bench) use(p *Provisioner) {
	b.Provisioner = p
	p.writeRoot = b.world.writeRoot
	b.t.Cleanup(func() { p.Close() })
}

// ask is a request for a machine of a component on the given offers.
func ask(component string, number int, offers ...Offer) Request {
	return Request{Component: component, Number: number, Choice: Choice{Component: component, Offers: offers}}
}

// create creates n machines at once and gives what came of each.
func (b *bench) create(n int, component string, offers ...Offer) ([]cluster.Machine, []error) {
	machines, errs := make([]cluster.Machine, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { machines[i], errs[i] = b.Create(b.t.Context(), ask(component, i+1, offers...)) })
	}
	wg.Wait()
	return machines, errs
}

// mustCreate is create that must succeed.
func (b *bench) mustCreate(n int, component string, offers ...Offer) []cluster.Machine {
	b.t.Helper()
	machines, errs := b.create(n, component, offers...)
	for i, err := range errs {
		if err != nil {
			b.t.Fatalf("Create of machine %d: %v", i+1, err)
		}
		if machines[i].State != cluster.MachineReady {
			b.t.Fatalf("Create gave a machine that is %s", machines[i].State)
		}
	}
	return machines
}

// finish stops everything and checks that nothing is left.
func (b *bench) finish() {
	b.t.Helper()
	b.StopAll("finished")
	left, err := b.Wait(b.t.Context())
	if err != nil || len(left) > 0 {
		b.t.Errorf("Wait: left %v, error %v", left, err)
	}
	b.nothingLeft()
}

func (b *bench) machines() []cluster.Machine {
	b.t.Helper()
	machines, err := b.store.Machines(context.Background(), testRun)
	if err != nil {
		b.t.Fatal(err)
	}
	return machines
}

func (b *bench) machine(name string) cluster.Machine {
	b.t.Helper()
	for _, m := range b.machines() {
		if m.Name == name {
			return m
		}
	}
	b.t.Fatalf("the store has no machine %s", name)
	return cluster.Machine{}
}

func (b *bench) groups() []cluster.Group {
	b.t.Helper()
	groups, err := b.store.Groups(context.Background(), testRun)
	if err != nil {
		b.t.Fatal(err)
	}
	return groups
}

// nothingLeft holds what must be true once a run is over: the clouds and the
// states are empty, every row is final, and the events tell the same story, with
// costs that add up to the ledger's.
func (b *bench) nothingLeft() {
	t := b.t
	t.Helper()
	b.world.mu.Lock()
	for name := range b.world.alive {
		t.Errorf("leaked: %s is alive", name)
	}
	for dir, names := range b.world.state {
		for name := range names {
			t.Errorf("leaked: the state in %s lists %s", dir, name)
		}
	}
	for id := range b.world.extra {
		t.Errorf("leaked: %s exists", id)
	}
	b.world.mu.Unlock()
	for _, g := range b.groups() {
		if g.State != cluster.GroupDestroyed {
			t.Errorf("group %s is %s", g.ID, g.State)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := map[string][]cluster.EventType{}
	cost := 0.0
	for _, e := range b.events {
		if e.Machine == "" || e.Type == cluster.EventWarning {
			continue
		}
		seen[e.Machine] = append(seen[e.Machine], e.Type)
		if e.Type == cluster.EventMachineGone {
			cost += *e.Cost
		}
	}
	machines := b.machines()
	for _, m := range machines {
		if m.State != cluster.MachineGone {
			t.Errorf("machine %s is %s", m.Name, m.State)
		}
		want := []cluster.EventType{cluster.EventMachineRequested}
		if !m.ReadyAt.IsZero() {
			want = append(want, cluster.EventMachineReady)
		}
		want = append(want, cluster.EventMachineStopRequested, cluster.EventMachineGone)
		if !slices.Equal(seen[m.Name], want) {
			t.Errorf("events of %s are %v, want %v", m.Name, seen[m.Name], want)
		}
	}
	if len(seen) != len(machines) {
		t.Errorf("events tell of %d machines, the store of %d", len(seen), len(machines))
	}
	ledger := cluster.NewLedger(cluster.Run{}, machines, time.Now())
	if diff := ledger.Cost - cost; diff > 1e-9 || diff < -1e-9 {
		t.Errorf("the ledger says $%g and the events $%g", ledger.Cost, cost)
	}
}

// applyError is what the Runner gives when machines of a root fail: one
// diagnostic each, and a kind that says nothing about them.
func applyError(failing map[string]*cluster.Failure) error {
	e := &terraform.ApplyError{Err: fmt.Errorf("exit status 1")}
	for _, name := range slices.Sorted(maps.Keys(failing)) {
		e.Diagnostics = append(e.Diagnostics, terraform.Diagnostic{
			Severity: "error", Summary: failing[name].Words,
			Address: fmt.Sprintf("module.machines.thing.machine[%q]", name),
		})
	}
	return &cluster.Failure{Kind: cluster.Provisioning, What: "Terraform could not apply the group", Words: e.Error(), Err: e}
}

// refuse is a failure in words that the clouds of these tests understand.
func refuse(kind cluster.FailureKind, words string) *cluster.Failure {
	return &cluster.Failure{Words: string(kind) + ": " + words}
}

// refuseIn is refuse with a scope.
func refuseIn(kind cluster.FailureKind, scope Scope, words string) *cluster.Failure {
	return &cluster.Failure{Words: string(kind) + "@" + string(scope) + ": " + words}
}
