package local

import (
	"bufio"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// hardware is what the host has.
type hardware struct {
	cpus   float64
	memory float64  // GiB
	disk   float64  // GiB free where machines have their folders
	gpus   []string // model of each, upper case
}

const gib = 1 << 30

// wholeGiB gives the size that memory was sold as: firmware and kernel keep a
// little of it for themselves.
func wholeGiB(bytes float64) float64 { return math.Ceil(bytes / gib) }

// freeDisk gives the free space, in whole GiB, of the file system that home is or
// will be on.
func freeDisk(home string) float64 {
	for {
		var fs unix.Statfs_t
		if unix.Statfs(home, &fs) == nil {
			return math.Floor(float64(fs.Bavail) * float64(fs.Bsize) / gib)
		}
		parent := filepath.Dir(home)
		if parent == home {
			return 0
		}
		home = parent
	}
}

// nvidia lists the models of NVIDIA GPUs by what their driver says.
func nvidia(dir string) []string {
	files, _ := filepath.Glob(filepath.Join(dir, "*", "information"))
	slices.Sort(files)
	var models []string
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if model, ok := strings.CutPrefix(lines.Text(), "Model:"); ok {
				models = append(models, gpuModel(model))
			}
		}
		f.Close()
	}
	return models
}

// gpuModel turns a driver's name for a GPU into the one that app files use:
// "Tesla T4" is T4, "NVIDIA A100-SXM4-40GB" is A100.
func gpuModel(name string) string {
	var words []string
	for _, w := range strings.Fields(strings.ToUpper(name)) {
		switch w {
		case "NVIDIA", "TESLA", "GEFORCE", "QUADRO":
		default:
			words = append(words, w)
		}
	}
	model, _, _ := strings.Cut(strings.Join(words, "-"), "-SXM")
	model, _, _ = strings.Cut(model, "-PCIE")
	return model
}
