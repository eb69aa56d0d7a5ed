// Package ssh is the cloud of the user's own machines: hosts of the settings
// that are reached by SSH. Each host has slots; a machine is one slot of a host
// for as long as its row in the store is not gone. Nothing is ever created,
// powered off or removed.
package ssh

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/reach"
	"github.com/levinrun/levin/terraform"
)

// Config is what a Cloud is made of. Name, Settings and LockFile must be set;
// claiming needs Journal too.
type Config struct {
	Name     string
	Settings configs.CloudSettings // its Hosts
	// Journal tells of machines that this process has let go of, and its store of
	// those that any process holds.
	Journal *cluster.Journal
	// LockFile is shared by all processes that use the same store. It is held for
	// as long as one claim takes.
	LockFile string
	// Recheck is how often a claim that waits looks for slots that other processes
	// have let go of; default 1 s.
	Recheck time.Duration

	// Where the user's SSH client keeps its files; the defaults are those of
	// reach.Config.
	SSHConfigFile string
	KnownHosts    []string
	Home          string
	User          string
}

// Cloud gives slots of hosts as machines. It is a provision.Cloud, a Claimer and
// a Stopper.
type Cloud struct {
	cfg   Config
	hosts map[string]configs.Host // by name, defaults filled in
	all   []provision.Offer       // one a host, as SortOffers puts them
	reach *reach.Resolver

	// turn is held by the one claim of this process that may take the lock file: a
	// lock on a file does not part goroutines of one process.
	turn chan struct{}
}

var (
	_ provision.Cloud   = (*Cloud)(nil)
	_ provision.Claimer = (*Cloud)(nil)
	_ provision.Stopper = (*Cloud)(nil)
)

// New checks the hosts. Errors are *cluster.Failure of kind BadInput.
func New(cfg Config) (*Cloud, error) {
	cfg.Recheck = cmp.Or(cfg.Recheck, time.Second)
	c := &Cloud{
		cfg:   cfg,
		hosts: map[string]configs.Host{},
		turn:  make(chan struct{}, 1),
	}
	if len(cfg.Settings.Hosts) == 0 {
		return nil, &cluster.Failure{
			Kind: cluster.BadInput,
			What: fmt.Sprintf("cloud %s has no hosts", cfg.Name),
			Next: fmt.Sprintf("list them under clouds.%s.hosts in the settings", cfg.Name),
		}
	}
	for _, h := range cfg.Settings.Hosts {
		h.Slots = cmp.Or(h.Slots, 1)
		h.Arch = cmp.Or(h.Arch, "amd64")
		h.Price = cmp.Or(h.Price, cfg.Settings.Price)
		o, err := c.offer(h)
		if err != nil {
			return nil, err
		}
		c.hosts[h.Name] = h
		c.all = append(c.all, o)
	}
	provision.SortOffers(c.all)
	var err error
	c.reach, err = reach.New(reach.Config{
		Cloud: cfg.Name, Settings: cfg.Settings,
		ConfigFile: cfg.SSHConfigFile, KnownHosts: cfg.KnownHosts, Home: cfg.Home, User: cfg.User,
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// offer checks a host and says what one of its slots is.
func (c *Cloud) offer(h configs.Host) (provision.Offer, error) {
	bad := func(format string, args ...any) (provision.Offer, error) {
		return provision.Offer{}, &cluster.Failure{
			Kind: cluster.BadInput,
			What: fmt.Sprintf("host %q of cloud %s: ", cmp.Or(h.Name, h.Address), c.cfg.Name) + fmt.Sprintf(format, args...),
		}
	}
	if h.Name == "" || h.Address == "" {
		return bad("it has no name or no address")
	}
	if _, ok := c.hosts[h.Name]; ok {
		return bad("two hosts have this name")
	}
	if h.ProxyJump != "" && h.ProxyCommand != "" {
		return bad("proxy_jump and proxy_command exclude each other")
	}
	if h.HostKey != "" {
		if _, _, _, _, err := xssh.ParseAuthorizedKey([]byte(h.HostKey)); err != nil {
			return bad("host_key is not of the form \"ssh-ed25519 AAAA…\": %v", err)
		}
	}
	model, count, err := parseGPU(h.GPU)
	if err != nil {
		return bad("%v", err)
	}
	return provision.Offer{
		Cloud: c.cfg.Name, Type: h.Name, OS: "linux", Arch: h.Arch,
		CPUs: h.CPUs, Memory: h.Memory, Disk: h.Disk,
		GPU: model, GPUs: count,
		PricePerHour: h.Price,
	}, nil
}

// parseGPU reads MODEL[:COUNT].
func parseGPU(s string) (model string, count int, err error) {
	if s == "" {
		return "", 0, nil
	}
	model, n, found := strings.Cut(s, ":")
	count = 1
	if found {
		count, err = strconv.Atoi(n)
	}
	if err != nil || count < 1 || model == "" {
		return "", 0, fmt.Errorf("gpu %q is not of the form MODEL or MODEL:COUNT", s)
	}
	return strings.ToUpper(model), count, nil
}

// Name is the cloud's name in the settings.
func (c *Cloud) Name() string { return c.cfg.Name }

// Offers gives the hosts that fit, whether or not a slot of them is free.
//
// A capacity that the settings do not state is not known, and a host does not
// fit a lower bound on what is not known: work that needs 64 GB must not be
// tried on a host that may have 8. A host of which nothing is stated so fits
// components that ask for nothing. That holds for the disk too, which cannot be
// chosen here as it can be elsewhere.
func (c *Cloud) Offers(ctx context.Context, r configs.Resources) ([]provision.Offer, error) {
	var fit []provision.Offer
	for _, o := range c.all {
		if len(provision.Unmet(o, r)) == 0 && r.Disk.Contains(o.Disk) {
			fit = append(fit, o)
		}
	}
	return fit, ctx.Err()
}

// Module gives the module that holds claimed hosts in Terraform's state.
func (c *Cloud) Module(context.Context, string) (terraform.Module, terraform.Providers, error) {
	return terraform.SSHModule(), terraform.Providers{}, nil
}

// Input tells the module how the host is reached.
func (c *Cloud) Input(o provision.Offer, _ configs.Resources) (terraform.MachineInput, error) {
	h, ok := c.hosts[o.Type]
	if !ok {
		return terraform.MachineInput{}, &cluster.Failure{
			Kind: cluster.BadInput,
			What: fmt.Sprintf("cloud %s has no host %q", c.cfg.Name, o.Type),
		}
	}
	address, port, user, err := c.reach.Endpoint(h)
	if err != nil {
		return terraform.MachineInput{}, err
	}
	return terraform.MachineInput{
		Type: h.Name,
		Extra: map[string]any{
			"address": address, "port": port, "user": user, "host_key": h.HostKey,
		},
	}, nil
}

// Target says how the machine's host is reached. The run's key is of no use on a
// host that Levin did not create: the user's own keys open it.
func (c *Cloud) Target(m cluster.Machine, _ string) (cluster.Target, error) {
	h, ok := c.hosts[m.Type]
	if !ok {
		// The settings have lost it; the row still says how it was reached.
		h = configs.Host{Name: m.Type, Address: m.Address, Port: m.Port, User: m.User, HostKey: m.HostKey}
	}
	return c.reach.Host(h)
}

// Stop lets a slot go at once. There is nothing to end: the host stays, and the
// work on it is ended by the agent, which is told by the launcher or by its
// lease.
func (c *Cloud) Stop(context.Context, cluster.Machine) error { return nil }
