package ml_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/examples/ml"
)

const (
	iris = "../train-analyze/data/iris.csv"
	wine = "../parallel-dag/data/wine.csv"
)

func load(t *testing.T, path string) ml.Dataset {
	t.Helper()
	d, err := ml.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// split gives a part to train on and one to check with.
func split(t *testing.T, d ml.Dataset, seed uint64) (training, checking ml.Dataset) {
	t.Helper()
	rows, held := d.Split(0.3, seed)
	training, err := d.Pick(rows)
	if err != nil {
		t.Fatal(err)
	}
	checking, err = d.Pick(held)
	if err != nil {
		t.Fatal(err)
	}
	return training, checking
}

func TestLoad(t *testing.T) {
	for path, want := range map[string][3]int{iris: {150, 4, 3}, wine: {178, 13, 3}} {
		d := load(t, path)
		if got := [3]int{len(d.X), len(d.X[0]), len(d.Classes)}; got != want {
			t.Errorf("%s: rows, measurements, classes %v, want %v", path, got, want)
		}
	}
	d := load(t, iris)
	if diff := cmp.Diff([]string{"setosa", "versicolor", "virginica"}, d.Classes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]float64{5.1, 3.5, 1.4, 0.2}, d.X[0]); diff != "" {
		t.Error(diff)
	}
}

func TestReadRefuses(t *testing.T) {
	for _, text := range []string{
		"", "2,1", "2,1,a", "x,1,a,b\n", "1,y,a,b\n1,0\n", // first line
		"2,1,a,b\n1,0\n",                   // too few rows
		"1,1,a,b\n1,0\n2,1\n",              // too many
		"0,1,a,b\n",                        // none
		"1,1,a,b\n1,2,0\n",                 // too many fields
		"1,0,a,b\n0\n",                     // no measurement
		"1,1,a,b\none,0\n",                 // not a number
		"1,1,a,b\nNaN,0\n",                 // not a measurement
		"1,1,a,b\n1,2\n",                   // no such class
		"1,1,a,b\n1,-1\n",                  // no such class
		"1,1,a,b\n1,first\n",               // no class
		"1,1,a,b\n\"1,0\n",                 // an open quote
		"1,9223372036854775807,a,b\n1,0\n", // absurd
	} {
		if d, err := ml.Read(strings.NewReader(text)); err == nil {
			t.Errorf("%q was read as %+v", text, d)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("2,1,a,b\n1,0\n2,1\n")
	f.Add("1,2,a,b,c\n-1e3,0.5,2\n")
	f.Add("1,1,\"a\nb\",b\n1,0\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ml.Read(strings.NewReader(text))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := d.Write(&b); err != nil {
			t.Fatal(err)
		}
		again, err := ml.Read(&b)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if diff := cmp.Diff(d, again); diff != "" && !strings.Contains(text, "\r") { // CSV makes \r\n one \n
			t.Errorf("(-read +written and read):\n%s", diff)
		}
	})
}

func TestSplit(t *testing.T) {
	d := load(t, wine)
	train, held := d.Split(0.3, 7)
	all := slices.Sorted(slices.Values(append(slices.Clone(train), held...)))
	for i, row := range all {
		if i != row {
			t.Fatalf("row %d is missing or there twice", i)
		}
	}
	if len(all) != len(d.X) {
		t.Fatalf("%d rows of %d", len(all), len(d.X))
	}
	counts := map[int]int{}
	for _, row := range held {
		counts[d.Y[row]]++
	}
	if diff := cmp.Diff(map[int]int{0: 18, 1: 21, 2: 14}, counts); diff != "" { // 30 % of 59, 71, 48
		t.Errorf("held out of each class:\n%s", diff)
	}
	train2, held2 := d.Split(0.3, 7)
	if !slices.Equal(train, train2) || !slices.Equal(held, held2) {
		t.Error("the same seed gave another split")
	}
	if _, other := d.Split(0.3, 8); slices.Equal(held, other) {
		t.Error("another seed gave the same split")
	}
	if _, err := d.Pick([]int{len(d.X)}); err == nil {
		t.Error("a row that is not there was picked")
	}
}

// Every model learns: on data it has not seen it is right most of the time, and
// far better than a guess.
func TestModelsLearn(t *testing.T) {
	for _, path := range []string{iris, wine} {
		d := load(t, path)
		for _, kind := range []string{"logistic", "tree", "knn"} {
			sum, worst := 0.0, 1.0
			const seeds = 10
			for seed := range uint64(seeds) {
				training, checking := split(t, d, seed)
				m, err := ml.Fit(kind, training)
				if err != nil {
					t.Fatal(err)
				}
				a := ml.Check(m, checking).Accuracy()
				sum, worst = sum+a, min(worst, a)
			}
			if mean := sum / seeds; mean < 0.85 || worst < 0.7 {
				t.Errorf("%s on %s: accuracy %.3f, worst %.3f", kind, path, mean, worst)
			}
		}
	}
	if _, err := ml.Fit("oracle", load(t, iris)); err == nil {
		t.Error("there is a model called oracle")
	}
}

func TestModelsAreDeterministic(t *testing.T) {
	training, _ := split(t, load(t, wine), 7)
	for _, kind := range []string{"logistic", "tree", "knn"} {
		var texts [2]string
		for i := range texts {
			m, err := ml.Fit(kind, training)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			texts[i] = string(text)
		}
		if texts[0] != texts[1] {
			t.Errorf("%s: two trainings differ", kind)
		}
	}
}

// A model that went through a file tells the same.
func TestModelsSurviveJSON(t *testing.T) {
	training, checking := split(t, load(t, iris), 7)
	for kind, copy := range map[string]ml.Model{"logistic": &ml.Logistic{}, "tree": &ml.Tree{}, "knn": &ml.KNN{}} {
		m, err := ml.Fit(kind, training)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, copy); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ml.Check(m, checking), ml.Check(copy, checking)); diff != "" {
			t.Errorf("%s (-before +after):\n%s", kind, diff)
		}
	}
}

func TestLogisticValidate(t *testing.T) {
	flowers, wines := load(t, iris), load(t, wine)
	m := ml.FitLogistic(flowers)
	if err := m.Validate(flowers); err != nil {
		t.Error(err)
	}
	if err := m.Validate(wines); err == nil {
		t.Error("a model of flowers passes for one of wines")
	}
	flowers.Classes = flowers.Classes[:2]
	if err := m.Validate(flowers); err == nil {
		t.Error("a model of three classes passes for one of two")
	}
	if err := (&ml.Logistic{}).Validate(flowers); err == nil {
		t.Error("an empty model passes")
	}
}

func TestConfusion(t *testing.T) {
	c := ml.Confusion{{3, 1}, {0, 4}}
	if c.Accuracy() != 7.0/8 || c.Recall(0) != 0.75 || c.Recall(1) != 1 {
		t.Errorf("accuracy %v, recalls %v %v", c.Accuracy(), c.Recall(0), c.Recall(1))
	}
	if (ml.Confusion{{0}}).Accuracy() != 0 {
		t.Error("the accuracy of nothing")
	}
	want := "| is ╲ taken for | a | b | accuracy |\n|---|---:|---:|---:|\n| a | 3 | 1 | 0.750 |\n| b | 0 | 4 | 1.000 |\n"
	if diff := cmp.Diff(want, c.Markdown([]string{"a", "b"})); diff != "" {
		t.Error(diff)
	}
}
