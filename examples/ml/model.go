package ml

import (
	"fmt"
	"strings"
)

// Model tells the class of a sample.
type Model interface {
	Predict(x []float64) int
}

// Fit trains a model of the named kind: logistic, tree or knn. All of them can
// be written as JSON.
func Fit(kind string, d Dataset) (Model, error) {
	switch kind {
	case "logistic":
		return FitLogistic(d), nil
	case "tree":
		return FitTree(d, 4), nil
	case "knn":
		return FitKNN(d, 5), nil
	}
	return nil, fmt.Errorf("there is no model %q: want logistic, tree or knn", kind)
}

// Confusion counts samples by their class (row) and the class that the model
// takes them for (column).
type Confusion [][]int

// Check lets a model tell the classes of a data set.
func Check(m Model, d Dataset) Confusion {
	c := make(Confusion, len(d.Classes))
	for i := range c {
		c[i] = make([]int, len(d.Classes))
	}
	for i, x := range d.X {
		c[d.Y[i]][m.Predict(x)]++
	}
	return c
}

// Accuracy is the share of samples whose class was told right, 0 of none.
func (c Confusion) Accuracy() float64 {
	right, all := 0, 0
	for i, row := range c {
		right += row[i]
		for _, n := range row {
			all += n
		}
	}
	return ratio(right, all)
}

// Recall is the share of a class's samples that was told right.
func (c Confusion) Recall(class int) float64 {
	all := 0
	for _, n := range c[class] {
		all += n
	}
	return ratio(c[class][class], all)
}

func ratio(part, all int) float64 {
	if all == 0 {
		return 0
	}
	return float64(part) / float64(all)
}

// Markdown is the confusion as a table, with the accuracy of each class.
func (c Confusion) Markdown(classes []string) string {
	var b strings.Builder
	b.WriteString("| is ╲ taken for |")
	for _, name := range classes {
		fmt.Fprintf(&b, " %s |", name)
	}
	b.WriteString(" accuracy |\n|---|" + strings.Repeat("---:|", len(classes)+1) + "\n")
	for i, row := range c {
		fmt.Fprintf(&b, "| %s |", classes[i])
		for _, n := range row {
			fmt.Fprintf(&b, " %d |", n)
		}
		fmt.Fprintf(&b, " %.3f |\n", c.Recall(i))
	}
	return b.String()
}
