package catalog

import (
	"slices"

	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
)

// Offers gives what satisfies r (one alternative) as offers of the cloud called
// name, cheapest first: one for each type, zone and way to buy (on demand, spot).
// regions narrows them; nil is every region.
func (c *Catalog) Offers(name string, regions []string, r configs.Resources) []provision.Offer {
	all := c.offersOf(name)
	var fit []int32
	for i := range all {
		o := &all[i]
		if provision.Fits(o, &r) && (len(regions) == 0 || slices.Contains(regions, o.Region)) {
			fit = append(fit, int32(i))
		}
	}
	if len(fit) == 0 {
		return nil
	}
	offers := make([]provision.Offer, len(fit))
	for i, at := range fit {
		offers[i] = all[at]
	}
	return offers
}

// offersOf gives everything in the catalog as offers of the cloud called name,
// cheapest first. Nobody may change it.
func (c *Catalog) offersOf(name string) []provision.Offer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.offers[name] == nil {
		if c.offers == nil {
			c.offers = map[string][]provision.Offer{}
		}
		c.offers[name] = newOffers(name, c.Rows)
	}
	return c.offers[name]
}

func newOffers(name string, rows []Row) []provision.Offer {
	offers := make([]provision.Offer, 0, 4*len(rows))
	for i := range rows {
		row := &rows[i]
		o := provision.Offer{
			Cloud: name, Region: row.Region, Type: row.Type, OS: "linux", Arch: row.Arch,
			CPUs: row.CPUs, Memory: row.Memory, GPU: row.GPU, GPUs: row.GPUs, GPUMemory: row.GPUMemory,
		}
		zones := row.Zones
		if len(zones) == 0 {
			zones = []string{""}
		}
		for _, o.Zone = range zones {
			if row.Price > 0 {
				o.PricePerHour, o.Spot = row.Price, false
				offers = append(offers, o)
			}
			if row.SpotPrice > 0 {
				o.PricePerHour, o.Spot = row.SpotPrice, true
				offers = append(offers, o)
			}
		}
	}
	// Offers are large, so their places are sorted and not they themselves.
	order := make([]int32, len(offers))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return provision.CompareOffers(&offers[a], &offers[b]) })
	sorted := make([]provision.Offer, len(offers))
	for i, at := range order {
		sorted[i] = offers[at]
	}
	return sorted
}
