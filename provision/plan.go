package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

// Plan is an offer (with fallbacks) for each component.
type Plan struct {
	Choices []Choice `json:"choices"` // in the app's order
	// PricePerHour is USD per hour if every component ran at once, each on as many
	// machines as it may have.
	PricePerHour float64 `json:"price_per_hour"`

	app    *configs.App
	places map[string]int // of components in app and in Choices, by name
}

// Choice is an offer with its fallbacks. Choices of one plan may share their
// offers, so nobody may change them in place.
type Choice struct {
	Component string `json:"component"`
	// Offers are never empty. The one that costs least is first, by its price and
	// what moving data costs; those that could not be had a short while ago come after
	// the others. Those of a component with a build are all for one OS and
	// architecture. Of each cloud there are at most 64: the first 32, and the first of
	// each further type.
	Offers []Offer `json:"offers"`
	// DataCost is USD for moving what goes into one call and comes out of it, with the
	// first offer.
	DataCost float64 `json:"data_cost,omitempty"`
	// Runners are the runners-up, at most five, that differ in type or region.
	Runners []Runner `json:"runners,omitempty"`
	// Reuse names those of the components it needs whose machine this one takes over,
	// when such a machine is up and has nothing left to do. See Plan.Reuses.
	Reuse []string `json:"reuse,omitempty"`
}

// Runner is an offer that fits and was not chosen.
type Runner struct {
	Offer    Offer   `json:"offer"`
	DataCost float64 `json:"data_cost,omitempty"` // USD per call
	Why      string  `json:"why"`                 // it lost, for people: "$0.21/h more"
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

// PlanOptions is what a plan takes into account beside the app; every field may be
// left out.
type PlanOptions struct {
	// Location is where the controller runs, and with it the data between two calls:
	// "aws/us-east-1", or "" for anywhere outside clouds (see Metered).
	Location string
	// Place says where the machines of a cloud's region are, as a location. Without it
	// that is "<cloud>/<region>", and "" in a cloud without regions.
	Place func(cloud, region string) string
	// Cooldowns are offers that could not be had. Now tells which of them are over.
	Cooldowns []cluster.Cooldown
	Now       time.Time
}

// NewPlan chooses, for each component of app, among what the clouds offer. It
// needs no network.
//
// What counts is what one call costs: the price per hour for as long as the
// component's timeout, or for an hour if it has none, and moving its data. All
// data moves through the controller: the outputs of every component that this one
// needs go from the controller's location to the machine, and its own outputs go
// back. How much that is comes from output_size; who takes how much money for it
// is said by clouds that are Metered.
//
// Components that nothing satisfies are all named in one *cluster.Failure, each
// with the offer that came closest and what that one lacks. Its kind is BadInput
// when all of them ask for a cloud by a name that is not among the given ones,
// else Provisioning.
func NewPlan(ctx context.Context, app *configs.App, clouds []Cloud, o PlanOptions) (Plan, error) {
	p := newPlanner(clouds, o)
	hauls := haulsOf(app)
	plan := Plan{Choices: make([]Choice, 0, len(app.Components)), app: app, places: make(map[string]int, len(app.Components))}
	var misses []miss
	for i := range app.Components {
		c := &app.Components[i]
		choice, err := p.choose(ctx, c, hauls[i])
		if err != nil {
			return Plan{}, err
		}
		if len(choice.Offers) == 0 {
			m, err := p.explain(ctx, c)
			if err != nil {
				return Plan{}, err
			}
			misses = append(misses, m)
			continue
		}
		plan.places[c.Name] = len(plan.Choices)
		plan.Choices = append(plan.Choices, choice)
		plan.PricePerHour += choice.Offers[0].PricePerHour * float64(machinesOf(c))
	}
	if len(misses) > 0 {
		return Plan{}, unsatisfied(misses)
	}
	plan.findReuse()
	return plan, nil
}

// callsOf is how many calls a component has.
func callsOf(c *configs.Component) int { return max(1, len(c.ForEach)) }

// machinesOf is how many machines a component may have at once.
func machinesOf(c *configs.Component) int { return max(1, min(callsOf(c), c.MaxMachines)) }

// planner chooses offers for the components of one app.
type planner struct {
	clouds []Cloud
	opts   PlanOptions
	egress egress
	// chosen are the choices so far by what they depend on: many components of an app
	// ask for the same.
	chosen map[string]Choice
	listed map[int][]shelf // of the clouds that have a list, by their place in clouds
	types  typeNumbers
	all    map[string][]Offer // of each cloud; filled when a component gets nothing
	missed map[string]miss    // by resources
}

func newPlanner(clouds []Cloud, o PlanOptions) *planner {
	if o.Place == nil {
		o.Place = func(cloud, region string) string {
			if region == "" {
				return ""
			}
			return cloud + "/" + region
		}
	}
	o.Cooldowns = slices.DeleteFunc(slices.Clone(o.Cooldowns), func(c cluster.Cooldown) bool { return !c.Until.After(o.Now) })
	return &planner{
		clouds: clouds, opts: o, egress: newEgress(clouds, o),
		chosen: map[string]Choice{}, listed: map[int][]shelf{}, types: typeNumbers{}, all: map[string][]Offer{}, missed: map[string]miss{},
	}
}

// choose gives the choice of a component; one without offers when nothing
// satisfies it.
func (p *planner) choose(ctx context.Context, c *configs.Component, h haul) (Choice, error) {
	w := want{Resources: c.Resources, haul: h, Hours: 1, Built: c.Build != ""}
	if c.Timeout > 0 && h != (haul{}) {
		w.Hours = c.Timeout.Hours()
	}
	key, err := json.Marshal(w)
	if err != nil {
		return Choice{}, fmt.Errorf("planning %s: %w", c.Name, err)
	}
	choice, ok := p.chosen[string(key)]
	if !ok {
		if choice, err = p.rank(ctx, &w); err != nil {
			return Choice{}, err
		}
		p.chosen[string(key)] = choice
	}
	choice.Component = c.Name
	return choice, nil
}
