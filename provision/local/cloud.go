package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/local/machine"
	"github.com/levinrun/levin/terraform"
	"github.com/levinrun/levin/terraform/reattach"
)

const (
	defaultName  = "local"
	defaultLease = 10 * time.Minute
	machinesDir  = "machines" // below Home; one folder a machine
	socketsDir   = "provider" // below Home; the provider's sockets
)

// Config is what a Cloud works with. Home and Agent must be set.
type Config struct {
	Name string // default "local"
	Home string // Levin's folder ($LEVIN_HOME), absolute
	// Agent gives the path of the levin-agent binary for this host. It is asked when
	// the first machine is made.
	Agent  func(ctx context.Context) (path string, err error)
	Price  float64       // USD per machine hour, for the ledger
	Lease  time.Duration // how long a machine lives without a connection and without a process; default 10 min
	Logger *slog.Logger  // default: none
}

// Cloud makes machines of this host. It is a provision.Cloud with a fast path
// (provision.Stopper) and must be closed.
type Cloud struct {
	cfg      Config
	starter  *machine.Starter
	hardware func() hardware // looked up once: offers must not change from call to call

	mu     sync.Mutex
	closed bool
	server *reattach.Server // once asked for

	agentTurn chan struct{} // held by whoever looks for the agent's binary
	agent     agentFile
}

var (
	_ provision.Cloud   = (*Cloud)(nil)
	_ provision.Stopper = (*Cloud)(nil)
	_ io.Closer         = (*Cloud)(nil)
)

// New makes the cloud. Nothing is started before it is needed.
func New(cfg Config) *Cloud {
	if cfg.Name == "" {
		cfg.Name = defaultName
	}
	if cfg.Lease <= 0 {
		cfg.Lease = defaultLease
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Cloud{
		cfg: cfg, starter: machine.NewStarter(),
		hardware:  sync.OnceValue(func() hardware { return lookAround(cfg.Home) }),
		agentTurn: make(chan struct{}, 1),
	}
}

// Name is the cloud's name in settings and offers.
func (c *Cloud) Name() string { return c.cfg.Name }

// Module gives the local module and the address of the provider, which is served
// from the first call until Close.
func (c *Cloud) Module(ctx context.Context, _ string) (terraform.Module, terraform.Providers, error) {
	server, err := c.serve()
	if err != nil {
		return terraform.Module{}, terraform.Providers{}, &cluster.Failure{
			Kind: cluster.Provisioning, What: "cannot serve the Terraform provider of cloud " + c.cfg.Name, Err: err,
		}
	}
	providers := terraform.Providers{Reattach: map[string]terraform.Reattach{
		terraform.ProviderSource: server.Reattach(),
	}}
	return terraform.LocalModule(), providers, nil
}

// serve starts the provider's server unless it runs already.
func (c *Cloud) serve() (*reattach.Server, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.New("the cloud is closed")
	}
	if c.server != nil {
		return c.server, nil
	}
	server, err := reattach.Serve(reattach.Config{
		Dir: filepath.Join(c.cfg.Home, socketsDir), Source: terraform.ProviderSource,
		Provider: providerserver.NewProtocol6(&levinProvider{cloud: c}), Logger: c.cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	c.server = server
	return server, nil
}

// Input has little to say: a machine is this host, whatever the offer. The lease
// is rounded up to whole seconds.
func (c *Cloud) Input(o provision.Offer, _ configs.Resources) (terraform.MachineInput, error) {
	lease := int64((c.cfg.Lease + time.Second - 1) / time.Second)
	return terraform.MachineInput{Type: o.Type, Extra: map[string]any{"lease_seconds": lease}}, nil
}

// Target says how a machine is reached.
func (c *Cloud) Target(m cluster.Machine, keyFile string) (cluster.Target, error) {
	return cluster.Target{
		Address: m.Address, Port: m.Port, User: m.User,
		HostKeys: []string{m.HostKey}, KeyFiles: []string{keyFile},
		PowerOff: true,
	}, nil
}

// Stop ends the machine with all its processes and removes its folder. It returns
// once all is gone.
func (c *Cloud) Stop(ctx context.Context, m cluster.Machine) error {
	dir, err := c.dir(m.Name)
	if err != nil {
		return err
	}
	return machine.Stop(ctx, dir)
}

// Close ends the provider's server. Machines live on.
func (c *Cloud) Close() error {
	c.mu.Lock()
	server := c.server
	c.server, c.closed = nil, true
	c.mu.Unlock()
	var err error
	if server != nil {
		err = server.Close()
	}
	c.starter.Close()
	// Whoever cleans up after a controller that was killed has perhaps not served
	// the provider at all, and its socket is one of the things that were left.
	reattach.Tidy(filepath.Join(c.cfg.Home, socketsDir))
	return err
}

// dir is the folder of the machine with the given name, which may come from a
// Terraform state that anybody has written.
func (c *Cloud) dir(name string) (string, error) {
	if name == "" || cluster.Name(name) != name {
		return "", &cluster.Failure{Kind: cluster.Untrusted, What: "not the name of a machine: " + name}
	}
	return filepath.Join(c.cfg.Home, machinesDir, name), nil
}

// Strays lists, in order, the folders of all machines under Levin's folder home
// that live, or died and left something behind: files or processes.
func Strays(home string) ([]string, error) {
	return machine.Strays(filepath.Join(home, machinesDir))
}

// Sweep ends what Strays has named and removes its folder.
func Sweep(ctx context.Context, dir string) error { return machine.Sweep(ctx, dir) }

// agentFile is the agent's binary and its digest.
type agentFile struct {
	path   string
	digest string // SHA-256, hex
}

// agentBinary finds the agent's binary once. A failure is not remembered: the
// next machine asks again.
func (c *Cloud) agentBinary(ctx context.Context) (agentFile, error) {
	select {
	case c.agentTurn <- struct{}{}:
		defer func() { <-c.agentTurn }()
	case <-ctx.Done():
		return agentFile{}, ctx.Err()
	}
	if c.agent.path != "" {
		return c.agent, nil
	}
	path, err := c.cfg.Agent(ctx)
	if err != nil {
		return agentFile{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return agentFile{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return agentFile{}, err
	}
	c.agent = agentFile{path: path, digest: hex.EncodeToString(h.Sum(nil))}
	return c.agent, nil
}
