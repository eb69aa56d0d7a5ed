package emulator

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// image is what instances start from.
type image struct {
	id, arch string
	disk     float64 // GiB that it needs at least
}

// parameters are the public SSM parameters that name images, by pattern.
// https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/
// https://docs.aws.amazon.com/dlami/latest/devguide/find-dlami-id.html
func parameters() map[string]float64 {
	return map[string]float64{
		`^/aws/service/canonical/ubuntu/server/(20|22|24)\.04/stable/current/(amd64|arm64)/hvm/ebs-gp[23]/ami-id$`:                          8,
		`^/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-(x86_64|arm64)$`:                                                   8,
		`^/aws/service/deeplearning/ami/(x86_64|arm64)/base-oss-nvidia-driver-gpu-(ubuntu-(20|22|24)\.04|amazon-linux-2023)/latest/ami-id$`: 75,
	}
}

// parameterImage is the image that a public parameter names.
func parameterImage(region, name string) (image, bool) {
	for pattern, disk := range parameters() {
		if regexp.MustCompile(pattern).MatchString(name) {
			i := image{id: fixedID("ami", region+" "+name), arch: "amd64", disk: disk}
			if strings.Contains(name, "arm64") {
				i.arch = "arm64"
			}
			return i, true
		}
	}
	return image{}, false
}

// awsImage finds an image by its id: one that a public parameter names, or an
// image of the user's own, whose id says its architecture: ami-0amd64…, ami-0arm64….
func awsImage(region, id string) (image, bool) {
	for _, name := range knownParameters() {
		if i, _ := parameterImage(region, name); i.id == id {
			return i, true
		}
	}
	for _, arch := range []string{"amd64", "arm64"} {
		if strings.HasPrefix(id, "ami-0"+arch) {
			return image{id: id, arch: arch, disk: 8}, true
		}
	}
	return image{}, false
}

// knownParameters lists every parameter there is.
func knownParameters() []string {
	var names []string
	for _, version := range []string{"20.04", "22.04", "24.04"} {
		for _, arch := range []string{"amd64", "arm64"} {
			for _, disk := range []string{"gp2", "gp3"} {
				names = append(names, fmt.Sprintf("/aws/service/canonical/ubuntu/server/%s/stable/current/%s/hvm/ebs-%s/ami-id", version, arch, disk))
			}
		}
	}
	for _, arch := range []string{"x86_64", "arm64"} {
		names = append(names, "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-"+arch)
		for _, system := range []string{"ubuntu-20.04", "ubuntu-22.04", "ubuntu-24.04", "amazon-linux-2023"} {
			names = append(names, fmt.Sprintf("/aws/service/deeplearning/ami/%s/base-oss-nvidia-driver-gpu-%s/latest/ami-id", arch, system))
		}
	}
	return names
}

func awsDataSources() map[string]dataSource {
	return map[string]dataSource{
		"aws_ssm_parameter":               readParameter,
		"aws_ami":                         readAMI,
		"aws_vpc":                         readVPC,
		"aws_subnet":                      readSubnet,
		"aws_subnets":                     readSubnets,
		"aws_availability_zones":          readZones,
		"aws_ec2_instance_type_offerings": readOfferings,
		"aws_region": func(_ context.Context, s *session, in values) (values, error) {
			region := s.region
			if name := in.str("name"); name != "" {
				region = name
			}
			return values{"id": region, "name": region, "endpoint": "ec2." + region + ".amazonaws.com"}, nil
		},
		"aws_caller_identity": func(context.Context, *session, values) (values, error) {
			return values{"id": account, "account_id": account, "user_id": "AIDAEMULATED", "arn": "arn:aws:iam::" + account + ":user/levin"}, nil
		},
	}
}

func readParameter(_ context.Context, s *session, in values) (values, error) {
	name := in.str("name")
	i, ok := parameterImage(s.region, name)
	if !ok {
		return nil, fmt.Errorf("reading SSM Parameter (%s): couldn't find resource", name)
	}
	return values{
		"id": name, "type": "String", "value": i.id, "insecure_value": i.id, "version": 1,
		"arn": "arn:aws:ssm:" + s.region + "::parameter" + name,
	}, nil
}

// readAMI finds the images that the public parameters name, by owner, name and
// architecture.
func readAMI(_ context.Context, s *session, in values) (values, error) {
	f, err := readFilters(in, "architecture", "name", "virtualization-type", "root-device-type", "state", "image-id")
	if err != nil {
		return nil, err
	}
	for _, parameter := range knownParameters() {
		i, _ := parameterImage(s.region, parameter)
		arch := map[string]string{"amd64": "x86_64", "arm64": "arm64"}[i.arch]
		owner, name := amiName(parameter)
		if owners := in.strings("owners"); len(owners) > 0 && !slices.Contains(owners, owner) {
			continue
		}
		if f.pass("architecture", arch) && f.pass("name", name) && f.pass("virtualization-type", "hvm") &&
			f.pass("root-device-type", "ebs") && f.pass("state", "available") && f.pass("image-id", i.id) {
			return values{
				"id": i.id, "image_id": i.id, "name": name, "owner_id": owner, "architecture": arch, "state": "available", "public": true,
				"root_device_name": "/dev/sda1", "root_device_type": "ebs", "virtualization_type": "hvm", "hypervisor": "xen", "ena_support": true,
				"image_type": "machine", "arn": "arn:aws:ec2:" + s.region + "::image/" + i.id,
			}, nil
		}
	}
	return nil, verbatim("Your query returned no results. Please change your search criteria and try again.")
}

// amiName is the owner and the name of the image that a parameter names.
func amiName(parameter string) (owner, name string) {
	p := strings.Split(parameter, "/")
	switch p[3] {
	case "canonical":
		code := map[string]string{"20.04": "focal", "22.04": "jammy", "24.04": "noble"}[p[6]]
		return "099720109477", fmt.Sprintf("ubuntu/images/hvm-ssd-%s/ubuntu-%s-%s-%s-server-20260101", strings.TrimPrefix(p[11], "ebs-"), code, p[6], p[9])
	case "deeplearning":
		return "amazon", fmt.Sprintf("Deep Learning Base OSS Nvidia Driver GPU AMI (%s) %s 20260101", p[6], p[5])
	}
	return "amazon", p[4]
}

// filters are the filter blocks of a data source.
type filters map[string][]string

// readFilters reads filter blocks. A filter that is not known is an error.
func readFilters(in values, known ...string) (filters, error) {
	f := filters{}
	for _, block := range in.blocks("filter") {
		name := block.str("name")
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("filter %q is not emulated", name)
		}
		f[name] = block.strings("values")
	}
	return f, nil
}

// pass says whether a value passes its filter, in which * and ? are wildcards.
func (f filters) pass(name, value string) bool {
	wanted, ok := f[name]
	return !ok || slices.ContainsFunc(wanted, func(want string) bool {
		pattern := regexp.QuoteMeta(want)
		pattern = strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(pattern)
		return regexp.MustCompile("^" + pattern + "$").MatchString(value)
	})
}

func readVPC(_ context.Context, s *session, in values) (values, error) {
	f, err := readFilters(in, "vpc-id", "is-default", "isDefault", "state", "cidr", "cidr-block")
	if err != nil {
		return nil, err
	}
	id := vpcID(s.region)
	fits := (in.str("id") == "" || in.str("id") == id) && in.boolean("default", true) && len(in.stringMap("tags")) == 0 &&
		f.pass("vpc-id", id) && f.pass("is-default", "true") && f.pass("isDefault", "true") && f.pass("state", "available") &&
		f.pass("cidr", vpcCIDR) && f.pass("cidr-block", vpcCIDR)
	if !fits {
		return nil, errors.New("no matching EC2 VPC found")
	}
	return values{
		"id": id, "default": true, "cidr_block": vpcCIDR, "state": "available", "owner_id": account, "instance_tenancy": "default",
		"enable_dns_support": true, "enable_dns_hostnames": true, "arn": arn(s.region, "vpc/"+id),
	}, nil
}

// vpcCIDR is the block of every default VPC.
const vpcCIDR = "172.31.0.0/16"

// subnets lists the region's subnets that pass, by zone.
func (s *session) subnets(in values) ([]string, error) {
	f, err := readFilters(in, "vpc-id", "subnet-id", "availability-zone", "availabilityZone", "availability-zone-id", "availabilityZoneId",
		"default-for-az", "defaultForAz", "map-public-ip-on-launch", "state")
	if err != nil {
		return nil, err
	}
	var zones []string
	for _, zone := range Zones(AWS, s.region) {
		is := func(name, value string) bool { return in.str(name) == "" || in.str(name) == value }
		if f.pass("vpc-id", vpcID(s.region)) && f.pass("subnet-id", subnetID(zone)) && f.pass("state", "available") &&
			f.pass("availability-zone", zoneName(zone)) && f.pass("availabilityZone", zoneName(zone)) &&
			f.pass("availability-zone-id", zone) && f.pass("availabilityZoneId", zone) &&
			f.pass("default-for-az", "true") && f.pass("defaultForAz", "true") && f.pass("map-public-ip-on-launch", "true") &&
			is("id", subnetID(zone)) && is("vpc_id", vpcID(s.region)) && is("availability_zone", zoneName(zone)) && is("availability_zone_id", zone) &&
			in.boolean("default_for_az", true) && len(in.stringMap("tags")) == 0 {
			zones = append(zones, zone)
		}
	}
	return zones, nil
}

func readSubnet(_ context.Context, s *session, in values) (values, error) {
	zones, err := s.subnets(in)
	switch {
	case err != nil:
		return nil, err
	case len(zones) == 0:
		return nil, errors.New("no matching EC2 Subnet found")
	case len(zones) > 1:
		return nil, errors.New("multiple EC2 Subnets matched; use additional constraints to reduce matches to a single EC2 Subnet")
	}
	id := subnetID(zones[0])
	return values{
		"id": id, "vpc_id": vpcID(s.region), "availability_zone": zoneName(zones[0]), "availability_zone_id": zones[0],
		"default_for_az": true, "map_public_ip_on_launch": true, "state": "available", "owner_id": account,
		"cidr_block":                 fmt.Sprintf("172.31.%d.0/20", 16*slices.Index(Zones(AWS, s.region), zones[0])),
		"available_ip_address_count": 4091, "arn": arn(s.region, "subnet/"+id),
	}, nil
}

func readSubnets(_ context.Context, s *session, in values) (values, error) {
	zones, err := s.subnets(in)
	if err != nil {
		return nil, err
	}
	ids := []any{}
	for _, zone := range zones {
		ids = append(ids, subnetID(zone))
	}
	return values{"id": s.region, "ids": ids}, nil
}

func readZones(_ context.Context, s *session, in values) (values, error) {
	f, err := readFilters(in, "opt-in-status", "zone-id", "zone-name", "region-name", "zone-type", "state")
	if err != nil {
		return nil, err
	}
	names, ids := []any{}, []any{}
	for _, id := range Zones(AWS, s.region) {
		name := zoneName(id)
		if slices.Contains(in.strings("exclude_names"), name) || slices.Contains(in.strings("exclude_zone_ids"), id) ||
			in.str("state") != "" && in.str("state") != "available" {
			continue
		}
		if f.pass("opt-in-status", "opt-in-not-required") && f.pass("zone-id", id) && f.pass("zone-name", name) &&
			f.pass("region-name", s.region) && f.pass("zone-type", "availability-zone") && f.pass("state", "available") {
			names, ids = append(names, name), append(ids, id)
		}
	}
	return values{"id": s.region, "names": names, "zone_ids": ids, "group_names": []any{s.region}}, nil
}

// readOfferings answers that every type is offered everywhere.
func readOfferings(_ context.Context, s *session, in values) (values, error) {
	f, err := readFilters(in, "instance-type", "location")
	if err != nil {
		return nil, err
	}
	places := []string{s.region}
	switch in.str("location_type") {
	case "", "region":
	case "availability-zone-id":
		places = Zones(AWS, s.region)
	case "availability-zone":
		places = nil
		for _, zone := range Zones(AWS, s.region) {
			places = append(places, zoneName(zone))
		}
	default:
		return nil, fmt.Errorf("location_type %q is not known", in.str("location_type"))
	}
	kind := in.str("location_type")
	if kind == "" {
		kind = "region"
	}
	types, locations, kinds := []any{}, []any{}, []any{}
	for _, typ := range f["instance-type"] {
		for _, place := range places {
			if validType(AWS, typ) && f.pass("location", place) {
				types, locations, kinds = append(types, typ), append(locations, place), append(kinds, kind)
			}
		}
	}
	return values{"id": s.region, "instance_types": types, "locations": locations, "location_types": kinds}, nil
}
