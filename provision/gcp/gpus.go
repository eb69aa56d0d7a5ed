package gcp

import "strings"

// gpu is a model of which Compute Engine has machines.
type gpu struct {
	accelerator string  // its accelerator type
	model       string  // as configs writes it
	memory      float64 // GiB of each
	sku         string  // how Cloud Billing's descriptions call it, in lower case
	quota       string  // how quotas call it: NVIDIA_<quota>_GPUS
}

// gpus are those that https://cloud.google.com/compute/docs/gpus lists, but the
// ones for workstations.
func gpus() []gpu {
	return []gpu{
		{"nvidia-tesla-p4", "P4", 8, "p4", "P4"},
		{"nvidia-tesla-p100", "P100", 16, "p100", "P100"},
		{"nvidia-tesla-t4", "T4", 16, "t4", "T4"},
		{"nvidia-tesla-v100", "V100", 16, "v100", "V100"},
		{"nvidia-l4", "L4", 24, "l4", "L4"},
		{"nvidia-tesla-a100", "A100", 40, "a100", "A100"},
		{"nvidia-a100-80gb", "A100-80GB", 80, "a100 80gb", "A100_80GB"},
		{"nvidia-h100-80gb", "H100", 80, "h100 80gb", "H100"},
		{"nvidia-h100-mega-80gb", "H100", 80, "h100 80gb mega", "H100_MEGA"},
		{"nvidia-h200-141gb", "H200", 141, "h200 141gb", "H200"},
		{"nvidia-b200", "B200", 180, "b200", "B200"},
	}
}

// gpuOf finds a GPU by its accelerator type.
func gpuOf(accelerator string) (gpu, bool) {
	for _, g := range gpus() {
		if g.accelerator == accelerator {
			return g, true
		}
	}
	return gpu{}, false
}

// attaches reports whether GPUs are attached to machines of a type; other types
// have theirs built in.
func attaches(typ string) bool { return strings.HasPrefix(typ, "n1-") }

// attachable are the numbers of GPUs that a machine with so many virtual CPUs can
// have, by https://cloud.google.com/compute/docs/gpus#n1-gpus.
func attachable(g gpu, cpus float64) []int {
	limits := map[string][]struct {
		gpus int
		cpus float64
	}{
		"T4":   {{1, 48}, {2, 48}, {4, 96}},
		"P4":   {{1, 24}, {2, 48}, {4, 96}},
		"V100": {{1, 12}, {2, 24}, {4, 48}, {8, 96}},
		"P100": {{1, 16}, {2, 32}, {4, 64}}, // 96 in some zones
	}
	var counts []int
	for _, l := range limits[g.model] {
		if cpus <= l.cpus {
			counts = append(counts, l.gpus)
		}
	}
	return counts
}
