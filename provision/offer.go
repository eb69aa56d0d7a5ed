package provision

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
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
	cloud, region, zone, typ string
	spot                     bool
}

func keyOf(o Offer) offerKey { return offerKey{o.Cloud, o.Region, o.Zone, o.Type, o.Spot} }

// SortOffers puts the cheapest first. At the same price a smaller machine comes
// before a bigger one, so that work without a GPU leaves the GPU to others; the
// rest of the order only makes it always the same.
func SortOffers(offers []Offer) {
	slices.SortStableFunc(offers, func(a, b Offer) int {
		return cmp.Or(
			cmp.Compare(a.PricePerHour, b.PricePerHour),
			cmp.Compare(a.Cloud, b.Cloud),
			cmp.Compare(a.GPUs, b.GPUs),
			cmp.Compare(a.CPUs, b.CPUs),
			cmp.Compare(a.Memory, b.Memory),
			cmp.Compare(a.Region, b.Region),
			cmp.Compare(a.Zone, b.Zone),
			cmp.Compare(a.Type, b.Type),
		)
	})
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
	r.Arch = cmp.Or(over.Arch, r.Arch)
	r.Machine = cmp.Or(over.Machine, r.Machine)
	r.Size = cmp.Or(over.Size, r.Size)
	r.MaxPrice = cmp.Or(over.MaxPrice, r.MaxPrice)
	r.AnyOf = over.AnyOf
	return r
}

// Unmet says, for people, what of r the offer does not satisfy; nothing means
// that it satisfies r. r is one alternative: its any_of is not looked at.
//
// Hardware that the offer lists as Missing is excused, since such an offer says
// itself that it runs the work without; as the list is text for people, an offer
// that misses anything is excused from all hardware. An offer whose Disk is 0 can
// have any disk; any other capacity that is 0 satisfies only a range that has no
// lower bound.
func Unmet(o Offer, r configs.Resources) []string {
	var lacks []string
	lack := func(format string, args ...any) { lacks = append(lacks, fmt.Sprintf(format, args...)) }

	if len(r.Clouds) > 0 && !slices.Contains(r.Clouds, o.Cloud) {
		lack("cloud must be %s", strings.Join(r.Clouds, " or "))
	}
	if len(r.Regions) > 0 && !slices.Contains(r.Regions, o.Region) && len(o.Missing) == 0 {
		lack("region must be %s", strings.Join(r.Regions, " or "))
	}
	if r.Machine != "" && r.Machine != o.Type && len(o.Missing) == 0 {
		lack("machine must be %s", r.Machine)
	}
	if r.MaxPrice > 0 && o.PricePerHour > r.MaxPrice {
		lack("costs $%s an hour, max_price is $%s", number(o.PricePerHour), number(r.MaxPrice))
	}
	if len(o.Missing) > 0 {
		return lacks
	}
	if r.Arch != "" && r.Arch != o.Arch {
		lack("arch must be %s, is %s", r.Arch, o.Arch)
	}
	capacity := func(what string, asked configs.Range, has float64, unit string) {
		if asked.Contains(has) {
			return
		}
		have := number(has) + unit
		if has == 0 {
			have = "unknown"
		}
		lack("%s must be %s, is %s", what, rangeText(asked, unit), have)
	}
	capacity("cpus", r.CPUs, o.CPUs, "")
	capacity("memory", r.Memory, o.Memory, "GB")
	if o.Disk != 0 {
		capacity("disk", r.Disk, o.Disk, "GB")
	}
	if g := r.GPU; g != nil {
		switch {
		case o.GPUs == 0:
			lack("gpu must be %s, has none", gpuText(*g))
		case o.GPUs < g.Count:
			lack("gpu must be %s, has %d", gpuText(*g), o.GPUs)
		case len(g.Models) > 0 && !slices.Contains(g.Models, o.GPU):
			lack("gpu must be %s, is %s", gpuText(*g), o.GPU)
		default:
			capacity("gpu memory", g.Memory, o.GPUMemory, "GB")
		}
	}
	return lacks
}

func gpuText(g configs.GPU) string {
	s := cmp.Or(strings.Join(g.Models, " or "), "any model")
	if g.Count > 1 {
		s += ":" + strconv.Itoa(g.Count)
	}
	return s
}

func rangeText(r configs.Range, unit string) string {
	switch {
	case r.Max == 0:
		return number(r.Min) + unit + ".."
	case r.Min == r.Max:
		return number(r.Min) + unit
	case r.Min == 0:
		return "at most " + number(r.Max) + unit
	}
	return number(r.Min) + unit + ".." + number(r.Max) + unit
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
