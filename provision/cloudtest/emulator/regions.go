package emulator

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// zonesOfAWS are the zone ids of each region, in the order of its zones' names: the
// first is a, the second b. As in a real account, a name says nothing about an id.
func zonesOfAWS() map[string][]string {
	return map[string][]string{
		"us-east-1":      {"use1-az6", "use1-az1", "use1-az2", "use1-az4", "use1-az3", "use1-az5"},
		"us-east-2":      {"use2-az2", "use2-az3", "use2-az1"},
		"us-west-1":      {"usw1-az3", "usw1-az1"},
		"us-west-2":      {"usw2-az2", "usw2-az1", "usw2-az3", "usw2-az4"},
		"ca-central-1":   {"cac1-az2", "cac1-az1", "cac1-az4"},
		"eu-west-1":      {"euw1-az3", "euw1-az1", "euw1-az2"},
		"eu-west-2":      {"euw2-az2", "euw2-az3", "euw2-az1"},
		"eu-central-1":   {"euc1-az2", "euc1-az3", "euc1-az1"},
		"ap-northeast-1": {"apne1-az4", "apne1-az1", "apne1-az2"},
		"ap-southeast-1": {"apse1-az2", "apse1-az1", "apse1-az3"},
		"ap-southeast-2": {"apse2-az3", "apse2-az1", "apse2-az2"},
		"ap-south-1":     {"aps1-az1", "aps1-az3", "aps1-az2"},
	}
}

// zonesOfGCP are the letters of each region's zones.
func zonesOfGCP() map[string]string {
	return map[string]string{
		"us-central1": "abcf", "us-east1": "bcd", "us-east4": "abc", "us-west1": "abc", "us-west4": "abc",
		"europe-west1": "bcd", "europe-west4": "abc", "asia-east1": "abc", "asia-northeast1": "abc",
		"asia-southeast1": "abc",
	}
}

// Regions lists the regions that a cloud has.
func Regions(cloud string) []string {
	if cloud == AWS {
		return slices.Sorted(maps.Keys(zonesOfAWS()))
	}
	return slices.Sorted(maps.Keys(zonesOfGCP()))
}

// Zones lists the zones of a region, in the order of their names: ids on AWS
// (use1-az6), names on GCP.
func Zones(cloud, region string) []string {
	if cloud == AWS {
		return zonesOfAWS()[region]
	}
	var zones []string
	for _, letter := range zonesOfGCP()[region] {
		zones = append(zones, region+"-"+string(letter))
	}
	return zones
}

// zoneName is the name of an AWS zone in this account: us-east-1a.
func zoneName(id string) string {
	for region, ids := range zonesOfAWS() {
		if i := slices.Index(ids, id); i >= 0 {
			return region + string(rune('a'+i))
		}
	}
	return ""
}

// zoneID is the id of an AWS zone by its name.
func zoneID(region, name string) (string, bool) {
	for i, id := range zonesOfAWS()[region] {
		if name == region+string(rune('a'+i)) {
			return id, true
		}
	}
	return "", false
}

// The default network that every AWS region has: a VPC with a subnet in each zone.

func vpcID(region string) string  { return fixedID("vpc", region) }
func subnetID(zone string) string { return fixedID("subnet", zone) }

// subnetZone is the zone of a subnet.
func subnetZone(region, subnet string) (string, bool) {
	for _, zone := range zonesOfAWS()[region] {
		if subnetID(zone) == subnet {
			return zone, true
		}
	}
	return "", false
}

// fixedID is an id that is always the same for a name.
func fixedID(kind, name string) string {
	sum := sha256.Sum256([]byte(kind + " " + name))
	return kind + "-0" + hex.EncodeToString(sum[:8])
}

// archOfType is the architecture of a machine type.
func archOfType(cloud, typ string) string {
	// Graviton: the letter after the generation (t4g, g5g, c7gn, im4gn, x2gd). GCP: Tau T2A and Axion.
	graviton, axion := `^([a-z]+[0-9]+g[a-z]*|a1|g5g)\.`, `^(t2a|c4a|n4a)-`
	pattern := map[string]string{AWS: graviton, GCP: axion}[cloud]
	if regexp.MustCompile(pattern).MatchString(typ) {
		return "arm64"
	}
	return "amd64"
}

// validType says whether a cloud could have such a machine type.
func validType(cloud, typ string) bool {
	pattern := map[string]string{
		AWS: `^[a-z][a-z0-9-]*[0-9][a-z0-9-]*\.(nano|micro|small|medium|large|[0-9]*xlarge|metal(-[0-9a-z]+)?)$`,
		GCP: `^[a-z][a-z0-9]*-[a-z0-9-]+$`,
	}[cloud]
	return regexp.MustCompile(pattern).MatchString(typ)
}

// googleID is the number that GCE has for a thing.
func googleID(t *Thing) string { return googleNumber(t.Kind + "/" + t.Zone + "/" + t.ID) }

func googleNumber(of string) string {
	return fmt.Sprintf("%d", 1_000_000_000_000_000_000+uint64(crc32.ChecksumIEEE([]byte(of)))*1_000_003)
}

// regionOf is the region of a GCP zone.
func regionOf(zone string) string {
	if i := strings.LastIndexByte(zone, '-'); i > 0 {
		return zone[:i]
	}
	return ""
}
