package module

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/reach"
	"github.com/levinrun/levin/terraform"
)

// Config is what a Cloud is made of. Name, Settings and Env must be set.
type Config struct {
	Name string
	// Settings hold the folder of the module, its file of offers, the variables it is
	// given and how its machines are reached.
	Settings configs.CloudSettings
	Env      func(string) (string, bool) // the user's environment, as os.LookupEnv

	// Where the user's SSH client keeps its files; the defaults are those of
	// reach.Config.
	SSHConfigFile string
	KnownHosts    []string
	Home          string
	User          string
}

// Cloud makes machines with the user's module. It is a provision.Cloud, a Judge
// and a Preflighter. It has no fast path: Terraform ends its machines.
type Cloud struct {
	cfg    Config
	module source
	all    []provision.Offer // as SortOffers puts them
	broken error             // why the module or its offers cannot be used
	reach  *reach.Resolver
}

var (
	_ provision.Cloud       = (*Cloud)(nil)
	_ provision.Judge       = (*Cloud)(nil)
	_ provision.Preflighter = (*Cloud)(nil)
)

// New reads the module and its offers. That one of them cannot be used is told by
// Offers and Preflight, so before a machine is asked for, and not here: what an
// earlier state of the module has created must be removed all the same, and the
// roots of groups have all that this takes.
func New(cfg Config) (*Cloud, error) {
	resolver, err := reach.New(reach.Config{
		Cloud: cfg.Name, Settings: cfg.Settings,
		ConfigFile: cfg.SSHConfigFile, KnownHosts: cfg.KnownHosts, Home: cfg.Home, User: cfg.User,
	})
	if err != nil {
		return nil, err
	}
	c := &Cloud{cfg: cfg, reach: resolver}
	c.module, c.broken = readSource(cfg.Settings.Module)
	if c.broken == nil {
		c.broken = c.module.check(cfg.Name, cfg.Settings.Variables)
	}
	if c.broken == nil {
		c.all, c.broken = readOffers(cfg.Name, cfg.Settings.Offers, cfg.Settings.Regions)
	}
	return c, nil
}

// Name is the cloud's name in the settings.
func (c *Cloud) Name() string { return c.cfg.Name }

// Offers gives the lines of the file of offers that fit. Whatever would make
// Terraform refuse the module, and can be seen without it, is an error here: a
// *cluster.Failure of kind BadInput that names the file.
func (c *Cloud) Offers(ctx context.Context, r configs.Resources) ([]provision.Offer, error) {
	if c.broken != nil {
		return nil, c.broken
	}
	var fit []provision.Offer
	for _, o := range c.all {
		if len(provision.Unmet(o, r)) == 0 {
			fit = append(fit, o)
		}
	}
	return fit, ctx.Err()
}

// Module gives the user's module, and what the settings say of its environment.
func (c *Cloud) Module(_ context.Context, region string) (terraform.Module, terraform.Providers, error) {
	env, unset := c.env()
	if len(env) == 0 && len(unset) > 0 {
		return terraform.Module{}, terraform.Providers{}, &cluster.Failure{
			Kind: cluster.Auth,
			What: fmt.Sprintf("cloud %s has no credentials: %s", c.cfg.Name, notSet(unset)),
			Next: fmt.Sprintf("set what the provider needs of the variables in clouds.%s.env", c.cfg.Name),
		}
	}
	variables := map[string]any{}
	for name, v := range c.cfg.Settings.Variables {
		variables[name] = v
	}
	if c.module.declares(regionVariable) {
		variables[regionVariable] = region
	}
	return terraform.Module{
		Name:      moduleName(c.cfg.Name),
		Files:     os.DirFS(c.module.dir),
		Requires:  c.module.requires,
		Variables: variables,
		HostKeys:  c.module.reads("host_key"),
		Firewall:  c.module.firewall,
	}, terraform.Providers{Env: env}, nil
}

// moduleName makes a name for Terraform, which takes none that begins with a
// digit.
func moduleName(cloud string) string {
	if hclsyntax.ValidIdentifier(cloud) {
		return cloud
	}
	return "cloud-" + cloud
}

// env gives the variables of the user's environment that Terraform is given, and
// those that are not set.
func (c *Cloud) env() (env map[string]string, unset []string) {
	env = map[string]string{}
	for _, name := range c.cfg.Settings.Env {
		if v, ok := c.cfg.Env(name); ok && v != "" {
			env[name] = v
		} else {
			unset = append(unset, name)
		}
	}
	return env, unset
}

func notSet(names []string) string {
	if len(names) == 1 {
		return names[0] + " is not set"
	}
	return "none of " + strings.Join(names, ", ") + " is set"
}

// Input tells the module of one machine. Of the extra fields a module reads what
// it declares.
func (c *Cloud) Input(o provision.Offer, r configs.Resources) (terraform.MachineInput, error) {
	return terraform.MachineInput{
		Type: o.Type, Zone: o.Zone, Spot: o.Spot,
		Disk:  int(math.Ceil(r.Disk.Min)),
		Image: c.cfg.Settings.Image,
		Extra: map[string]any{
			"arch": o.Arch, "cpus": o.CPUs, "memory": o.Memory, "gpu": o.GPU, "gpus": o.GPUs,
		},
	}, nil
}

// Target says how a machine is reached. It may be powered off by the agent,
// unless the settings say that it is shared with others.
func (c *Cloud) Target(m cluster.Machine, keyFile string) (cluster.Target, error) {
	t, err := c.reach.Machine(m, keyFile)
	if err != nil {
		return t, err
	}
	t.PowerOff = !c.cfg.Settings.Shared
	t.Rotate = c.module.reads("host_key")
	t.Expiry = c.module.reads("unreached_seconds")
	return t, nil
}

// Preflight says whether the module can be used, and whether the variables that
// the settings name are set. Nothing else is known of the user's cloud.
func (c *Cloud) Preflight(context.Context, []provision.Offer) []provision.Finding {
	findings := []provision.Finding{{Check: "module", OK: true, Text: fmt.Sprintf("%s has Levin's interface: it %s", c.module.dir, c.module.summary())}}
	if c.broken != nil {
		findings = []provision.Finding{{Check: "module", Text: c.broken.Error()}}
	}
	env, unset := c.env()
	switch {
	case len(c.cfg.Settings.Env) == 0:
	case len(env) == 0:
		findings = append(findings, provision.Finding{Check: "credentials", Text: notSet(unset)})
	default:
		given := slices.DeleteFunc(slices.Clone(c.cfg.Settings.Env), func(name string) bool { return env[name] == "" })
		findings = append(findings, provision.Finding{Check: "credentials", OK: true, Text: "Terraform is given " + strings.Join(given, ", ")})
	}
	return findings
}
