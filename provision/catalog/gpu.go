package catalog

import (
	"math"
	"strconv"
	"strings"
)

// sizes of the memory of GPUs, in GiB, as their makers print them on the box.
var sizes = [...]float64{4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 94, 96, 141, 192, 288}

// GPUMemory gives the size that people ask for when a cloud reports reported GiB:
// the next size that is sold, if what lacks is no more than what ECC and rounding
// take (22.35 of an L4's 24, 44.7 of an L40S's 48), else reported itself.
func GPUMemory(reported float64) float64 {
	const lost = 0.08
	for _, size := range sizes {
		if reported <= size*1.005 && reported >= size*(1-lost) {
			return size
		}
	}
	return math.Round(reported*100) / 100
}

// GPUModel names a model of which there are several with a different memory (GiB):
// the one that came first has the plain name, "A100" for 40 GB, and the other says
// what it has, "A100-80GB", whatever the cloud calls it.
func GPUModel(model string, memory float64) string {
	var first float64
	switch {
	case strings.HasPrefix(model, "A100"):
		first = 40
	case strings.HasPrefix(model, "V100"):
		first = 16
	default:
		return model
	}
	switch base := model[:4]; {
	case len(model) > 4 && model[4] != '-' || memory == 0:
		return model
	case memory == first:
		return base
	default:
		return base + "-" + strconv.FormatFloat(memory, 'f', -1, 64) + "GB"
	}
}
