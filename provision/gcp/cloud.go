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
	// Env is the user's environment, "KEY=value": credentials and the project are
	// looked for in it, and Terraform's provider is given its variables of Google;
	// default os.Environ().
	Env    []string
	Home   string       // the user's home folder, for gcloud's files and the SSH configuration; default is the system's answer
	Logger *slog.Logger // default: none
}

// Cloud makes machines of Compute Engine. It must be closed.
type Cloud struct {
	cfg   Config
	env   map[string]string
	reach *reach.Resolver

	// How long things are waited for; tests have less time.
	poll   time.Duration // before something is asked for the second time
	settle time.Duration // how long a create that was interrupted may go on unseen

	life  context.Context // ends with Close; what goes on in the background hangs on it
	end   context.CancelFunc
	tasks sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	catalog *catalog.Catalog  // once loaded
	list    []provision.Offer // once asked for
	sdk     *sdk              // once made

	connecting sync.Mutex // whoever makes the sdk holds it
}

var (
	_ provision.Cloud       = (*Cloud)(nil)
	_ provision.Lister      = (*Cloud)(nil)
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
// asked of Google.
func New(cfg Config) (*Cloud, error) {
	cfg.Name = cmp.Or(cfg.Name, defaultName)
	if cfg.Env == nil {
		cfg.Env = os.Environ()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Home == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		cfg.Home = home
	}
	r, err := reach.New(reach.Config{Cloud: cfg.Name, Settings: cfg.Settings, Home: cfg.Home})
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	for _, kv := range cfg.Env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	life, end := context.WithCancel(context.Background())
	return &Cloud{
		cfg: cfg, env: env, reach: r,
		poll: firstLook, settle: settleTime,
		life: life, end: end,
	}, nil
}

// Name is the cloud's name in settings and offers.
func (c *Cloud) Name() string { return c.cfg.Name }

// List gives the catalog of the configured regions, cheapest first. GPUs in
// machines with ARM processors are in it only when the settings name an image,
// since there is no public one with their drivers.
func (c *Cloud) List(ctx context.Context) ([]provision.Offer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.list == nil {
		cat, err := c.loadCatalogLocked()
		if err != nil {
			return nil, err
		}
		// Resources without any wish but that spot will do are satisfied by everything.
		all := cat.Offers(c.cfg.Name, c.cfg.Settings.Regions, configs.Resources{Spot: configs.SpotAuto})
		if c.cfg.Settings.Image == "" {
			all = slices.DeleteFunc(all, func(o provision.Offer) bool { return o.GPU != "" && o.Arch != "amd64" })
		}
		c.list = all
	}
	return c.list, ctx.Err()
}

// Offers gives what of the list satisfies the resources.
func (c *Cloud) Offers(ctx context.Context, r configs.Resources) ([]provision.Offer, error) {
	all, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	var fit []provision.Offer
	for i := range all {
		if provision.Fits(&all[i], &r) {
			fit = append(fit, all[i])
		}
	}
	return fit, nil
}

// loadCatalog reads the catalog, once.
func (c *Cloud) loadCatalog() (*catalog.Catalog, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loadCatalogLocked()
}

func (c *Cloud) loadCatalogLocked() (*catalog.Catalog, error) {
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
func (c *Cloud) Module(_ context.Context, region string) (terraform.Module, terraform.Providers, error) {
	s := c.cfg.Settings
	project, err := c.project()
	if err != nil {
		return terraform.Module{}, terraform.Providers{}, err
	}
	provider := map[string]any{"project": project}
	if region != "" {
		provider["region"] = region
	}
	if s.Endpoint != "" {
		provider["compute_custom_endpoint"] = strings.TrimSuffix(s.Endpoint, "/") + "/compute/v1/"
	}
	c.warm()
	m := terraform.GCPModule()
	m.ProviderConfig = map[string]map[string]any{"google": provider}
	m.Variables = map[string]any{
		"network": s.Network, "subnets": append([]string{}, s.Subnets...),
		"private": s.Private, "role": s.Role, "disk_type": s.DiskType,
	}
	return m, terraform.Providers{Env: c.variables()}, nil
}

// variables are those of the user's environment that say who asks Google. They go
// to Terraform's process and into no file.
func (c *Cloud) variables() map[string]string {
	env := map[string]string{}
	for k, v := range c.env {
		for _, prefix := range []string{"GOOGLE_", "CLOUDSDK_", "GCLOUD_"} {
			if strings.HasPrefix(k, prefix) {
				env[k] = v
			}
		}
	}
	return env
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
	c.mu.Unlock()
	c.end()
	c.tasks.Wait()
	c.mu.Lock()
	s := c.sdk
	c.mu.Unlock()
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
