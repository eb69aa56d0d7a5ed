package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

// Choice is an offer with its fallbacks, cheapest first. It is never empty.
type Choice struct {
	Component string  `json:"component"`
	Offers    []Offer `json:"offers"`
}

// Plan is an offer (with fallbacks) for each component.
type Plan struct {
	Choices []Choice `json:"choices"` // in the app's order
}

// Choice gives the choice of a component; the bool is false when the plan has
// none.
func (p Plan) Choice(component string) (Choice, bool) {
	for _, c := range p.Choices {
		if c.Component == component {
			return c, true
		}
	}
	return Choice{}, false
}

// NewPlan chooses, for each component of app, among what the clouds offer. It
// needs no network.
//
// Components that nothing satisfies are all named in one *cluster.Failure, each
// with the offer that came closest and what that one lacks. Its kind is BadInput
// when all of them ask for a cloud by a name that is not among the given ones,
// else Provisioning.
func NewPlan(ctx context.Context, app *configs.App, clouds []Cloud) (Plan, error) {
	var plan Plan
	var misses []miss
	for _, c := range app.Components {
		offers, err := offersFor(ctx, c.Resources, clouds)
		if err != nil {
			return Plan{}, err
		}
		if len(offers) == 0 {
			m, err := explain(ctx, c, clouds)
			if err != nil {
				return Plan{}, err
			}
			misses = append(misses, m)
			continue
		}
		plan.Choices = append(plan.Choices, Choice{Component: c.Name, Offers: offers})
	}
	if len(misses) > 0 {
		return Plan{}, unsatisfied(misses)
	}
	return plan, nil
}

// offersFor gives what satisfies r, cheapest first, each offer once.
func offersFor(ctx context.Context, r configs.Resources, clouds []Cloud) ([]Offer, error) {
	var all []Offer
	seen := map[offerKey]bool{}
	for _, alt := range Alternatives(r) {
		for _, cloud := range clouds {
			if len(alt.Clouds) > 0 && !slices.Contains(alt.Clouds, cloud.Name()) {
				continue
			}
			offers, err := cloud.Offers(ctx, alt)
			if err != nil {
				return nil, fmt.Errorf("offers of %s: %w", cloud.Name(), err)
			}
			for _, o := range offers {
				if len(Unmet(o, alt)) == 0 && !seen[keyOf(o)] {
					seen[keyOf(o)] = true
					all = append(all, o)
				}
			}
		}
	}
	SortOffers(all)
	return all, nil
}

// miss is a component that nothing satisfies.
type miss struct {
	component string
	why       string
	unknown   bool // it asks only for clouds that are not there
}

// explain finds the offer that comes closest to what a component asks for: the
// one with the fewest reasons against it.
func explain(ctx context.Context, c configs.Component, clouds []Cloud) (miss, error) {
	var names []string
	for _, cloud := range clouds {
		names = append(names, cloud.Name())
	}
	if asked := unknownClouds(c.Resources, names); len(asked) > 0 {
		return miss{
			component: c.Name,
			why:       fmt.Sprintf("it asks for cloud %s; there is only %s", strings.Join(asked, ", "), strings.Join(names, ", ")),
			unknown:   true,
		}, nil
	}
	var nearest *Offer
	var lacks []string
	for _, alt := range Alternatives(c.Resources) {
		for _, cloud := range clouds {
			if len(alt.Clouds) > 0 && !slices.Contains(alt.Clouds, cloud.Name()) {
				continue
			}
			offers, err := cloud.Offers(ctx, configs.Resources{})
			if err != nil {
				return miss{}, fmt.Errorf("offers of %s: %w", cloud.Name(), err)
			}
			for _, o := range offers {
				reasons := Unmet(o, alt)
				if len(reasons) == 0 {
					// The cloud is stricter than the common rules (a capacity it does
					// not know); it cannot say so itself.
					reasons = []string{"does not state all that is asked for"}
				}
				if nearest == nil || len(reasons) < len(lacks) {
					nearest, lacks = &o, reasons
				}
			}
		}
	}
	if nearest == nil {
		return miss{component: c.Name, why: fmt.Sprintf("nothing at all is offered by %s", strings.Join(names, ", "))}, nil
	}
	return miss{
		component: c.Name,
		why:       fmt.Sprintf("closest is %s: %s", nearest, strings.Join(lacks, "; ")),
	}, nil
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
