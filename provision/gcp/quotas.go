package gcp

import (
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"

	"github.com/levinrun/levin/provision"
)

// quotas are limits and what is used of them, by metric.
type quotas map[string]*computepb.Quota

func quotasOf(all []*computepb.Quota) quotas {
	q := quotas{}
	for _, one := range all {
		q[one.GetMetric()] = one
	}
	return q
}

// need is how much of a limit an offer takes.
type need struct {
	metric string
	amount float64
}

// needsOf gives what an offer takes of a region's limits, by "CPU quota" and "GPU
// quota" of https://cloud.google.com/compute/resource-usage: of those that the
// region lists, since limits of newer families are counted elsewhere (Cloud
// Quotas). A spot machine counts against the limits for preemptible ones where the
// project has been granted any, else against the common ones.
func (q quotas) needsOf(o provision.Offer) []need {
	var needs []need
	add := func(metric string, amount float64) {
		if spot := q["PREEMPTIBLE_"+metric]; o.Spot && spot.GetLimit() > 0 {
			needs = append(needs, need{spot.GetMetric(), amount})
		} else if q[metric] != nil {
			needs = append(needs, need{metric, amount})
		}
	}
	family, _, _ := strings.Cut(o.Type, "-")
	switch {
	case o.Spot && q["PREEMPTIBLE_CPUS"].GetLimit() > 0:
		add("CPUS", o.CPUs) // of every family
	case family == "e2", family == "n1", family == "f1", family == "g1":
		add("CPUS", o.CPUs)
	default:
		add(strings.ToUpper(family)+"_CPUS", o.CPUs)
	}
	if o.GPU == "" {
		return needs
	}
	for _, g := range gpus() {
		if g.model == o.GPU {
			add("NVIDIA_"+g.quota+"_GPUS", float64(o.GPUs))
			break
		}
	}
	return needs
}
