package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/internal/ui"
	"github.com/levinrun/levin/launcher"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/local"
	"github.com/levinrun/levin/terraform"
)

// hostTimeout bounds the check of one own host.
const hostTimeout = 15 * time.Second

func newDoctor(d *deps) *cobra.Command {
	var cloud string
	cmd := &cobra.Command{
		Use:   "doctor [APP]",
		Short: "Check that everything a run needs is there; change nothing",
		Long: `Check that everything a run needs is there: a store, Terraform, the agent. With --cloud also
that each own host answers, and for clouds: credentials, permissions, the network, and
the firewall rule that a run would make, which Terraform plans. With an app, also that
the quotas leave room for the machines of its plan. Nothing is changed.`,
		Args: checked(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.doctor(cmd.Context(), cloud, args)
		},
	}
	cmd.Flags().StringVar(&cloud, "cloud", "", "also check these clouds (names with commas): own hosts answer; credentials, permissions, quotas, and the firewall rule that would be made")
	return cmd
}

// finding is one line of `levin doctor --json`.
type finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Text  string `json:"text"`
}

func (d *deps) doctor(ctx context.Context, cloud string, apps []string) error {
	settings, err := d.settings(map[string]string{"cloud": cloud})
	if err != nil {
		return err
	}
	var planned []provision.Offer
	if len(apps) > 0 {
		if cloud == "" {
			cloud = settings.Cloud
		}
		if planned, err = d.plannedMachines(ctx, apps[0], cloud); err != nil {
			return err
		}
	}
	findings := []finding{
		d.checkStore(ctx, settings),
		d.checkTerraform(ctx, settings),
		d.checkAgent(ctx, settings),
		checkStrays(settings),
	}
	if cloud != "" {
		for _, name := range splitClouds(settings.Cloud) {
			more, err := d.checkCloud(ctx, settings, name, planned)
			if err != nil {
				return err
			}
			findings = append(findings, more...)
		}
	}
	bad := 0
	for _, f := range findings {
		if !f.OK {
			bad++
		}
		if d.json {
			json.NewEncoder(d.Stdout).Encode(f)
			continue
		}
		mark := "ok  "
		if !f.OK {
			mark = "BAD "
		}
		fmt.Fprintf(d.Stdout, "%s %-10s %s\n", mark, f.Check, ui.CleanLines(f.Text))
	}
	if bad > 0 {
		return &cluster.Failure{Kind: cluster.Provisioning, What: fmt.Sprintf("%d of %d checks failed", bad, len(findings))}
	}
	return nil
}

func result(check, good string, err error) finding {
	if err != nil {
		return finding{check, false, err.Error()}
	}
	return finding{check, true, good}
}

func (d *deps) checkStore(ctx context.Context, s configs.Settings) finding {
	store, err := openStore(ctx, s)
	if err == nil {
		_, err = store.Runs(ctx, cluster.RunFilter{Limit: 1})
		store.Close()
	}
	return result("store", "state is kept in "+s.Home, err)
}

func (d *deps) checkTerraform(ctx context.Context, s configs.Settings) finding {
	b, err := terraform.Find(ctx, terraform.FindOptions{Path: s.Terraform, CacheDir: d.cacheDir(s), Env: d.Env})
	return result("terraform", fmt.Sprintf("%s (%s)", b.Path, b.Version), err)
}

func (d *deps) checkAgent(ctx context.Context, s configs.Settings) finding {
	b, err := d.agentSource(s)(ctx, hostOS, hostArch)
	return result("agent", b.Path, err)
}

// checkStrays looks for local machines that no run of the store owns.
func checkStrays(s configs.Settings) finding {
	strays, err := local.Strays(s.Home)
	if err == nil && len(strays) > 0 {
		err = fmt.Errorf("local machines are left: %v\n  `levin ps` tells whose they are, `levin down --all` removes them", strays)
	}
	if os.IsNotExist(err) {
		err = nil
	}
	return result("machines", "no local machine is left over", err)
}

// checkCloud looks whether machines of a cloud could be had and reached.
func (d *deps) checkCloud(ctx context.Context, s configs.Settings, name string, planned []provision.Offer) ([]finding, error) {
	logger, closeLog, err := d.logger()
	if err != nil {
		return nil, err
	}
	defer closeLog()
	store, err := openStore(ctx, s)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	clouds, closeClouds, err := d.newClouds(s, []string{name}, cluster.NewJournal(store), logger)
	if err != nil {
		return nil, err
	}
	defer closeClouds()
	cloud := clouds[0]
	if _, own := cloud.(provision.Claimer); own {
		return d.checkHosts(ctx, s, cloud, logger)
	}
	preflighter, ok := cloud.(provision.Preflighter)
	if !ok {
		return nil, nil // the local cloud needs nothing that was not looked at
	}
	offers, err := cloud.Offers(ctx, configs.Resources{})
	if err != nil {
		return []finding{result(name+"/offers", "", err)}, nil
	}
	planned = slices.DeleteFunc(slices.Clone(planned), func(o provision.Offer) bool { return o.Cloud != name })
	var findings []finding
	usable := true
	for _, f := range preflighter.Preflight(ctx, planned) {
		findings = append(findings, finding{name + "/" + f.Check, f.OK, f.Text})
		usable = usable && f.OK
	}
	if !usable {
		return findings, nil
	}
	rules, err := d.planFirewall(ctx, s, cloud, offers, logger)
	if err != nil || len(rules) > 0 {
		findings = append(findings, result(name+"/firewall", rulesText(rules), err))
	}
	return findings, nil
}

// plannedMachines gives the offer of every machine that an app would have if all
// of it ran at once.
func (d *deps) plannedMachines(ctx context.Context, app, cloud string) ([]provision.Offer, error) {
	p, err := d.prepare(app, cloud, nil)
	if err != nil {
		return nil, err
	}
	logger, closeLog, err := d.logger()
	if err != nil {
		return nil, err
	}
	defer closeLog()
	clouds, closeClouds, err := d.newClouds(p.settings, p.names, cluster.NewJournal(memory.New()), logger)
	if err != nil {
		return nil, err
	}
	defer closeClouds()
	plan, err := provision.NewPlan(ctx, p.app, clouds, d.planOptions(p.settings, nil))
	if err != nil {
		return nil, err
	}
	var machines []provision.Offer
	for i, c := range p.app.Components {
		machines = append(machines, slices.Repeat(plan.Choices[i].Offers[:1], min(max(1, len(c.ForEach)), c.MaxMachines))...)
	}
	return machines, nil
}

// checkHosts connects to each host of a cloud of own hosts, as a run would, and
// leaves nothing there but the agent's binary.
func (d *deps) checkHosts(ctx context.Context, s configs.Settings, cloud provision.Cloud, logger logger) ([]finding, error) {
	hosts, err := cloud.Offers(ctx, configs.Resources{})
	if err != nil {
		return nil, err
	}
	findings := make([]finding, len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		m := cluster.Machine{Name: cluster.Name("doctor", h.Type), Cloud: cloud.Name(), Type: h.Type}
		wg.Go(func() {
			findings[i] = result(cloud.Name()+"/"+h.Type, "answers, and takes the agent", d.checkHost(ctx, s, cloud, m, logger))
		})
	}
	wg.Wait()
	return findings, nil
}

func (d *deps) checkHost(ctx context.Context, s configs.Settings, hosts provision.Cloud, m cluster.Machine, logger logger) error {
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	target, err := hosts.Target(m, "")
	if err != nil {
		return err
	}
	session, err := launcher.Connect(ctx, d.reach(s, logger), m.Name, target)
	if err != nil {
		return err
	}
	defer session.Close()
	return session.Shutdown(ctx)
}
