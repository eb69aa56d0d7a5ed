package provision

import (
	"math"
	"slices"

	"github.com/levinrun/levin/configs"
)

// Reuses reports whether a machine that was made for component from may be taken
// over by component to, when it has nothing left to do at the moment that one needs
// a machine. Others may have had it in between. It may be when to needs from, if
// only through others, and nothing could tell the machine from one of its own:
//   - the plan gives both the same offer, one that costs something (a machine that
//     costs nothing is not worth keeping);
//   - whatever offer from may have had to fall back on satisfies to as well;
//   - the disk is as to asks, and the firewall opens the same ports.
func (p Plan) Reuses(from, to string) bool {
	i, known := p.places[from]
	j, both := p.places[to]
	if !known || !both || i == j {
		return false
	}
	return reusable(&p.app.Components[i], &p.app.Components[j], &p.Choices[i], &p.Choices[j]) && p.needs(j, i)
}

// needs reports whether a component needs another one, if only through others.
// Both are given by their place in the app.
func (p Plan) needs(component, other int) bool {
	seen := make([]bool, len(p.app.Components))
	next := []int{component}
	for len(next) > 0 {
		at := next[len(next)-1]
		next = next[:len(next)-1]
		for _, name := range p.app.Components[at].Needs {
			need, ok := p.places[name]
			switch {
			case !ok || seen[need]:
			case need == other:
				return true
			default:
				seen[need] = true
				next = append(next, need)
			}
		}
	}
	return false
}

// findReuse finds whose machines each component is expected to take over: those
// of the components that it needs itself, which have just become free when it
// starts.
func (p *Plan) findReuse() {
	for i := range p.Choices {
		to := &p.app.Components[i]
		for _, need := range to.Needs {
			if j, ok := p.places[need]; ok && reusable(&p.app.Components[j], to, &p.Choices[j], &p.Choices[i]) {
				p.Choices[i].Reuse = append(p.Choices[i].Reuse, need)
			}
		}
	}
}

func reusable(from, to *configs.Component, theirs, ours *Choice) bool {
	first := &ours.Offers[0]
	if first.PricePerHour == 0 || keyOf(*first) != keyOf(theirs.Offers[0]) || !samePorts(from.Ports, to.Ports) {
		return false
	}
	alts := Alternatives(to.Resources)
	disks := Alternatives(from.Resources)
	for i := range theirs.Offers {
		o := &theirs.Offers[i]
		if o.PricePerHour == 0 || to.Build != "" && (o.OS != first.OS || o.Arch != first.Arch) {
			return false
		}
		if !slices.ContainsFunc(alts, func(alt configs.Resources) bool { return Fits(o, &alt) && diskFits(o, disks, alt.Disk) }) {
			return false
		}
	}
	return true
}

// diskFits reports whether a machine that was made for one of the given resources
// has a disk of the size asked for. One that was not asked for has the size that
// its cloud chose, which is not known here.
func diskFits(o *Offer, madeFor []configs.Resources, asked configs.Range) bool {
	if asked.IsZero() || o.Disk != 0 { // a disk that comes with the offer has been looked at
		return true
	}
	for i := range madeFor {
		if size := math.Ceil(madeFor[i].Disk.Min); size == 0 || !asked.Contains(size) {
			return false
		}
	}
	return true
}

func samePorts(a, b []int) bool {
	within := func(some, all []int) bool {
		return !slices.ContainsFunc(some, func(p int) bool { return !slices.Contains(all, p) })
	}
	return within(a, b) && within(b, a)
}
