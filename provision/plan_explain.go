package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

// miss is a component that nothing satisfies.
type miss struct {
	component string
	why       string
	unknown   bool // it asks only for clouds that are not there
}

// explain finds the offer that comes closest to what a component asks for (see
// distance).
func (p *planner) explain(ctx context.Context, c *configs.Component) (miss, error) {
	key, err := json.Marshal(c.Resources)
	if err != nil {
		return miss{}, fmt.Errorf("planning %s: %w", c.Name, err)
	}
	m, ok := p.missed[string(key)]
	if !ok {
		if m, err = p.nearest(ctx, c.Resources); err != nil {
			return miss{}, err
		}
		p.missed[string(key)] = m
	}
	m.component = c.Name
	return m, nil
}

// Nearest says, for people, which of the clouds' offers comes closest to r, that
// nothing satisfies, and what that one lacks.
func Nearest(ctx context.Context, r configs.Resources, clouds []Cloud) (string, error) {
	m, err := newPlanner(clouds, PlanOptions{}).nearest(ctx, r)
	return m.why, err
}

func (p *planner) nearest(ctx context.Context, r configs.Resources) (miss, error) {
	names := make([]string, len(p.clouds))
	for i, cloud := range p.clouds {
		names[i] = cloud.Name()
	}
	if asked := unknownClouds(r, names); len(asked) > 0 {
		return miss{
			why:     fmt.Sprintf("it asks for cloud %s; there is only %s", strings.Join(asked, ", "), strings.Join(names, ", ")),
			unknown: true,
		}, nil
	}
	var nearest *Offer
	var of configs.Resources
	least := math.Inf(1)
	for _, alt := range Alternatives(r) {
		for _, cloud := range p.clouds {
			if len(alt.Clouds) > 0 && !slices.Contains(alt.Clouds, cloud.Name()) {
				continue
			}
			offers, err := p.everything(ctx, cloud)
			if err != nil {
				return miss{}, err
			}
			for i := range offers {
				if d := distance(&offers[i], &alt); d < least {
					nearest, least, of = &offers[i], d, alt
				}
			}
		}
	}
	if nearest == nil {
		return miss{why: fmt.Sprintf("nothing at all is offered by %s", strings.Join(names, ", "))}, nil
	}
	reasons := Unmet(*nearest, of)
	if len(reasons) == 0 { // the cloud is stricter than the common rules, and cannot say so itself
		reasons = []string{"does not state all that is asked for"}
	}
	return miss{why: fmt.Sprintf("closest is %s: %s", nearest, strings.Join(reasons, "; "))}, nil
}

// distance says how far an offer is from satisfying r: 1 for each thing that it
// lacks, more when little of it is there, and most for GPUs, which are what people
// ask for in the first place.
func distance(o *Offer, r *configs.Resources) float64 {
	l := lacking(o, r)
	if l == 0 {
		return 1
	}
	short := func(has, asked float64) float64 {
		if asked <= 0 || has >= asked {
			return 0
		}
		return 1 - has/asked
	}
	d := float64(l.count())
	if l&lackCPUs != 0 {
		d += short(o.CPUs, r.CPUs.Min)
	}
	if l&lackMemory != 0 {
		d += short(o.Memory, r.Memory.Min)
	}
	if l&lackPrice != 0 {
		d += short(r.MaxPrice, o.PricePerHour)
	}
	switch {
	case l&lackGPU != 0:
		d += 4
	case l&lackModel != 0:
		d += 3
	case l&lackGPUs != 0:
		d += short(float64(o.GPUs), float64(r.GPU.Count))
		if !isModel(o, r.GPU.Models) {
			d += 3
		}
	case l&lackGPUMemory != 0:
		d += short(o.GPUMemory, r.GPU.Memory.Min)
	}
	return d
}

// everything gives all that a cloud offers, however it is bought.
func (p *planner) everything(ctx context.Context, cloud Cloud) ([]Offer, error) {
	offers, ok := p.all[cloud.Name()]
	if !ok {
		var err error
		if offers, err = cloud.Offers(ctx, configs.Resources{Spot: configs.SpotAuto}); err != nil {
			return nil, fmt.Errorf("offers of %s: %w", cloud.Name(), err)
		}
		p.all[cloud.Name()] = offers
	}
	return offers, nil
}

// unknownClouds gives the clouds that r asks for when not one of them is there.
func unknownClouds(r configs.Resources, have []string) []string {
	var asked []string
	for _, alt := range Alternatives(r) {
		if len(alt.Clouds) == 0 {
			return nil
		}
		for _, name := range alt.Clouds {
			if slices.Contains(have, name) {
				return nil
			}
			if !slices.Contains(asked, name) {
				asked = append(asked, name)
			}
		}
	}
	return asked
}

func unsatisfied(misses []miss) error {
	f := &cluster.Failure{Kind: cluster.BadInput}
	lines := make([]error, len(misses))
	names := make([]string, len(misses))
	for i, m := range misses {
		if !m.unknown {
			f.Kind = cluster.Provisioning
		}
		lines[i] = fmt.Errorf("%s: %s", m.component, m.why)
		names[i] = m.component
	}
	if len(misses) == 1 {
		f.What = fmt.Sprintf("no machine satisfies component %s", names[0])
		f.Err = errors.New(misses[0].why)
	} else {
		f.What = fmt.Sprintf("no machine satisfies %d components", len(misses))
		f.Err = errors.Join(lines...)
		f.Words = "\n    " + strings.ReplaceAll(f.Err.Error(), "\n", "\n    ")
	}
	if f.Kind == cluster.BadInput {
		f.Next = "name a cloud of the settings, or choose one with --cloud"
	} else {
		f.Next = "ask for less in resources, or choose another cloud with --cloud"
	}
	return f
}
