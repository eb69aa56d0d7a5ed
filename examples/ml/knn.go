package ml

import (
	"cmp"
	"slices"

	"gonum.org/v1/gonum/floats"
)

// KNN remembers the samples it was shown and asks the nearest ones.
type KNN struct {
	K       int         `json:"k"`
	Classes int         `json:"classes"`
	Scale   Scale       `json:"scale"`
	X       [][]float64 `json:"x"` // on the scale
	Y       []int       `json:"y"`
}

// FitKNN remembers a data set.
func FitKNN(d Dataset, k int) *KNN {
	m := &KNN{K: k, Classes: len(d.Classes), Scale: ScaleOf(d), Y: d.Y}
	for _, x := range d.X {
		m.X = append(m.X, m.Scale.Apply(x))
	}
	return m
}

// Predict gives the class that most of the K nearest samples have; the lowest
// one, of several.
func (m *KNN) Predict(x []float64) int {
	x = m.Scale.Apply(x)
	type neighbour struct {
		distance float64
		row      int
	}
	near := make([]neighbour, len(m.X))
	for i := range m.X {
		near[i] = neighbour{floats.Distance(x, m.X[i], 2), i}
	}
	slices.SortFunc(near, func(a, b neighbour) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.row, b.row))
	})
	votes := make([]int, m.Classes)
	for _, n := range near[:min(m.K, len(near))] {
		votes[m.Y[n.row]]++
	}
	best := 0
	for class, n := range votes {
		if n > votes[best] {
			best = class
		}
	}
	return best
}
