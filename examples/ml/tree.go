package ml

import (
	"cmp"
	"slices"
)

// Tree is a decision tree: at each node one measurement is compared with a
// bound.
type Tree struct {
	Class   int     `json:"class"`             // the most frequent class here
	Measure int     `json:"measure,omitempty"` // which measurement is compared
	Bound   float64 `json:"bound,omitempty"`   // up to here goes left
	Left    *Tree   `json:"left,omitempty"`    // nil at a leaf, as is Right
	Right   *Tree   `json:"right,omitempty"`
}

const minLeaf = 2 // samples

// FitTree grows a tree of at most the given depth, at each node with the split
// that leaves the purest halves.
func FitTree(d Dataset, depth int) *Tree {
	rows := make([]int, len(d.X))
	for i := range rows {
		rows[i] = i
	}
	return grow(d, rows, depth)
}

func grow(d Dataset, rows []int, depth int) *Tree {
	counts := make([]int, len(d.Classes))
	for _, i := range rows {
		counts[d.Y[i]]++
	}
	t := &Tree{}
	for class, n := range counts {
		if n > counts[t.Class] {
			t.Class = class
		}
	}
	if depth == 0 || counts[t.Class] == len(rows) {
		return t
	}
	best := impurity(counts, len(rows))
	at := 0 // how many rows go left
	for measure := range d.X[0] {
		slices.SortFunc(rows, func(a, b int) int {
			return cmp.Or(cmp.Compare(d.X[a][measure], d.X[b][measure]), cmp.Compare(a, b))
		})
		left, right := make([]int, len(counts)), slices.Clone(counts)
		for n := 1; n < len(rows); n++ {
			class := d.Y[rows[n-1]]
			left[class]++
			right[class]--
			lower, upper := d.X[rows[n-1]][measure], d.X[rows[n]][measure]
			if lower == upper || n < minLeaf || len(rows)-n < minLeaf {
				continue
			}
			if v := impurity(left, n) + impurity(right, len(rows)-n); v < best-1e-9 {
				best, at = v, n
				t.Measure, t.Bound = measure, (lower+upper)/2
			}
		}
	}
	if at == 0 {
		return t
	}
	slices.SortFunc(rows, func(a, b int) int {
		return cmp.Or(cmp.Compare(d.X[a][t.Measure], d.X[b][t.Measure]), cmp.Compare(a, b))
	})
	t.Left = grow(d, slices.Clone(rows[:at]), depth-1)
	t.Right = grow(d, slices.Clone(rows[at:]), depth-1)
	return t
}

// impurity is Gini's, times the number of samples.
func impurity(counts []int, n int) float64 {
	sum := 0.0
	for _, c := range counts {
		sum += float64(c * c)
	}
	return float64(n) - sum/float64(n)
}

// Predict follows the bounds down to a leaf.
func (t *Tree) Predict(x []float64) int {
	for t.Left != nil {
		if x[t.Measure] <= t.Bound {
			t = t.Left
		} else {
			t = t.Right
		}
	}
	return t.Class
}
