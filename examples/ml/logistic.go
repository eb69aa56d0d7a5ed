package ml

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// Logistic is multinomial logistic regression: a score for each class that is
// linear in the measurements.
type Logistic struct {
	Scale   Scale       `json:"scale"`
	Weights [][]float64 `json:"weights"` // a row for each measurement and one for the constant, a column for each class
}

const (
	rounds  = 400  // of gradient descent over all samples
	rate    = 0.5  // step along the gradient
	penalty = 1e-3 // pulls weights to zero, so that they stay finite when classes can be told apart perfectly
)

// FitLogistic trains by gradient descent from zero. It needs no randomness: the
// loss has one minimum.
func FitLogistic(d Dataset) *Logistic {
	scale := ScaleOf(d)
	n, width, classes := len(d.X), len(d.X[0])+1, len(d.Classes)
	x := mat.NewDense(n, width, nil)
	want := mat.NewDense(n, classes, nil)
	for i := range d.X {
		x.SetRow(i, append(scale.Apply(d.X[i]), 1))
		want.Set(i, d.Y[i], 1)
	}
	w := mat.NewDense(width, classes, nil)
	var p, gradient, pull mat.Dense
	for range rounds {
		p.Mul(x, w)
		for i := range n {
			softmax(p.RawRowView(i))
		}
		p.Sub(&p, want)
		gradient.Mul(x.T(), &p)
		gradient.Scale(rate/float64(n), &gradient)
		pull.Scale(rate*penalty, w)
		w.Sub(w, &gradient)
		w.Sub(w, &pull)
	}
	m := &Logistic{Scale: scale}
	for i := range width {
		m.Weights = append(m.Weights, mat.Row(nil, i, w))
	}
	return m
}

// softmax turns scores into shares that add up to 1, in place.
func softmax(scores []float64) {
	top := floats.Max(scores)
	for i, s := range scores {
		scores[i] = math.Exp(s - top)
	}
	floats.Scale(1/floats.Sum(scores), scores)
}

// Predict gives the class with the highest score.
func (m *Logistic) Predict(x []float64) int {
	scores := make([]float64, len(m.Weights[0]))
	for i, v := range append(m.Scale.Apply(x), 1) {
		floats.AddScaled(scores, v, m.Weights[i])
	}
	return floats.MaxIdx(scores)
}

// Validate checks that a model which was read from a file fits a data set.
func (m *Logistic) Validate(d Dataset) error {
	width := len(d.X[0])
	if len(m.Weights) != width+1 || len(m.Scale.Mean) != width || len(m.Scale.Width) != width {
		return fmt.Errorf("the model is not one of %d measurements", width)
	}
	for _, row := range m.Weights {
		if len(row) != len(d.Classes) {
			return fmt.Errorf("the model is not one of %d classes", len(d.Classes))
		}
	}
	return nil
}
