package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/terraform"
)

// rule is one thing that a firewall lets in.
type rule struct {
	port string // "22", or a range
	from string // CIDR
}

// planFirewall has Terraform plan one machine of the cloud, and gives what the
// plan's firewall would let in: what a run would really create, by the cloud's own
// module and providers. It fails if that is more than SSH from the addresses that
// the settings give. A module that has no firewall gives no rules.
func (d *deps) planFirewall(ctx context.Context, s configs.Settings, cloud provision.Cloud, offers []provision.Offer, logger logger) ([]rule, error) {
	if len(offers) == 0 {
		return nil, nil
	}
	offer := offers[0]
	module, providers, err := cloud.Module(ctx, offer.Region)
	if err != nil || !module.Firewall {
		return nil, err
	}
	cidrs, err := d.ingress(s)(ctx)
	if err != nil {
		return nil, err
	}
	input, err := cloud.Input(offer, configs.Resources{})
	if err != nil {
		return nil, err
	}
	if input.Extra == nil {
		input.Extra = map[string]any{}
	}
	input.Extra["component"] = "doctor"
	root := terraform.Root{
		Run: "levin-doctor", Group: "levin-doctor-g1", Module: module, Extra: module.Variables,
		Machines:     map[string]terraform.MachineInput{"levin-doctor-1": input},
		SSHPublicKey: doctorKey, IngressCIDRs: cidrs, Tags: map[string]string{"levin-run": "levin-doctor"},
	}
	planned, err := d.planRoot(ctx, s, root, providers, logger)
	if err != nil {
		return nil, err
	}
	rules := ingressRules(planned.Resources)
	return rules, checkRules(rules, cidrs)
}

// doctorKey stands for the key of a run in a plan that is never applied: the
// public half of a pair whose private half nobody has kept.
const doctorKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDqQAM7xBNUrIJm2KSkPpNRrvBvVvu6JVBc4MnfaI/c2 levin-doctor"

// planRoot plans a root in a folder that goes afterwards.
func (d *deps) planRoot(ctx context.Context, s configs.Settings, root terraform.Root, providers terraform.Providers, logger logger) (terraform.Planned, error) {
	if err := os.MkdirAll(tempDir(s), 0o700); err != nil {
		return terraform.Planned{}, err
	}
	dir, err := os.MkdirTemp(tempDir(s), "doctor-")
	if err != nil {
		return terraform.Planned{}, err
	}
	defer os.RemoveAll(dir)
	if err := root.Write(dir); err != nil {
		return terraform.Planned{}, err
	}
	runner, err := d.newRunner(ctx, s, logger)
	if err != nil {
		return terraform.Planned{}, err
	}
	return runner.Plan(ctx, dir, providers)
}

// ingressRules reads what planned firewalls let in. This and newCloud are the
// places that know clouds by their names.
func ingressRules(resources []terraform.PlannedResource) []rule {
	var rules []rule
	for _, r := range resources {
		v := r.Values
		switch r.Type {
		case "aws_vpc_security_group_ingress_rule":
			for _, from := range []any{v["cidr_ipv4"], v["cidr_ipv6"]} {
				if from != nil {
					rules = append(rules, rule{ports(v["from_port"], v["to_port"], v["ip_protocol"]), fmt.Sprint(from)})
				}
			}
		case "aws_security_group":
			for _, block := range blocks(v["ingress"]) {
				for _, from := range slices.Concat(list(block["cidr_blocks"]), list(block["ipv6_cidr_blocks"])) {
					rules = append(rules, rule{ports(block["from_port"], block["to_port"], block["protocol"]), fmt.Sprint(from)})
				}
			}
		case "google_compute_firewall":
			for _, allow := range blocks(v["allow"]) {
				for _, from := range list(v["source_ranges"]) {
					for _, port := range list(allow["ports"]) {
						rules = append(rules, rule{fmt.Sprint(port), fmt.Sprint(from)})
					}
					if len(list(allow["ports"])) == 0 {
						rules = append(rules, rule{"any", fmt.Sprint(from)})
					}
				}
			}
		}
	}
	return rules
}

func ports(from, to, protocol any) string {
	switch {
	case fmt.Sprint(protocol) == "-1":
		return "any"
	case from == to:
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%v-%v", from, to)
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func blocks(v any) []map[string]any {
	var all []map[string]any
	for _, b := range list(v) {
		if m, ok := b.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}

// checkRules fails unless the rules let SSH in from each of the CIDRs, and
// nothing else.
func checkRules(rules []rule, cidrs []string) error {
	want := map[rule]bool{}
	for _, cidr := range cidrs {
		want[rule{"22", cidr}] = true
	}
	for _, r := range rules {
		if !want[r] {
			return &cluster.Failure{Kind: cluster.Untrusted, What: "the firewall would let in more than SSH from " + strings.Join(cidrs, ", ") + ": " + r.text()}
		}
		delete(want, r)
	}
	for r := range want {
		return &cluster.Failure{Kind: cluster.Provisioning, What: "the firewall would not let in " + r.text()}
	}
	return nil
}

func (r rule) text() string { return "port " + r.port + " from " + r.from }

func rulesText(rules []rule) string {
	var texts []string
	for _, r := range rules {
		texts = append(texts, r.text())
	}
	return "a run would open, and nothing else (planned by Terraform): " + strings.Join(texts, ", ")
}
