package emulator

import (
	"slices"
	"testing"

	"github.com/levinrun/levin/provision/catalog"
)

// Whatever the catalog offers can be had here: its regions, zones, machine types
// and architectures are those of the emulated clouds.
func TestTheCatalogCanBeHad(t *testing.T) {
	for _, cloud := range []string{AWS, GCP} {
		c, err := catalog.Embedded(cloud)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Rows) == 0 {
			t.Errorf("%s has no offers", cloud)
		}
		for _, row := range c.Rows {
			for _, zone := range row.Zones {
				if !slices.Contains(Zones(cloud, row.Region), zone) {
					t.Errorf("%s: there is no zone %s in %s", cloud, zone, row.Region)
				}
			}
			if !slices.Contains(Regions(cloud), row.Region) {
				t.Errorf("%s: there is no region %s", cloud, row.Region)
			}
			if !validType(cloud, row.Type) || archOfType(cloud, row.Type) != row.Arch {
				t.Errorf("%s: type %s is %s here, valid: %t", cloud, row.Type, archOfType(cloud, row.Type), validType(cloud, row.Type))
			}
		}
	}
}

// The name of an AWS zone says nothing about its id, and each has one of its own.
func TestZoneNames(t *testing.T) {
	for _, region := range Regions(AWS) {
		for _, id := range Zones(AWS, region) {
			if back, ok := zoneID(region, zoneName(id)); !ok || back != id {
				t.Errorf("%s is %s is %s", id, zoneName(id), back)
			}
			if zone, ok := subnetZone(region, subnetID(id)); !ok || zone != id {
				t.Errorf("the subnet of %s is in %s", id, zone)
			}
		}
	}
	if zoneName("use1-az9") != "" {
		t.Error("a zone that there is not has a name")
	}
	if _, ok := zoneID("us-east-1", "us-east-1z"); ok {
		t.Error("a name of no zone has an id")
	}
}
