package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision"
)

// Preflight looks whether machines could be had: who asks, what that identity may
// do, whether there is a network to put machines into and whether the limits of
// the account leave room for one machine of each offer.
func (c *Cloud) Preflight(ctx context.Context, offers []provision.Offer) []provision.Finding {
	who, ok := c.whoAsks(ctx)
	if !ok {
		return []provision.Finding{who} // everything else would fail for the same reason
	}
	perRegion := map[string][]provision.Offer{}
	for _, o := range offers {
		perRegion[o.Region] = append(perRegion[o.Region], o)
	}
	names := slices.Sorted(maps.Keys(perRegion))
	if len(names) == 0 {
		names = c.cfg.Settings.Regions
		if len(names) == 0 {
			names = []string{homeRegion}
		}
	}
	findings := make([][]provision.Finding, len(names))
	err := c.inEach(ctx, names, func(n int, r *region) error {
		findings[n] = append(findings[n], c.network(ctx, r), c.permissions(ctx, r, perRegion[r.name]))
		findings[n] = append(findings[n], c.quotas(ctx, r, perRegion[r.name])...)
		return nil
	})
	all := append([]provision.Finding{who}, slices.Concat(findings...)...)
	if err != nil {
		all = append(all, provision.Finding{Check: "regions", Text: wordsOf(err)})
	}
	return all
}

// whoAsks names the identity that AWS sees.
func (c *Cloud) whoAsks(ctx context.Context) (provision.Finding, bool) {
	const check = "credentials"
	s, err := c.connect(ctx)
	if err != nil {
		return c.bad(check, "", err), false
	}
	id, err := sts.NewFromConfig(s.config).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return c.bad(check, "", err), false
	}
	return provision.Finding{Check: check, OK: true, Text: fmt.Sprintf("account %s, %s", awssdk.ToString(id.Account), awssdk.ToString(id.Arn))}, true
}

// bad is a finding made of an error.
func (c *Cloud) bad(check, where string, err error) provision.Finding {
	text := wordsOf(err)
	if where != "" {
		text = where + ": " + text
	}
	if v, ok := judge(err); ok && v.Next != "" {
		text += "; " + v.Next
	}
	return provision.Finding{Check: check, Text: text}
}

// network looks for the network and the subnets that machines would be put into.
func (c *Cloud) network(ctx context.Context, r *region) provision.Finding {
	const check = "network"
	s := c.cfg.Settings
	if len(s.Subnets) > 0 {
		// The settings may name subnets of several regions, and the module passes over
		// those that this one does not know.
		out, err := r.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []types.Filter{filter("subnet-id", s.Subnets...)}})
		switch {
		case err != nil:
			return c.bad(check, r.name, err)
		case len(out.Subnets) == 0:
			return provision.Finding{Check: check, Text: fmt.Sprintf("%s: none of the subnets %s is there", r.name, strings.Join(s.Subnets, ", "))}
		}
		return provision.Finding{Check: check, OK: true, Text: fmt.Sprintf("%s: %d of %d subnets", r.name, len(out.Subnets), len(s.Subnets))}
	}
	ask, what := filter("is-default", "true"), "default VPC"
	if s.Network != "" {
		ask, what = filter("vpc-id", s.Network), "VPC "+s.Network
	}
	out, err := r.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: []types.Filter{ask}})
	switch {
	case err != nil:
		return c.bad(check, r.name, err)
	case len(out.Vpcs) > 0:
		return provision.Finding{Check: check, OK: true, Text: fmt.Sprintf("%s: %s %s", r.name, what, awssdk.ToString(out.Vpcs[0].VpcId))}
	case s.Network != "":
		return provision.Finding{Check: check, Text: fmt.Sprintf("%s: there is no %s; see network in the settings", r.name, what)}
	}
	return provision.Finding{Check: check, Text: fmt.Sprintf(
		"%s: there is no default VPC; `aws ec2 create-default-vpc --region %s` makes one, or name a network in the settings", r.name, r.name)}
}

// Things that are not there. Whether they may be touched can be asked all the
// same.
const (
	noInstance = "i-00000000000000000"
	noGroup    = "sg-00000000000000000"
	noVolume   = "vol-00000000000000000"
	tryName    = "levin-preflight"
)

// permissions asks EC2, without doing anything, whether it would do what a run
// needs.
func (c *Cloud) permissions(ctx context.Context, r *region, offers []provision.Offer) provision.Finding {
	const check = "permissions"
	dry := awssdk.Bool(true)
	try := provision.Offer{Type: "t3.micro", Arch: "amd64"}
	if len(offers) > 0 {
		try = offers[0]
	}
	// Resolved by EC2 itself, so that it needs no id of this region.
	image := cmp.Or(c.cfg.Settings.Image, "resolve:ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/"+try.Arch+"/hvm/ebs-gp3/ami-id")
	tags := []types.Tag{{Key: awssdk.String(tagRun), Value: awssdk.String(tryName)}}
	tries := []struct {
		action string
		try    func() error
	}{
		{"ec2:RunInstances", func() error {
			_, err := r.ec2.RunInstances(ctx, &ec2.RunInstancesInput{
				DryRun: dry, ImageId: awssdk.String(image), InstanceType: types.InstanceType(try.Type),
				MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1),
				// A policy may ask for tags.
				TagSpecifications: []types.TagSpecification{
					{ResourceType: types.ResourceTypeInstance, Tags: tags}, {ResourceType: types.ResourceTypeVolume, Tags: tags},
				},
			})
			return err
		}},
		{"ec2:TerminateInstances", func() error {
			_, err := r.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{DryRun: dry, InstanceIds: []string{noInstance}})
			return err
		}},
		{"ec2:CreateSecurityGroup", func() error {
			_, err := r.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{DryRun: dry, GroupName: awssdk.String(tryName), Description: awssdk.String(tryName)})
			return err
		}},
		{"ec2:AuthorizeSecurityGroupIngress", func() error {
			_, err := r.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
				DryRun: dry, GroupId: awssdk.String(noGroup), IpProtocol: awssdk.String("tcp"),
				FromPort: awssdk.Int32(22), ToPort: awssdk.Int32(22), CidrIp: awssdk.String("192.0.2.1/32"),
			})
			return err
		}},
		{"ec2:DeleteSecurityGroup", func() error {
			_, err := r.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{DryRun: dry, GroupId: awssdk.String(noGroup)})
			return err
		}},
		{"ec2:ImportKeyPair", func() error {
			_, err := r.ec2.ImportKeyPair(ctx, &ec2.ImportKeyPairInput{
				DryRun: dry, KeyName: awssdk.String(tryName),
				PublicKeyMaterial: []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMk1jBkUUCJ3tTfJ2Ph0RJc6Zb1m1c7yB3kqXkU2n8sF"),
			})
			return err
		}},
		{"ec2:DeleteKeyPair", func() error {
			_, err := r.ec2.DeleteKeyPair(ctx, &ec2.DeleteKeyPairInput{DryRun: dry, KeyName: awssdk.String(tryName)})
			return err
		}},
		{"ec2:CreateTags", func() error {
			_, err := r.ec2.CreateTags(ctx, &ec2.CreateTagsInput{DryRun: dry, Resources: []string{noInstance}, Tags: tags})
			return err
		}},
		{"ec2:DeleteVolume", func() error {
			_, err := r.ec2.DeleteVolume(ctx, &ec2.DeleteVolumeInput{DryRun: dry, VolumeId: awssdk.String(noVolume)})
			return err
		}},
		{"ec2:DescribeInstances", func() error {
			_, err := r.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{DryRun: dry})
			return err
		}},
		{"ec2:DescribeVolumes", func() error {
			_, err := r.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{DryRun: dry})
			return err
		}},
		{"ec2:DescribeKeyPairs", func() error {
			_, err := r.ec2.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{DryRun: dry})
			return err
		}},
		{"ec2:DescribeSecurityGroups", func() error {
			_, err := r.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{DryRun: dry})
			return err
		}},
		{"ec2:DescribeSubnets", func() error {
			_, err := r.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{DryRun: dry})
			return err
		}},
		{"ec2:DescribePlacementGroups", func() error {
			_, err := r.ec2.DescribePlacementGroups(ctx, &ec2.DescribePlacementGroupsInput{DryRun: dry})
			return err
		}},
	}
	answers := make([]error, len(tries))
	var asking sync.WaitGroup
	for i, t := range tries {
		asking.Go(func() { answers[i] = t.try() })
	}
	asking.Wait()

	var denied, unclear []string
	var trouble error
	for i, t := range tries {
		switch allowed(answers[i]) {
		case yes:
		case no:
			denied = append(denied, t.action)
		default:
			unclear = append(unclear, t.action)
			trouble = cmp.Or(trouble, answers[i])
		}
	}
	switch {
	case len(denied) > 0:
		return provision.Finding{Check: check, Text: fmt.Sprintf("%s: not allowed: %s; whoever manages the account can allow them", r.name, strings.Join(denied, ", "))}
	case trouble != nil:
		return c.bad(check, fmt.Sprintf("%s: could not ask about %s", r.name, strings.Join(unclear, ", ")), trouble)
	}
	return provision.Finding{Check: check, OK: true, Text: r.name + ": may run, tag and terminate instances, and manage their keys, disks and security groups"}
}

type answer int

const (
	unknown answer = iota
	yes
	no
)

// allowed reads the answer to a dry run. EC2 looks at permissions before it looks
// for what it is asked to touch, and for room: not finding those is a yes.
func allowed(err error) answer {
	switch c := code(err); {
	case err == nil, c == "DryRunOperation":
		return yes
	case c == "UnauthorizedOperation" || c == "AccessDenied":
		return no
	case strings.HasSuffix(c, ".NotFound"), c == "VPCIdNotSpecified", c == "InvalidGroup.Duplicate", c == "InvalidKeyPair.Duplicate":
		return yes
	}
	if v, ok := judge(err); ok && (v.Kind == cluster.Capacity || v.Kind == cluster.Quota) {
		return yes
	}
	return unknown
}

// quotas compares the limits of the account with what the offers need beside what
// is running.
func (c *Cloud) quotas(ctx context.Context, r *region, offers []provision.Offer) []provision.Finding {
	const check = "quota"
	asked := map[quota]float64{}
	var findings []provision.Finding
	for _, o := range offers {
		q, ok := quotaOf(o.Type, o.Spot)
		if !ok {
			findings = append(findings, provision.Finding{Check: check, OK: true, Text: fmt.Sprintf("%s: no limit is known for %s", r.name, o.Type)})
			continue
		}
		asked[q] += o.CPUs
	}
	if len(asked) == 0 {
		return findings
	}
	used, err := r.used(ctx)
	if err != nil {
		return append(findings, c.bad(check, r.name, err))
	}
	s, err := c.connect(ctx)
	if err != nil {
		return append(findings, c.bad(check, r.name, err))
	}
	client := servicequotas.NewFromConfig(s.config, func(o *servicequotas.Options) { o.Region = r.name })
	for _, q := range slices.SortedFunc(maps.Keys(asked), func(a, b quota) int { return strings.Compare(a.Name, b.Name) }) {
		limit, err := limitOf(ctx, client, q)
		if err != nil {
			findings = append(findings, c.bad(check, fmt.Sprintf("%s: %s", r.name, q.Name), err))
			continue
		}
		f := provision.Finding{Check: check, OK: used[q]+asked[q] <= limit, Text: fmt.Sprintf(
			"%s: %s: %g vCPUs, %g in use, %g asked for", r.name, q.Name, limit, used[q], asked[q])}
		if !f.OK {
			f.Text += fmt.Sprintf("; ask for more with `aws service-quotas request-service-quota-increase --service-code ec2 --quota-code %s --region %s --desired-value %g`",
				q.Code, r.name, used[q]+asked[q])
		}
		findings = append(findings, f)
	}
	return findings
}

// limitOf gives the account's limit, which is AWS's default unless it was ever
// changed.
func limitOf(ctx context.Context, client *servicequotas.Client, q quota) (float64, error) {
	const service = "ec2"
	out, err := client.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: awssdk.String(service), QuotaCode: awssdk.String(q.Code)})
	if err == nil && out.Quota != nil {
		return awssdk.ToFloat64(out.Quota.Value), nil
	}
	if err != nil && code(err) != "NoSuchResourceException" {
		return 0, err
	}
	standard, err := client.GetAWSDefaultServiceQuota(ctx, &servicequotas.GetAWSDefaultServiceQuotaInput{ServiceCode: awssdk.String(service), QuotaCode: awssdk.String(q.Code)})
	if err != nil {
		return 0, err
	}
	if standard.Quota == nil {
		return 0, errors.New("no value is given by Service Quotas")
	}
	return awssdk.ToFloat64(standard.Quota.Value), nil
}

// used counts the virtual CPUs that run in the region, by the limit they count
// against.
func (r *region) used(ctx context.Context) (map[quota]float64, error) {
	running, err := r.describe(ctx, filter("instance-state-name", "pending", "running"))
	if err != nil {
		return nil, err
	}
	used := map[quota]float64{}
	for _, i := range running {
		q, ok := quotaOf(string(i.InstanceType), i.InstanceLifecycle == types.InstanceLifecycleTypeSpot)
		if !ok || i.CpuOptions == nil {
			continue
		}
		used[q] += float64(awssdk.ToInt32(i.CpuOptions.CoreCount) * max(1, awssdk.ToInt32(i.CpuOptions.ThreadsPerCore)))
	}
	return used, nil
}
