package emulator

import (
	"context"
	"fmt"
	"regexp"
	"strings"
)

// families are the public image families, by project.
// https://cloud.google.com/compute/docs/images/os-details
// https://cloud.google.com/deep-learning-vm/docs/images
func families() map[string]string {
	return map[string]string{
		"ubuntu-os-cloud":               `^ubuntu-(minimal-)?(2204-lts(-arm64)?|2[4-9]04-lts-(amd64|arm64))$`,
		"debian-cloud":                  `^debian-1[1-3](-arm64)?$`,
		"rocky-linux-cloud":             `^rocky-linux-[89](-optimized-gcp)?(-arm64)?$`,
		"deeplearning-platform-release": `^(common|pytorch|tf)(-[0-9]+)*-(cu[0-9]+|gpu)(-[a-z0-9]+)*$`,
	}
}

// gcpImage finds an image as the provider does: PROJECT/FAMILY, FAMILY, or a path
// that ends in global/images/family/FAMILY or global/images/NAME. An image of the
// project's own is there when its name ends in its architecture.
func gcpImage(name string) (image, bool) {
	name = strings.TrimPrefix(name, "https://www.googleapis.com/compute/v1/")
	in, family := "", name
	if rest, ok := strings.CutPrefix(name, "projects/"); ok {
		in, family, _ = strings.Cut(rest, "/global/images/")
		family = strings.TrimPrefix(family, "family/")
	} else if p, f, ok := strings.Cut(name, "/"); ok {
		in, family = p, f
	}
	family = regexp.MustCompile(`-v[0-9]{8}$`).ReplaceAllString(family, "")
	i := image{id: name, arch: "amd64", disk: 10}
	if strings.HasSuffix(family, "arm64") {
		i.arch = "arm64"
	}
	for p, pattern := range families() {
		if (in == "" || in == p) && regexp.MustCompile(pattern).MatchString(family) {
			if p == "deeplearning-platform-release" {
				i.disk = 50
			}
			i.id = "projects/" + p + "/global/images/" + family + "-v20260101"
			return i, true
		}
	}
	own := (in == "" || in == project) && regexp.MustCompile(`-(amd64|arm64)$`).MatchString(family)
	return i, own
}

func gcpDataSources() map[string]dataSource {
	return map[string]dataSource{
		"google_compute_image":      readImage,
		"google_compute_zones":      readGoogleZones,
		"google_compute_network":    readNetwork,
		"google_compute_subnetwork": readSubnetwork,
		"google_client_config": func(_ context.Context, s *session, _ values) (values, error) {
			return values{
				"id":      "projects/" + s.project + "/regions/" + s.region + "/zones/" + s.zone,
				"project": s.project, "region": s.region, "zone": s.zone, "access_token": "emulated", "default_labels": s.tags,
			}, nil
		},
		"google_project": func(_ context.Context, s *session, in values) (values, error) {
			if id := in.str("project_id"); id != "" && id != s.project {
				return nil, fmt.Errorf("projects/%s not found", id)
			}
			return values{"id": "projects/" + s.project, "project_id": s.project, "name": s.project, "number": projectNumber}, nil
		},
	}
}

func readImage(_ context.Context, s *session, in values) (values, error) {
	name := in.str("family")
	if name == "" {
		name = in.str("name")
	}
	where := in.str("project")
	if where == "" {
		where = s.project
	}
	i, ok := gcpImage(where + "/" + name)
	if !ok || name == "" {
		return nil, fmt.Errorf("error retrieving image information: googleapi: Error 404: The resource 'projects/%s/global/images/family/%s' was not found, notFound", where, name)
	}
	return values{
		"id": i.id, "self_link": "https://www.googleapis.com/compute/v1/" + i.id, "name": last(i.id), "family": in.str("family"),
		"project": where, "status": "READY", "disk_size_gb": i.disk, "image_id": googleNumber(i.id),
	}, nil
}

func readGoogleZones(_ context.Context, s *session, in values) (values, error) {
	region := last(in.str("region"))
	if region == "" {
		region = s.region
	}
	if region == "" {
		return nil, verbatim("Unable to determine region: region: required field is not set")
	}
	names := []any{}
	for _, zone := range Zones(GCP, region) {
		if status := in.str("status"); status == "" || status == "UP" {
			names = append(names, zone)
		}
	}
	if len(Zones(GCP, region)) == 0 {
		return nil, fmt.Errorf("unknown region %q", region)
	}
	return values{"id": "projects/" + s.project + "/regions/" + region, "names": names, "project": s.project}, nil
}

func readNetwork(_ context.Context, s *session, in values) (values, error) {
	name, err := s.network(in.str("name"))
	if err != nil {
		return nil, fmt.Errorf("googleapi: Error 404: %w, notFound", err)
	}
	id := "projects/" + s.project + "/global/networks/" + name
	return values{"id": id, "self_link": "https://www.googleapis.com/compute/v1/" + id, "name": name, "project": s.project}, nil
}

func readSubnetwork(_ context.Context, s *session, in values) (values, error) {
	region, link := in.str("region"), in.str("self_link")
	if region == "" {
		region = s.region
	}
	if _, rest, ok := strings.Cut(link, "/regions/"); ok {
		region, _, _ = strings.Cut(rest, "/")
	}
	if link == "" {
		link = in.str("name")
	}
	if _, ok := zonesOfGCP()[region]; !ok {
		return nil, fmt.Errorf("unknown region %q", region)
	}
	name, _, err := s.subnetwork(region, link, "")
	if err != nil {
		return nil, fmt.Errorf("googleapi: Error 404: %w, notFound", err)
	}
	id := "projects/" + s.project + "/regions/" + region + "/subnetworks/" + name
	return values{
		"id": id, "self_link": "https://www.googleapis.com/compute/v1/" + id, "name": name, "region": region, "project": s.project,
		"network": "https://www.googleapis.com/compute/v1/projects/" + s.project + "/global/networks/default",
	}, nil
}
