package emulator

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
	"golang.org/x/crypto/ssh"
)

// apiError is an answer of an AWS API that is an error.
type apiError struct {
	status        int
	code, message string
}

func (e apiError) Error() string { return e.code + ": " + e.message }

// words gives the error as the provider says it, which works with aws-sdk-go-v2.
func (e apiError) words(doing, operation string) error {
	return fmt.Errorf("%s: operation error EC2: %s, https response error StatusCode: %d, RequestID: %s, api error %s: %s",
		doing, operation, e.status, requestID(), e.code, e.message)
}

func requestID() string {
	var b [16]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// tfFaultAWS is what EC2 answers for a fault.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
func tfFaultAWS(kind FaultKind, r request) apiError {
	switch kind {
	case FaultCapacity:
		others := slices.DeleteFunc(slices.Clone(Zones(AWS, r.region)), func(zone string) bool { return zone == r.zone })
		for i := range others {
			others[i] = zoneName(others[i])
		}
		return apiError{500, "InsufficientInstanceCapacity", fmt.Sprintf("We currently do not have sufficient %[1]s capacity in the Availability Zone you requested (%[2]s). "+
			"Our system will be working on provisioning additional capacity. You can currently get %[1]s capacity by not specifying an Availability Zone in your request or choosing %[3]s.",
			r.typ, zoneName(r.zone), strings.Join(others, ", "))}
	case FaultSpot:
		return apiError{500, "InsufficientInstanceCapacity", "There is no Spot capacity available that matches your request."}
	case FaultQuota:
		if r.spot {
			return apiError{400, "MaxSpotInstanceCountExceeded", "Max spot instance count exceeded"}
		}
		return apiError{400, "VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance bucket that the specified instance type belongs to. " +
			"Please visit http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit."}
	case FaultThrottled:
		return apiError{503, "RequestLimitExceeded", "Request limit exceeded."}
	case FaultExpired:
		return apiError{400, "RequestExpired", "Request has expired."}
	case FaultDenied:
		return apiError{403, "UnauthorizedOperation", "You are not authorized to perform this operation. User: arn:aws:iam::" + account + ":user/levin is not authorized to perform: ec2:" + r.action() +
			" on resource: arn:aws:ec2:" + r.region + ":" + account + ":*/* because no identity-based policy allows the ec2:" + r.action() + " action"}
	}
	return apiError{500, "InternalError", "An internal error has occurred"}
}

// configureAWS takes the provider block. As the real provider does, it asks who it
// is before anything else, unless it is told not to.
func (s *session) configureAWS(ctx context.Context, in values) error {
	s.region = in.str("region")
	if s.region == "" {
		s.region = "us-east-1" // from AWS_REGION, see Env
	}
	if _, ok := zonesOfAWS()[s.region]; !ok {
		return verbatim("Invalid AWS Region: %s", s.region)
	}
	s.tags = in.block("default_tags").stringMap("tags")
	if in.boolean("skip_credentials_validation", false) {
		return nil
	}
	if _, ok := s.e.check(ctx, request{cloud: AWS, op: "create", region: s.region, only: FaultExpired}); ok {
		return fmt.Errorf("validating provider credentials: retrieving caller identity from STS: operation error STS: GetCallerIdentity, "+
			"https response error StatusCode: 403, RequestID: %s, api error ExpiredToken: The security token included in the request is expired", requestID())
	}
	return nil
}

// refused gives the words of a fault that hits the making of something other than
// an instance.
func (s *session) refused(ctx context.Context, doing, operation string) error {
	r := request{cloud: s.cloud, op: "create", region: s.region}
	kind, ok := s.e.check(ctx, r)
	switch {
	case !ok:
		return nil
	case s.cloud == AWS:
		return tfFaultAWS(kind, r).words(doing, operation)
	default:
		return tfFaultGCP(kind, r, operation)
	}
}

// describe is the provider's look at a resource.
func (s *session) describe(ctx context.Context, kind string, in values) error {
	r := request{cloud: s.cloud, op: "describe", region: s.region, instance: strings.HasSuffix(kind, "_instance")}
	fault, ok := s.e.check(ctx, r)
	switch {
	case !ok:
		return nil
	case s.cloud == AWS:
		return tfFaultAWS(fault, r).words(fmt.Sprintf("reading %s (%s)", awsNames()[kind], in.str("id")), "Describe")
	default:
		return tfFaultGCP(fault, r, "reading "+kind)
	}
}

// awsNames are how the provider calls its resources.
func awsNames() map[string]string {
	return map[string]string{
		"aws_instance": "EC2 Instance", "aws_key_pair": "EC2 Key Pair", "aws_security_group": "Security Group",
		"aws_placement_group": "EC2 Placement Group", "aws_security_group_rule": "Security Group Rule",
		"aws_vpc_security_group_ingress_rule": "VPC Security Group Ingress Rule",
		"aws_vpc_security_group_egress_rule":  "VPC Security Group Egress Rule",
	}
}

// awsInUse is what the provider says when it has waited long enough for whatever
// needs the resource.
func awsInUse(kind, id string) error {
	e := apiError{400, "DependencyViolation", "resource " + id + " has a dependent object"}
	operation := "DeleteSecurityGroup"
	if kind == "aws_placement_group" {
		e = apiError{400, "InvalidPlacementGroup.InUse", "The placement group '" + id + "' is in use and may not be deleted."}
		operation = "DeletePlacementGroup"
	}
	return e.words(fmt.Sprintf("deleting %s (%s)", awsNames()[kind], id), operation)
}

func awsResources() map[string]resource {
	rule := func(ingress bool) resource {
		return resource{
			forceNew: []string{"security_group_id"}, promise: promiseTags,
			updated: []string{"cidr_ipv4", "cidr_ipv6", "description", "from_port", "ip_protocol", "prefix_list_id", "referenced_security_group_id", "to_port"},
			create: func(ctx context.Context, s *session, in values) (*Thing, values, error) {
				return createRule(ctx, s, in, ingress)
			},
			live: liveTags,
		}
	}
	return map[string]resource{
		"aws_instance": awsInstance(),
		"aws_key_pair": {
			forceNew: []string{"key_name", "key_name_prefix", "public_key"},
			promise:  promiseTags, create: createKeyPair, live: liveTags,
		},
		"aws_security_group": {
			defaults: map[string]cty.Value{"description": cty.StringVal("Managed by Terraform"), "revoke_rules_on_delete": cty.False},
			forceNew: []string{"description", "name", "name_prefix", "vpc_id"},
			updated:  []string{"ingress", "egress"},
			promise:  promiseTags, create: createSecurityGroup, live: liveTags,
		},
		"aws_vpc_security_group_ingress_rule": rule(true),
		"aws_vpc_security_group_egress_rule":  rule(false),
		"aws_security_group_rule": {
			defaults: map[string]cty.Value{"self": cty.False},
			forceNew: []string{"cidr_blocks", "from_port", "ipv6_cidr_blocks", "prefix_list_ids", "protocol", "security_group_id", "self", "source_security_group_id", "to_port", "type"},
			updated:  []string{"description"},
			create: func(ctx context.Context, s *session, in values) (*Thing, values, error) {
				return createRule(ctx, s, in, in.str("type") == "ingress")
			},
		},
		"aws_placement_group": {
			forceNew: []string{"name", "partition_count", "spread_level", "strategy"},
			promise:  promiseTags, create: createPlacementGroup, live: liveTags,
		},
	}
}

// promiseTags says what tags there will be: the resource's and the provider's.
func promiseTags(s *session, planned, _ cty.Value) map[string]cty.Value {
	tags := planned.GetAttr("tags")
	if !tags.IsWhollyKnown() {
		return nil // tags_all is not known either
	}
	return map[string]cty.Value{"tags_all": stringMapValue(s.allTags(plainObject(planned).stringMap("tags")))}
}

func (s *session) allTags(own map[string]string) map[string]string {
	all := maps.Clone(s.tags)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, own)
	return all
}

// liveTags are a thing's tags as they are now: without those of the provider, when
// they are as the provider has them.
func liveTags(t *Thing) values {
	own := map[string]string{}
	configured := t.state.GetAttr("tags")
	for k, v := range t.Tags {
		if before, ok := plainObject(t.state).stringMap("tags_all")[k]; ok && before == v && !has(configured, k) {
			continue // the provider's
		}
		own[k] = v
	}
	live := values{"tags_all": t.Tags, "tags": own}
	if len(own) == 0 && configured.IsNull() {
		live["tags"] = nil
	}
	return live
}

func has(m cty.Value, key string) bool {
	return m.IsKnown() && !m.IsNull() && m.HasIndex(cty.StringVal(key)).True()
}

// thing starts a thing of AWS.
func (s *session) thing(kind, id string, in values) *Thing {
	t := &Thing{Cloud: s.cloud, Kind: kind, ID: id, stateID: id, Region: s.region, Args: in, CreatedAt: time.Now()}
	t.setTags(s.allTags(in.stringMap("tags")))
	return t
}

func randomID(kind string) string {
	var b [8]byte
	rand.Read(b[:])
	return kind + "-0" + hex.EncodeToString(b[:])
}

func arn(region, what string) string { return "arn:aws:ec2:" + region + ":" + account + ":" + what }

// named gives a resource's name: as configured, or made from a prefix.
func named(in values, name string) string {
	if n := in.str(name); n != "" {
		return n
	}
	prefix := in.str(name + "_prefix")
	if prefix == "" {
		prefix = "terraform-"
	}
	return prefix + time.Now().UTC().Format("20060102150405") + strings.ToLower(rand.Text()[:12])
}

func createKeyPair(ctx context.Context, s *session, in values) (*Thing, values, error) {
	name := named(in, "key_name")
	doing, operation := fmt.Sprintf("importing EC2 Key Pair (%s)", name), "ImportKeyPair"
	if err := s.refused(ctx, doing, operation); err != nil {
		return nil, nil, err
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(in.str("public_key")))
	if err != nil || key.Type() != ssh.KeyAlgoED25519 && key.Type() != ssh.KeyAlgoRSA {
		return nil, nil, apiError{400, "InvalidKey.Format", "Key is not in valid OpenSSH public key format"}.words(doing, operation)
	}
	t := s.thing("aws_key_pair", name, in)
	if !s.e.add(t, func(o *Thing) bool { return o.Region == s.region && o.ID == name }) {
		return nil, nil, apiError{400, "InvalidKeyPair.Duplicate", "The keypair already exists"}.words(doing, operation)
	}
	fingerprint := strings.TrimPrefix(ssh.FingerprintSHA256(key), "SHA256:") + "="
	if key.Type() == ssh.KeyAlgoRSA {
		fingerprint = ssh.FingerprintLegacyMD5(key)
	}
	return t, values{
		"id": name, "key_name": name, "key_pair_id": randomID("key"), "fingerprint": fingerprint,
		"key_type": strings.TrimPrefix(key.Type(), "ssh-"), "arn": arn(s.region, "key-pair/"+name),
	}, nil
}

func createSecurityGroup(ctx context.Context, s *session, in values) (*Thing, values, error) {
	name := named(in, "name")
	doing, operation := fmt.Sprintf("creating Security Group (%s)", name), "CreateSecurityGroup"
	if err := s.refused(ctx, doing, operation); err != nil {
		return nil, nil, err
	}
	vpc := in.str("vpc_id")
	if vpc == "" {
		vpc = vpcID(s.region)
	}
	if vpc != vpcID(s.region) {
		return nil, nil, apiError{400, "InvalidVpcID.NotFound", "The vpc ID '" + vpc + "' does not exist"}.words(doing, operation)
	}
	if strings.HasPrefix(name, "sg-") {
		return nil, nil, apiError{400, "InvalidParameterValue", "invalid value for parameter groupName: " + name}.words(doing, operation)
	}
	id := randomID("sg")
	t := s.thing("aws_security_group", id, in)
	if t.Name == "" {
		t.Name = name
	}
	same := func(o *Thing) bool { return o.Region == s.region && plainObject(o.state).str("name") == name }
	if !s.e.add(t, same) {
		return nil, nil, apiError{400, "InvalidGroup.Duplicate", fmt.Sprintf("The security group '%s' already exists for VPC '%s'", name, vpc)}.words(doing, operation)
	}
	return t, values{
		"id": id, "name": name, "vpc_id": vpc, "owner_id": account, "arn": arn(s.region, "security-group/"+id),
	}, nil
}

func createRule(ctx context.Context, s *session, in values, ingress bool) (*Thing, values, error) {
	kind, operation := "aws_vpc_security_group_egress_rule", "AuthorizeSecurityGroupEgress"
	if ingress {
		kind, operation = "aws_vpc_security_group_ingress_rule", "AuthorizeSecurityGroupIngress"
	}
	doing := "creating " + awsNames()[kind]
	if _, old := in["type"]; old {
		kind = "aws_security_group_rule"
		doing = "authorizing Security Group Rule"
	}
	if err := s.refused(ctx, doing, operation); err != nil {
		return nil, nil, err
	}
	group := in.str("security_group_id")
	s.e.mu.Lock()
	found := s.e.findID(AWS, "aws_security_group", group)
	s.e.mu.Unlock()
	if found == nil {
		return nil, nil, apiError{400, "InvalidGroup.NotFound", "The security group '" + group + "' does not exist"}.words(doing, operation)
	}
	what := func(args map[string]any) string {
		rule := maps.Clone(args)
		for _, name := range []string{"tags", "tags_all", "description"} {
			delete(rule, name)
		}
		return fmt.Sprint(rule)
	}
	id := randomID("sgr")
	t := s.thing(kind, id, in)
	t.Uses = []string{group}
	if !s.e.add(t, func(o *Thing) bool { return slices.Contains(o.Uses, group) && what(o.Args) == what(in) }) {
		return nil, nil, apiError{400, "InvalidPermission.Duplicate", "the specified rule already exists"}.words(doing, operation)
	}
	return t, values{"id": id, "security_group_rule_id": id, "arn": arn(s.region, "security-group-rule/"+id)}, nil
}

func createPlacementGroup(ctx context.Context, s *session, in values) (*Thing, values, error) {
	name := in.str("name")
	doing, operation := fmt.Sprintf("creating EC2 Placement Group (%s)", name), "CreatePlacementGroup"
	if err := s.refused(ctx, doing, operation); err != nil {
		return nil, nil, err
	}
	if strategy := in.str("strategy"); !slices.Contains([]string{"cluster", "partition", "spread"}, strategy) {
		return nil, nil, fmt.Errorf("expected strategy to be one of [cluster partition spread], got %s", strategy)
	}
	t := s.thing("aws_placement_group", name, in)
	t.Name = name
	if !s.e.add(t, func(o *Thing) bool { return o.Region == s.region && o.ID == name }) {
		return nil, nil, apiError{400, "InvalidPlacementGroup.Duplicate", "The placement group '" + name + "' already exists."}.words(doing, operation)
	}
	return t, values{"id": name, "placement_group_id": randomID("pg"), "arn": arn(s.region, "placement-group/"+name)}, nil
}

func awsInstance() resource {
	return resource{
		defaults: map[string]cty.Value{
			"get_password_data": cty.False, "source_dest_check": cty.True, "user_data_replace_on_change": cty.False,
			"root_block_device.delete_on_termination": cty.True,
			"metadata_options.http_endpoint":          cty.StringVal("enabled"),
			"metadata_options.http_protocol_ipv6":     cty.StringVal("disabled"),
		},
		filled: []string{
			"capacity_reservation_specification", "cpu_options", "ebs_block_device", "enclave_options", "ephemeral_block_device",
			"instance_market_options", "maintenance_options", "metadata_options", "network_interface", "private_dns_name_options", "root_block_device",
		},
		forceNew: []string{
			"ami", "associate_public_ip_address", "availability_zone", "iam_instance_profile", "instance_market_options", "key_name",
			"placement_group", "private_ip", "root_block_device.encrypted", "root_block_device.kms_key_id", "subnet_id", "tenancy",
		},
		updated: []string{"instance_initiated_shutdown_behavior", "vpc_security_group_ids", "volume_tags", "disable_api_termination", "root_block_device"},
		check: func(in values) error {
			if in.str("user_data") != "" && in.str("user_data_base64") != "" {
				return errors.New(`"user_data": conflicts with user_data_base64`)
			}
			return nil
		},
		promise: promiseInstance, create: createAWSInstance, live: liveAWSInstance,
	}
}

// promiseInstance hides user data from Terraform's state, as the provider does:
// what it keeps is a digest.
func promiseInstance(s *session, planned, config cty.Value) map[string]cty.Value {
	promised := promiseTags(s, planned, config)
	data := config.GetAttr("user_data")
	if data.IsKnown() && !data.IsNull() {
		content := []byte(data.AsString())
		if decoded, err := base64.StdEncoding.DecodeString(data.AsString()); err == nil {
			content = decoded
		}
		digest := sha1.Sum(content)
		if promised == nil {
			promised = map[string]cty.Value{}
		}
		promised["user_data"] = cty.StringVal(hex.EncodeToString(digest[:]))
	}
	return promised
}

// createAWSInstance is RunInstances, and the wait until the instance runs.
func createAWSInstance(ctx context.Context, s *session, in values) (*Thing, values, error) {
	const doing, operation = "creating EC2 Instance", "RunInstances"
	t, err := s.newAWSInstance(in)
	if err != nil {
		var refused apiError
		if errors.As(err, &refused) {
			return nil, nil, refused.words(doing, operation)
		}
		return nil, nil, fmt.Errorf("%s: %w", doing, err)
	}
	r := request{cloud: AWS, op: "create", region: t.Region, zone: t.Zone, typ: t.Type, spot: t.Spot, instance: true}
	fault, hit := s.e.check(ctx, r)
	s.e.count("RunInstances")
	switch {
	case hit && fault == FaultHang:
		return nil, nil, fmt.Errorf("%s: operation error EC2: RunInstances, https response error StatusCode: 0, RequestID: , canceled, %w", doing, context.Canceled)
	case hit && fault == FaultNoBoot:
		t.life.noBoot = true
	case hit && fault != FaultLost && fault != FaultUnsaid:
		return nil, nil, tfFaultAWS(fault, r).words(doing, operation)
	}
	t.disk = s.thing("aws_ebs_volume", randomID("vol"), in.block("root_block_device"))
	t.disk.Zone, t.disk.Uses = t.Zone, nil
	s.e.add(t, func(*Thing) bool { return false })
	s.e.add(t.disk, func(*Thing) bool { return false })
	s.e.launch(t)
	if hit && (fault == FaultLost || fault == FaultUnsaid) {
		return t, awsAnswers(t, in), errLost
	}
	err = s.e.await(ctx, func() bool { return t.State != Pending })
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	switch {
	case err != nil:
		err = fmt.Errorf("waiting for EC2 Instance (%s) create: %w", t.ID, err)
	case t.State != Running:
		err = fmt.Errorf("waiting for EC2 Instance (%s) create: unexpected state 'terminated', wanted target 'running'. last error: %s", t.ID, t.Reason)
	}
	return t, awsAnswers(t, in), err
}

// newAWSInstance makes what RunInstances would, or says what is wrong with it.
func (s *session) newAWSInstance(in values) (*Thing, error) {
	t := s.thing("aws_instance", randomID("i"), in)
	t.Type = in.str("instance_type")
	t.Spot = in.block("instance_market_options").str("market_type") == "spot"
	bad := func(code, format string, args ...any) error { return apiError{400, code, fmt.Sprintf(format, args...)} }
	if t.Type == "" || !validType(AWS, t.Type) {
		return nil, bad("InvalidParameterValue", "Invalid value '%s' for InstanceType.", t.Type)
	}
	image, ok := awsImage(s.region, in.str("ami"))
	if !ok {
		return nil, bad("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", in.str("ami"))
	}
	if arch := archOfType(AWS, t.Type); image.arch != arch {
		names := map[string]string{"amd64": "x86_64", "arm64": "arm64"}
		return nil, bad("InvalidParameterValue", "The architecture '%s' of the specified instance type does not match the architecture '%s' of the specified AMI. "+
			"Specify an instance type and an AMI that have matching architectures, and try again.", names[arch], names[image.arch])
	}
	if err := s.placeAWSInstance(t, in, bad); err != nil {
		return nil, err
	}
	size := in.block("root_block_device").number("volume_size")
	if size != 0 && size < image.disk {
		return nil, bad("InvalidBlockDeviceMapping", "Volume of size %vGB is smaller than snapshot 'snap-0', expect size>= %vGB", size, image.disk)
	}
	b := birth{whenOff: Stopped, offWords: "Client.InstanceInitiatedShutdown: Instance initiated shutdown"}
	if in.str("instance_initiated_shutdown_behavior") == "terminate" {
		b.whenOff = Terminated
	}
	data, err := awsUserData(in)
	if err == nil {
		b.user, err = parseUserData(data)
	}
	if err != nil {
		return nil, err
	}
	if name := in.str("key_name"); name != "" {
		s.e.mu.Lock()
		key := s.e.find(AWS, func(o *Thing) bool { return o.Kind == "aws_key_pair" && o.ID == name && o.Region == s.region })
		s.e.mu.Unlock()
		if key == nil {
			return nil, bad("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", name)
		}
		b.clientKey = values(key.Args).str("public_key")
	}
	t.life = newLife(b)
	return t, nil
}

// placeAWSInstance finds the instance's zone and what it needs to be there.
func (s *session) placeAWSInstance(t *Thing, in values, bad func(code, format string, args ...any) error) error {
	t.Zone = Zones(AWS, s.region)[0]
	if name := in.str("availability_zone"); name != "" {
		id, ok := zoneID(s.region, name)
		if !ok {
			return bad("InvalidParameterValue", "Invalid availability zone: [%s]", name)
		}
		t.Zone = id
	}
	if subnet := in.str("subnet_id"); subnet != "" {
		zone, ok := subnetZone(s.region, subnet)
		if !ok {
			return bad("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", subnet)
		}
		t.Zone = zone
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	for _, id := range in.strings("vpc_security_group_ids") {
		if group := s.e.findID(AWS, "aws_security_group", id); group == nil || group.Region != s.region {
			return bad("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
		}
		t.Uses = append(t.Uses, id)
	}
	if name := in.str("placement_group"); name != "" {
		if group := s.e.findID(AWS, "aws_placement_group", name); group == nil || group.Region != s.region {
			return bad("InvalidPlacementGroup.Unknown", "The Placement Group '%s' is unknown.", name)
		}
		t.Uses = append(t.Uses, name)
	}
	return nil
}

// awsUserData gives the user data's bytes.
func awsUserData(in values) ([]byte, error) {
	if encoded := in.str("user_data_base64"); encoded != "" {
		data, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return nil, fmt.Errorf("user_data_base64: %w", err)
		}
		return data, nil
	}
	data := in.str("user_data")
	if decoded, err := base64.StdEncoding.DecodeString(data); err == nil {
		return decoded, nil // the provider does not encode twice
	}
	return []byte(data), nil
}

// awsAnswers are the attributes that EC2 decides on.
func awsAnswers(t *Thing, in values) values {
	size := in.block("root_block_device").number("volume_size")
	if size == 0 {
		size = 8
	}
	subnet := in.str("subnet_id")
	if subnet == "" {
		subnet = subnetID(t.Zone)
	}
	groups := t.Args["vpc_security_group_ids"]
	if groups == nil {
		groups = []any{fixedID("sg", "default "+t.Region)}
	}
	answers := values{
		"id": t.ID, "arn": arn(t.Region, "instance/"+t.ID), "availability_zone": zoneName(t.Zone), "subnet_id": subnet,
		"associate_public_ip_address": t.public(), "private_ip": t.life.address, "tenancy": "default",
		"private_dns":                  "ip-" + strings.ReplaceAll(t.life.address, ".", "-") + ".ec2.internal",
		"primary_network_interface_id": randomID("eni"), "vpc_security_group_ids": groups,
		"instance_initiated_shutdown_behavior": "stop", "ebs_optimized": false, "monitoring": false,
		"disable_api_termination": false, "disable_api_stop": false, "cpu_core_count": 2, "cpu_threads_per_core": 1,
		"root_block_device": []any{map[string]any{
			"volume_id": t.disk.ID, "device_name": "/dev/sda1", "volume_size": size, "volume_type": "gp3", "iops": 3000,
			"throughput": 125, "encrypted": false, "delete_on_termination": true,
		}},
		"metadata_options": []any{map[string]any{
			"http_endpoint": "enabled", "http_tokens": "optional", "http_put_response_hop_limit": 1,
			"http_protocol_ipv6": "disabled", "instance_metadata_tags": "disabled",
		}},
	}
	if t.Spot {
		answers["instance_lifecycle"] = "spot"
		answers["spot_instance_request_id"] = "sir-" + hex.EncodeToString(md5sum(t.ID)[:4])
	}
	maps.Copy(answers, liveState(t))
	return answers
}

func md5sum(s string) []byte { sum := md5.Sum([]byte(s)); return sum[:] }

// public says whether the instance has a public address. Default subnets give one.
func (t *Thing) public() bool { return values(t.Args).boolean("associate_public_ip_address", true) }

// AWSState is what EC2 calls a state.
func AWSState(s State) string {
	if s == Terminating {
		return "shutting-down"
	}
	return string(s)
}

func liveState(t *Thing) values {
	live := values{"instance_state": AWSState(t.State), "public_ip": "", "public_dns": ""}
	if t.public() && (t.State == Pending || t.State == Running) {
		live["public_ip"] = t.life.address
		live["public_dns"] = "ec2-" + strings.ReplaceAll(t.life.address, ".", "-") + ".compute-1.amazonaws.com"
	}
	return live
}

func liveAWSInstance(t *Thing) values {
	live := liveTags(t)
	maps.Copy(live, liveState(t))
	return live
}

// delete ends an instance and waits for its end; anything else it deletes when
// nothing needs it any more.
func (s *session) delete(ctx context.Context, kind string, in values) error {
	s.e.mu.Lock()
	t := s.findState(kind, in.str("id"))
	s.e.mu.Unlock()
	if t == nil {
		return nil // gone already
	}
	if !t.instance() {
		return s.deleteUnused(ctx, t)
	}
	r := request{cloud: s.cloud, op: "terminate", region: t.Region, zone: t.Zone, typ: t.Type, spot: t.Spot, instance: true}
	if fault, ok := s.e.check(ctx, r); ok && fault != FaultUnsaid && fault != FaultLost {
		if s.cloud == AWS {
			return tfFaultAWS(fault, r).words(fmt.Sprintf("terminating EC2 Instance (%s)", t.ID), "TerminateInstances")
		}
		return tfFaultGCP(fault, r, "deleting instance")
	}
	words := "Client.UserInitiatedShutdown: User initiated shutdown"
	if s.cloud == GCP {
		words = "compute.instances.delete"
	}
	s.e.mu.Lock()
	s.e.want(t, Terminated, words)
	s.e.mu.Unlock()
	if err := s.e.await(ctx, func() bool { return !t.exists() }); err != nil {
		return fmt.Errorf("waiting for %s (%s) delete: %w", kind, t.ID, err)
	}
	return nil
}

// inUseLimit is for how many seconds the AWS provider waits for whatever needs a
// resource that is to be deleted.
const inUseLimit = 15 * 60

func (s *session) deleteUnused(ctx context.Context, t *Thing) error {
	wait := s.e.seconds(inUseLimit)
	if s.cloud == GCP {
		wait = 0 // Google's answers at once
	}
	limit, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		s.e.mu.Lock()
		changed := s.e.changed
		s.e.mu.Unlock()
		err := s.e.remove(t)
		if err == nil || errors.Is(err, ErrNotFound) {
			return nil
		}
		if !errors.Is(err, ErrInUse) {
			return err
		}
		select {
		case <-changed:
		case <-limit.Done():
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if s.cloud == AWS {
				return awsInUse(t.Kind, t.ID)
			}
			return gcpInUse(t)
		}
	}
}
