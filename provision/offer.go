package provision

import (
	"cmp"
	"slices"
	"strings"

	"github.com/levinrun/levin/configs"
)

// String names the offer for people: "local/process" or "aws/us-east-1a/g4dn.xlarge".
func (o Offer) String() string {
	parts := []string{o.Cloud}
	if where := cmp.Or(o.Zone, o.Region); where != "" {
		parts = append(parts, where)
	}
	s := strings.Join(append(parts, o.Type), "/")
	if o.Spot {
		s += " (spot)"
	}
	return s
}

// offerKey says which machine an offer is, whatever it costs today.
type offerKey struct {
	cloud, region, zone, typ, gpu string
	gpus                          int
	spot                          bool
}

func keyOf(o Offer) offerKey {
	return offerKey{o.Cloud, o.Region, o.Zone, o.Type, o.GPU, o.GPUs, o.Spot}
}

// SortOffers puts the cheapest first. At the same price a smaller machine comes
// before a bigger one, so that work without a GPU leaves the GPU to others; the
// rest of the order only makes it always the same.
func SortOffers(offers []Offer) {
	slices.SortStableFunc(offers, func(a, b Offer) int { return CompareOffers(&a, &b) })
}

// CompareOffers is the order of SortOffers.
func CompareOffers(a, b *Offer) int {
	if a.PricePerHour != b.PricePerHour { // settles nearly all, and is asked very often
		return cmp.Compare(a.PricePerHour, b.PricePerHour)
	}
	return compareEquals(a, b)
}

// compareEquals orders offers that cost the same.
func compareEquals(a, b *Offer) int {
	return cmp.Or(
		cmp.Compare(a.Cloud, b.Cloud),
		cmp.Compare(a.GPUs, b.GPUs),
		cmp.Compare(a.CPUs, b.CPUs),
		cmp.Compare(a.Memory, b.Memory),
		cmp.Compare(a.Region, b.Region),
		cmp.Compare(a.Zone, b.Zone),
		cmp.Compare(a.Type, b.Type),
		cmp.Compare(a.GPU, b.GPU),
		compareSpot(a, b),
	)
}

// compareSpot puts a machine that nobody takes back before one that may be.
func compareSpot(a, b *Offer) int {
	switch {
	case a.Spot == b.Spot:
		return 0
	case b.Spot:
		return -1
	}
	return 1
}

// Alternatives gives what any_of stands for: each alternative merged over the
// rest of r, in order. Without any_of that is r alone. No alternative has any_of
// itself.
func Alternatives(r configs.Resources) []configs.Resources {
	rest := r
	rest.AnyOf = nil
	if len(r.AnyOf) == 0 {
		return []configs.Resources{rest}
	}
	var all []configs.Resources
	for _, alt := range r.AnyOf {
		all = append(all, Alternatives(merge(rest, alt))...)
	}
	return all
}

// merge puts what over sets in place of what r says.
func merge(r, over configs.Resources) configs.Resources {
	if over.GPU != nil {
		r.GPU = over.GPU
	}
	if !over.CPUs.IsZero() {
		r.CPUs = over.CPUs
	}
	if !over.Memory.IsZero() {
		r.Memory = over.Memory
	}
	if !over.Disk.IsZero() {
		r.Disk = over.Disk
	}
	if len(over.Clouds) > 0 {
		r.Clouds = over.Clouds
	}
	if len(over.Regions) > 0 {
		r.Regions = over.Regions
	}
	if len(over.Zones) > 0 {
		r.Zones = over.Zones
	}
	r.Spot = cmp.Or(over.Spot, r.Spot)
	r.Arch = cmp.Or(over.Arch, r.Arch)
	r.Machine = cmp.Or(over.Machine, r.Machine)
	r.Size = cmp.Or(over.Size, r.Size)
	r.MaxPrice = cmp.Or(over.MaxPrice, r.MaxPrice)
	r.AnyOf = over.AnyOf
	return r
}
