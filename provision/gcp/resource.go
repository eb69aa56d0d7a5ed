package gcp

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/api/googleapi"
)

// resource names something in Google's own way:
// projects/P/zones/Z/instances/N, projects/P/regions/R/resourcePolicies/N,
// projects/P/global/firewalls/N.
type resource struct {
	project    string
	zone       string // of what is in a zone
	region     string // of what is in a region, and of a zone
	collection string // "instances", …
	name       string
}

// parseResource reads such a name, or a link that ends in one.
func parseResource(path string) (resource, error) {
	at := strings.Index("/"+path, "/projects/")
	if at < 0 {
		return resource{}, fmt.Errorf("%q does not name anything of Google's", path)
	}
	parts := strings.Split(path[at:], "/")
	r := resource{project: parts[1]}
	switch {
	case len(parts) == 6 && parts[2] == "zones":
		r.zone, r.region = parts[3], regionOf(parts[3])
	case len(parts) == 6 && parts[2] == "regions":
		r.region = parts[3]
	case len(parts) == 5 && parts[2] == "global":
	default:
		return resource{}, fmt.Errorf("%q does not name anything of Google's", path)
	}
	r.collection, r.name = parts[len(parts)-2], parts[len(parts)-1]
	if r.name == "" || r.project == "" {
		return resource{}, fmt.Errorf("%q does not name anything of Google's", path)
	}
	return r, nil
}

func (r resource) String() string {
	where := "global"
	if r.zone != "" {
		where = "zones/" + r.zone
	} else if r.region != "" {
		where = "regions/" + r.region
	}
	return "projects/" + r.project + "/" + where + "/" + r.collection + "/" + r.name
}

// regionOf is the region of a zone.
func regionOf(zone string) string {
	if i := strings.LastIndexByte(zone, '-'); i > 0 {
		return zone[:i]
	}
	return ""
}

// last is the last part of a link.
func last(link string) string { return link[strings.LastIndexByte(link, '/')+1:] }

// notFound reports whether Google says that what was asked for is not there.
func notFound(err error) bool {
	var api *googleapi.Error
	if errors.As(err, &api) {
		return api.Code == http.StatusNotFound
	}
	var op *operationError
	return errors.As(err, &op) && (op.code == "RESOURCE_NOT_FOUND" || op.status == http.StatusNotFound)
}

// missing reports whether Google says that this very thing is not there. A project
// or a zone that is not there is not found either, and says nothing of a machine.
func missing(err error, r resource) bool {
	var op *operationError
	if errors.As(err, &op) {
		return notFound(err)
	}
	var api *googleapi.Error
	return notFound(err) && errors.As(err, &api) && strings.Contains(api.Message, "/"+r.collection+"/"+r.name+"'")
}
