package gcp

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/catalog"
	"github.com/levinrun/levin/provision/reach"
	"github.com/levinrun/levin/terraform"
)

const (
	defaultName = "gcp"
	kind        = "gcp" // of cloud: its catalog's name, and the first half of its locations
)

// Config is what a Cloud works with; every field has a default.
type Config struct {
	Name     string                // default "gcp"
	Settings configs.CloudSettings // of this cloud
	// CacheDir is the folder of catalogs that Refresh has written; empty has none.
	CacheDir string
	// Env is the user's environment, "KEY=value", which says who asks GCP and in which
	// project; default os.Environ().
	Env    []string
	Home   string       // the user's home folder, for the configurations of SSH and gcloud; default is the system's answer
	Logger *slog.Logger // default: none
}

// Cloud makes VMs of Compute Engine. It must be closed.
type Cloud struct {
	cfg   Config
	reach *reach.Resolver

	// How long things are waited for; tests have less time.
	poll   time.Duration // before a request is made for the second time
	settle time.Duration // how long the create of a machine may be on its way unseen

	life  context.Context // ends with Close; what goes on in the background hangs on it
	end   context.CancelFunc
	tasks sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	warmed  bool
	catalog *catalog.Catalog // once loaded
	login   *login           // once made
	sdk     *sdk             // once made
	project string           // once known
}

var (
	_ provision.Cloud       = (*Cloud)(nil)
	_ provision.Stopper     = (*Cloud)(nil)
	_ provision.Inspector   = (*Cloud)(nil)
	_ provision.Sweeper     = (*Cloud)(nil)
	_ provision.Extender    = (*Cloud)(nil)
	_ provision.Judge       = (*Cloud)(nil)
	_ provision.Preflighter = (*Cloud)(nil)
	_ provision.Refresher   = (*Cloud)(nil)
	_ provision.Metered     = (*Cloud)(nil)
	_ io.Closer             = (*Cloud)(nil)
)

// New makes the cloud. Nothing is read but the SSH configuration, and nothing is
// asked of GCP.
func New(cfg Config) (*Cloud, error) {
	cfg.Name = cmp.Or(cfg.Name, defaultName)
	if cfg.Env == nil {
		cfg.Env = os.Environ()
	}
	if cfg.Home == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		cfg.Home = home
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r, err := reach.New(reach.Config{Cloud: cfg.Name, Settings: cfg.Settings, Home: cfg.Home})
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.Background())
	return &Cloud{cfg: cfg, reach: r, poll: firstPause, settle: settleTime, life: life, end: end}, nil
}

// Name is the cloud's name in settings and offers.
func (c *Cloud) Name() string { return c.cfg.Name }

// Offers gives what the catalog has in the configured regions. There is no public
// image with GPU drivers for arm64, so such machines are offered only when the
// settings name an image.
func (c *Cloud) Offers(ctx context.Context, r configs.Resources) ([]provision.Offer, error) {
	cat, err := c.loadCatalog()
	if err != nil {
		return nil, err
	}
	offers := cat.Offers(c.cfg.Name, c.cfg.Settings.Regions, r)
	if c.cfg.Settings.Image == "" {
		offers = slices.DeleteFunc(offers, func(o provision.Offer) bool { return o.Arch == "arm64" && o.GPU != "" })
	}
	return offers, ctx.Err()
}

// loadCatalog reads the catalog, once.
func (c *Cloud) loadCatalog() (*catalog.Catalog, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.catalog == nil {
		cat, err := catalog.Load(kind, c.cfg.CacheDir)
		if err != nil {
			return nil, err
		}
		c.catalog = cat
	}
	return c.catalog, nil
}

// Module gives the GCP module for one region, and gets ready to end its machines:
// by then credentials are at hand.
func (c *Cloud) Module(ctx context.Context, region string) (terraform.Module, terraform.Providers, error) {
	project, err := c.findProject(ctx)
	if err != nil {
		return terraform.Module{}, terraform.Providers{}, err
	}
	c.warm()
	s := c.cfg.Settings
	provider := map[string]any{"project": project}
	if region != "" {
		provider["region"] = region
	}
	if s.Endpoint != "" {
		provider["compute_custom_endpoint"] = strings.TrimRight(s.Endpoint, "/") + "/compute/v1/"
	}
	m := terraform.GCPModule()
	m.ProviderConfig = map[string]map[string]any{"google": provider}
	m.Variables = map[string]any{
		"network": s.Network, "subnets": append([]string{}, s.Subnets...),
		"private": s.Private, "role": s.Role, "disk_type": s.DiskType,
	}
	return m, terraform.Providers{Env: c.variables()}, nil
}

// Input tells the module what the offer is. A disk that was not asked for has the
// size that the module gives it.
func (c *Cloud) Input(o provision.Offer, r configs.Resources) (terraform.MachineInput, error) {
	return terraform.MachineInput{
		Type: o.Type, Zone: o.Zone, Spot: o.Spot,
		Disk:  int(math.Ceil(r.Disk.Min)),
		Image: c.cfg.Settings.Image,
		Extra: map[string]any{"arch": o.Arch, "gpu": o.GPU, "gpus": o.GPUs},
	}, nil
}

// Target says how a machine is reached. An image of the user's own is trusted to
// run cloud-init, as the module's images do.
func (c *Cloud) Target(m cluster.Machine, keyFile string) (cluster.Target, error) {
	t, err := c.reach.Machine(m, keyFile)
	if err != nil {
		return cluster.Target{}, err
	}
	c.warm() // a controller that took over a run has asked for no module
	t.PowerOff, t.Expiry = true, true
	t.Rotate = m.HostKey != "" // the module has put it there
	if m.Spot {
		t.Notice = kind
	}
	return t, nil
}

// Close ends what goes on in the background. Machines live on.
func (c *Cloud) Close() error {
	c.mu.Lock()
	c.closed = true
	s := c.sdk
	c.mu.Unlock()
	c.end()
	c.tasks.Wait()
	if s != nil {
		s.transport.CloseIdleConnections()
	}
	return nil
}

// background runs f until the cloud is closed, unless it is closed already.
func (c *Cloud) background(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.tasks.Go(f)
	return true
}
