package provision

import (
	"math"
	"slices"

	"github.com/levinrun/levin/configs"
)

// Reuses reports whether component to may take over a machine of component from
// that is up and has nothing to do. See Choice.Reuse.
func (p Plan) Reuses(from, to string) bool {
	c, ok := p.Choice(to)
	return ok && slices.Contains(c.Reuse, from)
}

// findReuse finds whose machines each component may take over: those of a
// component that it needs, since they have just become free when it starts, and
// only when nothing could tell the machine from one of its own. That is:
//   - the plan gives both the same offer, one that costs something (a machine that
//     costs nothing is not worth keeping);
//   - whatever offer the other one may have had to fall back on satisfies this one
//     too;
//   - the disk is as this one asks, and the firewall opens the same ports.
func (p *Plan) findReuse(app *configs.App) {
	at := make(map[string]int, len(app.Components))
	for i := range app.Components {
		at[app.Components[i].Name] = i
	}
	for i := range p.Choices {
		to := &app.Components[i]
		for _, need := range to.Needs {
			j, ok := at[need]
			if ok && reusable(&app.Components[j], to, &p.Choices[j], &p.Choices[i]) {
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
