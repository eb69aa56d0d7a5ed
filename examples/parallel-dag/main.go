// Command parallel-dag holds the four components of this app, one a subcommand:
//
//	process            splits the wines into train.csv and check.csv
//	train MODEL        trains one model and says how good it is
//	best RESULTS       picks the best of the trainers' results
//	report             writes report.md about all of them
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/levinrun/levin/examples/ml"
)

// metrics is the result of one trainer; it is metrics.json, too.
type metrics struct {
	Model     string       `json:"model"`
	Accuracy  float64      `json:"accuracy"` // on the wines held out
	Classes   []string     `json:"classes"`
	Confusion ml.Confusion `json:"confusion"`
}

// choice is the result of best; it is best.json, too.
type choice struct {
	Model    string  `json:"model"`
	Accuracy float64 `json:"accuracy"`
	Of       int     `json:"of"` // how many there were to choose from
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "parallel-dag:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == "process":
		return process(out)
	case len(args) == 2 && args[0] == "train":
		return train(args[1], out)
	case len(args) == 2 && args[0] == "best":
		return best([]byte(args[1]), out)
	case len(args) == 1 && args[0] == "report":
		return report(out)
	}
	return errors.New("usage: parallel-dag process | train MODEL | best RESULTS | report")
}

func process(out io.Writer) error {
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("SEED"), "1"), 10, 64)
	if err != nil {
		return fmt.Errorf("SEED: %w", err)
	}
	data, err := ml.Load("data/wine.csv")
	if err != nil {
		return err
	}
	rows, held := data.Split(0.3, seed)
	if err := save("train.csv", data, rows); err != nil {
		return err
	}
	if err := save("check.csv", data, held); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d wines to train on, %d held out, seed %d\n", len(rows), len(held), seed)
	return writeResult(map[string]int{"train": len(rows), "check": len(held)})
}

func save(name string, data ml.Dataset, rows []int) error {
	part, err := data.Pick(rows)
	if err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(part.Write(f), f.Close())
}

func train(kind string, out io.Writer) error {
	training, err := ml.Load("inputs/process/train.csv")
	if err != nil {
		return err
	}
	checking, err := ml.Load("inputs/process/check.csv")
	if err != nil {
		return err
	}
	model, err := ml.Fit(kind, training)
	if err != nil {
		return err
	}
	m := metrics{Model: kind, Classes: checking.Classes, Confusion: ml.Check(model, checking)}
	m.Accuracy = m.Confusion.Accuracy()
	fmt.Fprintf(out, "%s: accuracy %.3f on %d wines it had not seen\n", kind, m.Accuracy, len(checking.X))
	if err := writeJSON("model.json", model); err != nil {
		return err
	}
	if err := writeJSON("metrics.json", m); err != nil {
		return err
	}
	return writeResult(m)
}

// best takes the trainers' results as one JSON object, by model. Of several with
// the same accuracy the first by name is taken.
func best(results []byte, out io.Writer) error {
	var all map[string]metrics
	if err := json.Unmarshal(results, &all); err != nil {
		return fmt.Errorf("the results of train: %w", err)
	}
	if len(all) == 0 {
		return errors.New("there is no model to choose from")
	}
	c := choice{Accuracy: -1, Of: len(all)}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if all[name].Accuracy > c.Accuracy {
			c.Model, c.Accuracy = name, all[name].Accuracy
		}
	}
	fmt.Fprintf(out, "the best of %d is %s: accuracy %.3f\n", c.Of, c.Model, c.Accuracy)
	if err := writeJSON("best.json", c); err != nil {
		return err
	}
	return writeResult(c)
}

func report(out io.Writer) error {
	var c choice
	if err := readJSON("inputs/best/best.json", &c); err != nil {
		return err
	}
	files, err := filepath.Glob("inputs/train/*/metrics.json") // one folder for each model, sorted
	if err != nil {
		return err
	}
	if len(files) != c.Of {
		return fmt.Errorf("there are metrics of %d models, the best was chosen of %d", len(files), c.Of)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Wines: which model knows them best\n\nThe best of %d is **%s**, with an accuracy of %.3f.\n", c.Of, c.Model, c.Accuracy)
	for _, file := range files {
		var m metrics
		if err := readJSON(file, &m); err != nil {
			return err
		}
		fmt.Fprintf(&b, "\n## %s: %.3f\n\n%s", m.Model, m.Accuracy, m.Confusion.Markdown(m.Classes))
	}
	if err := os.WriteFile("report.md", []byte(b.String()), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(out, "report.md is about %d models\n", len(files))
	return nil
}

func readJSON(name string, v any) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func writeJSON(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(text, '\n'), 0o644)
}

// writeResult writes the value that other components can ask for as
// ${component.result}; outside Levin there is nowhere to write it.
func writeResult(v any) error {
	name := os.Getenv("LEVIN_RESULT")
	if name == "" {
		return nil
	}
	return writeJSON(name, v)
}
