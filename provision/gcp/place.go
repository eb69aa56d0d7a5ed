package gcp

import (
	"fmt"
	"strings"
)

// The collections of Compute Engine that Levin's things are in.
const (
	instances = "instances"
	disks     = "disks"
	firewalls = "firewalls"
	policies  = "resourcePolicies"
)

// place is the path of something in Compute Engine, which is also its id:
// projects/P/zones/Z/instances/N, projects/P/regions/R/resourcePolicies/N or
// projects/P/global/firewalls/N.
type place struct {
	project    string
	where      string // zone or region; "" for what is global
	collection string
	name       string
}

// String gives the path.
func (p place) String() string {
	scope := "global"
	switch {
	case p.collection == policies:
		scope = "regions/" + p.where
	case p.where != "":
		scope = "zones/" + p.where
	}
	return fmt.Sprintf("projects/%s/%s/%s/%s", p.project, scope, p.collection, p.name)
}

// parsePlace reads a path, or a link that ends in one.
func parsePlace(id string) (place, bool) {
	if at := strings.Index(id, "projects/"); at > 0 && id[at-1] == '/' {
		id = id[at:]
	}
	parts := strings.Split(id, "/")
	p := place{}
	switch {
	case len(parts) == 6 && parts[0] == "projects" && (parts[2] == "zones" || parts[2] == "regions"):
		p = place{project: parts[1], where: parts[3], collection: parts[4], name: parts[5]}
	case len(parts) == 5 && parts[0] == "projects" && parts[2] == "global":
		p = place{project: parts[1], collection: parts[3], name: parts[4]}
	}
	return p, p.name != "" && p.project != "" && p.String() == id
}

// regionOf gives the region of a zone: us-central1 of us-central1-a.
func regionOf(zone string) string {
	if at := strings.LastIndexByte(zone, '-'); at > 0 {
		return zone[:at]
	}
	return zone
}

// last gives the last part of a link.
func last(link string) string { return link[strings.LastIndexByte(link, '/')+1:] }
