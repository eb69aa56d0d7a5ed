package local

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
)

// machineType is the type of every local machine.
const machineType = "process"

// Offers gives this host as the one offer, for any resources: what it lacks is
// listed as missing and the work is run without, so that an app written for other
// clouds runs here unchanged. Only what says "not here" is heeded: clouds by name
// without this one, and a price below this one's.
func (c *Cloud) Offers(_ context.Context, r configs.Resources) ([]provision.Offer, error) {
	if len(r.Clouds) > 0 && !slices.Contains(r.Clouds, c.cfg.Name) {
		return nil, nil
	}
	if r.MaxPrice > 0 && c.cfg.Price > r.MaxPrice {
		return nil, nil
	}
	has := c.hardware()
	o := provision.Offer{
		Cloud: c.cfg.Name, Type: machineType, OS: runtime.GOOS, Arch: runtime.GOARCH,
		CPUs: upTo(r.CPUs, has.cpus), Memory: upTo(r.Memory, has.memory), Disk: upTo(r.Disk, has.disk), PricePerHour: c.cfg.Price,
		GPUs: len(has.gpus), Missing: missing(has, runtime.GOARCH, r),
	}
	if len(has.gpus) > 0 {
		o.GPU = has.gpus[0]
	}
	if r.GPU != nil {
		if at := slices.IndexFunc(has.gpus, func(model string) bool { return isAsked(model, *r.GPU) }); at >= 0 {
			o.GPU, o.GPUMemory = has.gpus[at], r.GPU.Memory.Min // taken on trust: how much there is is not known here
		}
	}
	return []provision.Offer{o}, nil
}

// upTo gives what of a capacity is offered to who asks for no more than so much:
// the rest of the host is not theirs.
func upTo(asked configs.Range, has float64) float64 {
	if asked.Max > 0 {
		return min(has, asked.Max)
	}
	return has
}

// missing says, for people, what of r the host does not have. More than was asked
// for is never missing.
func missing(has hardware, arch string, r configs.Resources) []string {
	var lacks []string
	lack := func(format string, args ...any) { lacks = append(lacks, fmt.Sprintf(format, args...)) }
	if r.GPU != nil {
		if n := countGPUs(has.gpus, *r.GPU); n < r.GPU.Count {
			lack("gpu %s (has %s)", gpuText(*r.GPU), countText(n))
		}
	}
	atLeast := func(what string, asked configs.Range, has float64, unit string) {
		if has < asked.Min {
			lack("%s %s%s (has %s)", what, number(asked.Min), unit, number(has))
		}
	}
	atLeast("cpus", r.CPUs, has.cpus, "")
	atLeast("memory", r.Memory, has.memory, "GB")
	atLeast("disk", r.Disk, has.disk, "GB")
	if r.Arch != "" && r.Arch != arch {
		lack("arch %s (is %s)", r.Arch, arch)
	}
	if r.Machine != "" && r.Machine != machineType {
		lack("machine %s", r.Machine)
	}
	if len(r.Regions) > 0 {
		lack("region %s", strings.Join(r.Regions, " or "))
	}
	if len(r.Zones) > 0 {
		lack("zone %s", strings.Join(r.Zones, " or "))
	}
	if r.Spot == configs.SpotOnly {
		lack("spot")
	}
	return lacks
}

// countGPUs counts the host's GPUs that are of a model asked for. How much memory
// they have is not known here and is taken on trust.
func countGPUs(has []string, asked configs.GPU) int {
	n := 0
	for _, model := range has {
		if isAsked(model, asked) {
			n++
		}
	}
	return n
}

func isAsked(model string, asked configs.GPU) bool {
	return len(asked.Models) == 0 || slices.Contains(asked.Models, model)
}

func gpuText(g configs.GPU) string {
	text := "of any model"
	if len(g.Models) > 0 {
		text = strings.Join(g.Models, " or ")
	}
	if g.Count > 1 {
		text += ":" + strconv.Itoa(g.Count)
	}
	return text
}

func countText(n int) string {
	if n == 0 {
		return "none"
	}
	return strconv.Itoa(n)
}

// number prints at most one digit after the point: 23.5, 8.
func number(f float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0")
}
