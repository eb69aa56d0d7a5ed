package provision

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

// want is everything that a choice depends on.
type want struct {
	configs.Resources
	haul
	Hours float64 // how long a call is taken to work
	Built bool    // for one OS and architecture
}

const (
	// mostOffers is how many offers of one cloud a choice has. They are for failing
	// over, and a cloud that has turned that many down has nothing.
	mostOffers = 64
	// mostAlike is how many of them are the cheapest, whatever they are; the others
	// are of a type that is not among those before, since a quota or a shortage often
	// is one of the type.
	mostAlike = 32
	// mostRunners is how many runners-up a choice has.
	mostRunners = 5
)

// rank gives the offers that satisfy w, the one that costs least first, each
// once.
func (p *planner) rank(ctx context.Context, w *want) (Choice, error) {
	alts := Alternatives(w.Resources)
	streams, err := p.streams(ctx, alts, w)
	if err != nil {
		return Choice{}, err
	}
	all := basket{perCloud: make([]int, len(p.clouds)), types: make([]bool, len(p.types))}
	for {
		s := cheapest(streams, &all, w.Hours)
		if s == nil {
			break
		}
		it := s.shelf.items[s.next]
		s.next++
		if w.Built && len(all.offers) > 0 && (it.OS != all.offers[0].OS || it.Arch != all.offers[0].Arch) {
			continue
		}
		if len(alts) > 1 && all.has(it.Offer) { // an offer may satisfy several alternatives
			continue
		}
		all.add(it, s)
	}
	if len(all.offers) == 0 {
		return Choice{}, nil
	}
	choice := Choice{DataCost: all.data[0], Offers: make([]Offer, len(all.offers))}
	for i, o := range all.offers {
		choice.Offers[i] = *o
	}
	choice.Runners = p.runners(choice.Offers, all.data, w)
	return choice, nil
}

// basket is what a choice is made of.
type basket struct {
	offers   []*Offer
	data     []float64 // USD per call, of each offer
	perCloud []int     // how many offers
	types    []bool    // which types there are, by number
}

func (b *basket) add(it item, s *stream) {
	b.offers, b.data = append(b.offers, it.Offer), append(b.data, s.data)
	b.perCloud[s.shelf.cloud]++
	b.types[it.typ] = true
}

func (b *basket) has(o *Offer) bool {
	key := keyOf(*o)
	return slices.ContainsFunc(b.offers, func(other *Offer) bool { return keyOf(*other) == key })
}

// stream is the offers of a shelf that satisfy an alternative, one after the
// other.
type stream struct {
	shelf *shelf
	alt   *configs.Resources
	data  float64 // USD per call
	next  int
	sure  int // the offer before this one is known to satisfy alt
}

// streams looks at every shelf for each alternative.
func (p *planner) streams(ctx context.Context, alts []configs.Resources, w *want) ([]stream, error) {
	var streams []stream
	for i := range alts {
		alt := &alts[i]
		for at, cloud := range p.clouds {
			if len(alt.Clouds) > 0 && !slices.Contains(alt.Clouds, cloud.Name()) {
				continue
			}
			shelves, err := p.shelves(ctx, at, alt)
			if err != nil {
				return nil, err
			}
			for j := range shelves {
				s := &shelves[j]
				streams = append(streams, stream{shelf: s, alt: alt, data: p.egress.cost(cloud, s.region, w.haul)})
			}
		}
	}
	return streams, nil
}

// seek goes to the next offer of the stream that satisfies its alternative and
// that the basket has room for; it reports whether there is one.
func (s *stream) seek(b *basket) bool {
	items, n := s.shelf.items, b.perCloud[s.shelf.cloud]
	if n == mostOffers {
		s.next = len(items)
	}
	for ; s.next < len(items); s.next++ {
		it := &items[s.next]
		if n >= mostAlike && b.types[it.typ] {
			continue
		}
		if s.sure == s.next+1 || Fits(it.Offer, s.alt) {
			s.sure = s.next + 1
			return true
		}
	}
	return false
}

// cheapest gives the stream whose next offer costs least for one call of so many
// hours; nil when all are at their end.
func cheapest(streams []stream, b *basket, hours float64) *stream {
	var best *stream
	for i := range streams {
		if s := &streams[i]; s.seek(b) && (best == nil || s.before(best, hours)) {
			best = s
		}
	}
	return best
}

func (s *stream) before(other *stream, hours float64) bool {
	if s.shelf.cooled != other.shelf.cooled {
		return other.shelf.cooled
	}
	a, b := s.shelf.items[s.next].Offer, other.shelf.items[other.next].Offer
	if x, y := a.PricePerHour*hours+s.data, b.PricePerHour*hours+other.data; x != y {
		return x < y
	}
	return CompareOffers(a, b) < 0
}

// cooldown gives the cooldown that an offer is on, the one that lasts longest, or
// nil.
func (p *planner) cooldown(o *Offer) *cluster.Cooldown {
	var last *cluster.Cooldown
	for i := range p.opts.Cooldowns {
		c := &p.opts.Cooldowns[i]
		if covers(*c, *o) && (last == nil || c.Until.After(last.Until)) {
			last = c
		}
	}
	return last
}

// runners picks those of the offers behind the first that tell people something:
// each type once, and the chosen type once more in another region. Offers that
// are cheaper than the chosen one, and on cool-down, are what people look for, so
// the cheapest of those is the first.
func (p *planner) runners(offers []Offer, data []float64, w *want) []Runner {
	type kind struct {
		cloud, typ, gpu string
		spot, elsewhere bool
	}
	first := &offers[0]
	kindOf := func(o *Offer) kind {
		alike := o.Cloud == first.Cloud && o.Type == first.Type && o.GPU == first.GPU && o.Spot == first.Spot
		return kind{o.Cloud, o.Type, o.GPU, o.Spot, alike && o.Region != first.Region}
	}
	seen := []kind{kindOf(first)}
	var runners []Runner
	add := func(i int) {
		o := &offers[i]
		if k := kindOf(o); !slices.Contains(seen, k) {
			seen = append(seen, k)
			runners = append(runners, Runner{Offer: *o, DataCost: data[i], Why: p.why(o, first, data[i]-data[0], w)})
		}
	}
	cost := func(i int) float64 { return offers[i].PricePerHour*w.Hours + data[i] }
	for i := 1; i < len(offers); i++ {
		if cost(i) < cost(0) { // only a cooldown can have put it behind
			add(i)
			break
		}
	}
	for i := 1; i < len(offers) && len(runners) < mostRunners; i++ {
		add(i)
	}
	return runners
}

// why says what an offer costs more than the chosen one.
func (p *planner) why(o, chosen *Offer, data float64, w *want) string {
	var reasons []string
	if c := p.cooldown(o); c != nil {
		reason := "could not be had"
		switch c.Kind {
		case cluster.Capacity:
			reason = "was out of capacity"
		case cluster.Quota:
			reason = "was beyond a quota"
		case cluster.Price:
			reason = "was not to be had at its price"
		}
		minutes := (c.Until.Sub(p.opts.Now) + time.Minute - 1) / time.Minute
		reasons = append(reasons, fmt.Sprintf("%s, so it is tried last for the next %d min", reason, minutes))
	}
	const least = 1e-6 // USD; less than that is rounding
	if more := o.PricePerHour - chosen.PricePerHour; more >= least {
		reasons = append(reasons, dollars(more)+"/h more")
	}
	if data >= least {
		reasons = append(reasons, fmt.Sprintf("moving %.4g GiB costs %s more", w.Out+w.In, dollars(data)))
	}
	return cmp.Or(strings.Join(reasons, "; "), "costs the same")
}

// dollars prints cents, and more digits for what is less than one.
func dollars(usd float64) string {
	if usd < 0.01 {
		return fmt.Sprintf("$%.2g", usd)
	}
	return fmt.Sprintf("$%.2f", usd)
}
