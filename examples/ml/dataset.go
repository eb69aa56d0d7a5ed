// Package ml is the machine learning that the example apps do: small, plain and
// the same every time it is run with the same seed.
package ml

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
)

// Dataset is rows of measurements with the class of each.
type Dataset struct {
	Classes []string    // names
	X       [][]float64 // a row for each sample, all of one length
	Y       []int       // index into Classes, one for each row of X
}

// Load reads a data set from a CSV file. Its first line holds the number of
// rows, the number of measurements and the names of the classes; each further
// line the measurements of a sample and the number of its class.
func Load(path string) (Dataset, error) {
	f, err := os.Open(path)
	if err != nil {
		return Dataset{}, err
	}
	defer f.Close()
	d, err := Read(f)
	if err != nil {
		return Dataset{}, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// Read reads a data set in the form that Load describes.
func Read(r io.Reader) (Dataset, error) {
	lines := csv.NewReader(r)
	lines.FieldsPerRecord = -1
	head, err := lines.Read()
	if err != nil {
		return Dataset{}, fmt.Errorf("first line: %w", err)
	}
	if len(head) < 4 {
		return Dataset{}, errors.New("first line: want rows, measurements and at least two classes")
	}
	rows, err1 := strconv.Atoi(head[0])
	width, err2 := strconv.Atoi(head[1])
	if err := errors.Join(err1, err2); err != nil {
		return Dataset{}, fmt.Errorf("first line: %w", err)
	}
	d := Dataset{Classes: head[2:]}
	for {
		fields, err := lines.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Dataset{}, err
		}
		x, y, err := sample(fields, width, len(d.Classes))
		if err != nil {
			line, _ := lines.FieldPos(0)
			return Dataset{}, fmt.Errorf("line %d: %w", line, err)
		}
		d.X, d.Y = append(d.X, x), append(d.Y, y)
	}
	if len(d.X) != rows || rows == 0 {
		return Dataset{}, fmt.Errorf("the first line promises %d rows, there are %d", rows, len(d.X))
	}
	return d, nil
}

func sample(fields []string, width, classes int) ([]float64, int, error) {
	if len(fields) != width+1 || width < 1 {
		return nil, 0, fmt.Errorf("%d fields, want %d measurements and a class", len(fields), width)
	}
	x := make([]float64, width)
	for i := range x {
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return nil, 0, err
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, 0, fmt.Errorf("%q is not a measurement", fields[i])
		}
		x[i] = v
	}
	y, err := strconv.Atoi(fields[width])
	if err != nil {
		return nil, 0, err
	}
	if y < 0 || y >= classes {
		return nil, 0, fmt.Errorf("there is no class %d", y)
	}
	return x, y, nil
}

// Write writes the data set in the form that Load reads.
func (d Dataset) Write(w io.Writer) error {
	lines := csv.NewWriter(w)
	width := 0
	if len(d.X) > 0 {
		width = len(d.X[0])
	}
	if err := lines.Write(append([]string{strconv.Itoa(len(d.X)), strconv.Itoa(width)}, d.Classes...)); err != nil {
		return err
	}
	for i, x := range d.X {
		fields := make([]string, 0, width+1)
		for _, v := range x {
			fields = append(fields, strconv.FormatFloat(v, 'g', -1, 64))
		}
		if err := lines.Write(append(fields, strconv.Itoa(d.Y[i]))); err != nil {
			return err
		}
	}
	lines.Flush()
	return lines.Error()
}

// Pick gives the rows with the given indices.
func (d Dataset) Pick(rows []int) (Dataset, error) {
	out := Dataset{Classes: d.Classes}
	for _, i := range rows {
		if i < 0 || i >= len(d.X) {
			return Dataset{}, fmt.Errorf("there is no row %d", i)
		}
		out.X, out.Y = append(out.X, d.X[i]), append(out.Y, d.Y[i])
	}
	return out, nil
}

// Split deals out the rows at random: share of each class, rounded, is held out
// for checking, the rest is for training. The same seed gives the same split.
func (d Dataset) Split(share float64, seed uint64) (train, held []int) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	for class := range d.Classes {
		var rows []int
		for i, y := range d.Y {
			if y == class {
				rows = append(rows, i)
			}
		}
		rnd.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		n := int(math.Round(share * float64(len(rows))))
		held = append(held, rows[:n]...)
		train = append(train, rows[n:]...)
	}
	return train, held
}

// Scale brings measurements to mean 0 and standard deviation 1.
type Scale struct {
	Mean  []float64 `json:"mean"`
	Width []float64 `json:"width"` // standard deviation; 1 for a measurement that never changes
}

// ScaleOf learns the scale of a data set.
func ScaleOf(d Dataset) Scale {
	width := len(d.X[0])
	s := Scale{Mean: make([]float64, width), Width: make([]float64, width)}
	n := float64(len(d.X))
	for i := range width {
		for _, x := range d.X {
			s.Mean[i] += x[i] / n
		}
		for _, x := range d.X {
			s.Width[i] += (x[i] - s.Mean[i]) * (x[i] - s.Mean[i]) / n
		}
		s.Width[i] = math.Sqrt(s.Width[i])
		if s.Width[i] == 0 {
			s.Width[i] = 1
		}
	}
	return s
}

// Apply gives x on the scale.
func (s Scale) Apply(x []float64) []float64 {
	out := make([]float64, len(x))
	for i := range x {
		out[i] = (x[i] - s.Mean[i]) / s.Width[i]
	}
	return out
}
