package provision

import (
	"context"
	"fmt"

	"github.com/levinrun/levin/configs"
)

// shelf is offers of one cloud and region, so that moving data costs the same
// for all of them, and all on cool-down or none. The cheapest is first, as the
// cloud gave them.
type shelf struct {
	cloud  int // in planner.clouds
	region string
	cooled bool
	items  []item
}

type item struct {
	*Offer
	typ int // number of the type
}

// typeNumbers numbers what the same quota, or the same shortage, may be about.
type typeNumbers map[offerKey]int

func (t typeNumbers) of(o *Offer) int {
	key := offerKey{cloud: o.Cloud, typ: o.Type, gpu: o.GPU, gpus: o.GPUs, spot: o.Spot}
	n, ok := t[key]
	if !ok {
		n = len(t)
		t[key] = n
	}
	return n
}

// shelves gives what a cloud offers for r; more than that, if it has a list.
func (p *planner) shelves(ctx context.Context, cloud int, r *configs.Resources) ([]shelf, error) {
	if listed, ok := p.listed[cloud]; ok {
		return listed, nil
	}
	var offers []Offer
	var err error
	lister, ok := p.clouds[cloud].(Lister)
	if ok {
		offers, err = lister.List(ctx)
	} else {
		offers, err = p.clouds[cloud].Offers(ctx, *r)
	}
	if err != nil {
		return nil, fmt.Errorf("offers of %s: %w", p.clouds[cloud].Name(), err)
	}
	var shelves []shelf
	for i := range offers {
		o := &offers[i]
		cooled := p.cooldown(o) != nil
		at := 0
		for at < len(shelves) && (shelves[at].region != o.Region || shelves[at].cooled != cooled) {
			at++
		}
		if at == len(shelves) {
			shelves = append(shelves, shelf{cloud: cloud, region: o.Region, cooled: cooled})
		}
		shelves[at].items = append(shelves[at].items, item{o, p.types.of(o)})
	}
	if ok {
		p.listed[cloud] = shelves
	}
	return shelves, nil
}
