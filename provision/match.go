package provision

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/levinrun/levin/configs"
)

// lack is a set of ways in which an offer does not satisfy resources.
type lack uint16

const (
	lackCloud lack = 1 << iota
	lackRegion
	lackZone
	lackMachine
	lackSpot
	lackOnDemand
	lackPrice
	lackArch
	lackCPUs
	lackMemory
	lackDisk
	lackGPU
	lackGPUs
	lackModel
	lackGPUMemory
)

func (l lack) count() int { return bits.OnesCount16(uint16(l)) }

// lacking finds what of r the offer does not satisfy. It is asked of every offer
// for every component, so it makes no garbage.
func lacking(o *Offer, r *configs.Resources) lack {
	var l lack
	excused := len(o.Missing) > 0
	if len(r.Clouds) > 0 && !slices.Contains(r.Clouds, o.Cloud) {
		l |= lackCloud
	}
	if r.MaxPrice > 0 && o.PricePerHour > r.MaxPrice {
		l |= lackPrice
	}
	if excused {
		return l
	}
	if len(r.Regions) > 0 && !slices.Contains(r.Regions, o.Region) {
		l |= lackRegion
	}
	if len(r.Zones) > 0 && !slices.Contains(r.Zones, o.Zone) {
		l |= lackZone
	}
	if r.Machine != "" && r.Machine != o.Type {
		l |= lackMachine
	}
	switch {
	case o.Spot && r.Spot == configs.SpotNever:
		l |= lackOnDemand
	case !o.Spot && r.Spot == configs.SpotOnly:
		l |= lackSpot
	}
	if r.Arch != "" && r.Arch != o.Arch {
		l |= lackArch
	}
	if !r.CPUs.Contains(o.CPUs) {
		l |= lackCPUs
	}
	if !r.Memory.Contains(o.Memory) {
		l |= lackMemory
	}
	if o.Disk != 0 && !r.Disk.Contains(o.Disk) {
		l |= lackDisk
	}
	if r.GPU == nil {
		return l
	}
	switch {
	case o.GPUs == 0:
		l |= lackGPU
	case o.GPUs < r.GPU.Count:
		l |= lackGPUs
	case !isModel(o, r.GPU.Models):
		l |= lackModel
	case !holds(r.GPU.Memory, o.GPUMemory):
		l |= lackGPUMemory
	}
	return l
}

// Fits reports whether the offer satisfies r; Unmet says what it lacks.
func Fits(o *Offer, r *configs.Resources) bool { return lacking(o, r) == 0 }

// unreported is the part of a GPU's memory that a cloud may leave out of what it
// reports: what error correction takes, and GB that are not GiB. It reports 22.35
// GiB for an A10G that is sold with 24 GB, and 44.7 for an L40S with 48.
const unreported = 0.08

// holds reports whether a GPU that is reported with so much memory is of the size
// that was asked for. Reporting less is forgiven, more is not.
func holds(asked configs.Range, reported float64) bool {
	return reported >= asked.Min*(1-unreported) && (asked.Max == 0 || reported <= asked.Max)
}

// isModel reports whether the offer's GPU is one of the models; with none, any is.
//
// Some models are sold with a different memory under one name. The plain name
// asks for any of them, the name with a size for that one: "A100" is satisfied by
// an A100 with 40 or 80 GB, "A100-80GB" by the large one alone, whether its cloud
// writes the size into the name or not.
func isModel(o *Offer, models []string) bool {
	if len(models) == 0 {
		return true
	}
	for _, m := range models {
		if m == o.GPU {
			return true
		}
	}
	has, hasSize := splitModel(o.GPU)
	hasSize = cmp.Or(hasSize, o.GPUMemory)
	for _, m := range models {
		asked, size := splitModel(m)
		if asked == has && (size == 0 || holds(configs.Range{Min: size, Max: size}, hasSize)) {
			return true
		}
	}
	return false
}

// splitModel takes a name such as "A100-80GB" apart; the size is 0 for a name
// without one.
func splitModel(name string) (model string, gib float64) {
	at := strings.LastIndexByte(name, '-')
	if at < 0 || !strings.HasSuffix(name, "GB") {
		return name, 0
	}
	size, err := strconv.Atoi(name[at+1 : len(name)-len("GB")])
	if err != nil {
		return name, 0
	}
	return name[:at], float64(size)
}

// Unmet says, for people, what of r the offer does not satisfy; nothing means
// that it satisfies r. r is one alternative: its any_of is not looked at.
//
// Hardware and place that the offer lists as Missing are excused, since such an
// offer says itself that it runs the work without; as the list is text for people,
// an offer that misses anything is excused from all of it. An offer whose Disk is
// 0 can have any disk; any other capacity that is 0 satisfies only a range that
// has no lower bound. Memory of a GPU may be reported up to 8 % smaller than it is
// sold. A GPU's model may say its memory: "A100" asks for any A100, "A100-80GB"
// for the large one. More GPUs than asked for are fine. Spot offers are only for
// resources that allow them.
func Unmet(o Offer, r configs.Resources) []string {
	var lacks []string
	say := func(format string, args ...any) { lacks = append(lacks, fmt.Sprintf(format, args...)) }
	capacity := func(what string, asked configs.Range, has float64, unit string) {
		have := number(has) + unit
		if has == 0 {
			have = "unknown"
		}
		say("%s must be %s, is %s", what, rangeText(asked, unit), have)
	}
	left := lacking(&o, &r)
	for left != 0 {
		one := left & -left
		left &^= one
		switch one {
		case lackCloud:
			say("cloud must be %s", strings.Join(r.Clouds, " or "))
		case lackRegion:
			say("region must be %s", strings.Join(r.Regions, " or "))
		case lackZone:
			say("zone must be %s, is %s", strings.Join(r.Zones, " or "), cmp.Or(o.Zone, "not known"))
		case lackMachine:
			say("machine must be %s", r.Machine)
		case lackSpot:
			say("spot must be only, is on demand")
		case lackOnDemand:
			say("spot must be never, is spot")
		case lackPrice:
			say("costs $%s an hour, max_price is $%s", number(o.PricePerHour), number(r.MaxPrice))
		case lackArch:
			say("arch must be %s, is %s", r.Arch, o.Arch)
		case lackCPUs:
			capacity("cpus", r.CPUs, o.CPUs, "")
		case lackMemory:
			capacity("memory", r.Memory, o.Memory, "GB")
		case lackDisk:
			capacity("disk", r.Disk, o.Disk, "GB")
		case lackGPU:
			say("gpu must be %s, has none", gpuText(*r.GPU))
		case lackGPUs:
			say("gpu must be %s, has %d", gpuText(*r.GPU), o.GPUs)
		case lackModel:
			say("gpu must be %s, is %s", gpuText(*r.GPU), o.GPU)
		case lackGPUMemory:
			capacity("gpu memory", r.GPU.Memory, o.GPUMemory, "GB")
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
