package provision

import (
	"strings"

	"github.com/levinrun/levin/configs"
)

// haul is how much data one call moves, in GiB.
type haul struct {
	In  float64 // from the controller to the machine
	Out float64 // back
}

// haulsOf gives the haul of each component: its own outputs go out, and those of
// all calls of the components it needs come in.
func haulsOf(app *configs.App) []haul {
	all := map[string]float64{} // GiB of all calls, by component
	for i := range app.Components {
		c := &app.Components[i]
		all[c.Name] = c.OutputSize * float64(callsOf(c))
	}
	hauls := make([]haul, len(app.Components))
	for i := range app.Components {
		c := &app.Components[i]
		hauls[i].Out = c.OutputSize
		for _, need := range c.Needs {
			hauls[i].In += all[need]
		}
	}
	return hauls
}

// egress knows what moving data costs between the controller and the clouds.
type egress struct {
	location string
	place    func(cloud, region string) string
	// home is the cloud in whose region the controller runs, if it is among the clouds
	// and takes money for what leaves it.
	home   Metered
	region string
}

func newEgress(clouds []Cloud, o PlanOptions) egress {
	e := egress{location: o.Location, place: o.Place}
	_, region, _ := strings.Cut(o.Location, "/")
	for _, c := range clouds {
		if m, ok := c.(Metered); ok && o.Location != "" && o.Place(c.Name(), region) == o.Location {
			e.home, e.region = m, region
			break
		}
	}
	return e
}

// cost gives USD for one haul between the controller and a region of a cloud.
func (e egress) cost(c Cloud, region string, h haul) float64 {
	usd := 0.0
	if h.Out > 0 {
		if m, ok := c.(Metered); ok {
			usd += h.Out * m.Egress(region, e.location)
		}
	}
	to := e.place(c.Name(), region)
	// A cloud without regions that is where the controller is, is the controller's
	// own computer.
	if here := region == "" && to == e.location; h.In > 0 && e.home != nil && !here {
		usd += h.In * e.home.Egress(e.region, to)
	}
	return usd
}
