// Command analyze checks the model that train made on flowers that it had not
// seen, and writes report.md. Levin has put train's outputs into inputs/train
// and its accuracy on the command line.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"

	"github.com/levinrun/levin/examples/ml"
)

// model is what train wrote to model.json.
type model struct {
	*ml.Logistic
	Held []int `json:"held"`
}

type result struct {
	Accuracy float64            `json:"accuracy"`
	ByClass  map[string]float64 `json:"by_class"`
	Message  string             `json:"message"`
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "analyze:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: analyze MACHINE ACCURACY")
	}
	machine := args[0]
	claimed, err := strconv.ParseFloat(args[1], 64)
	if err != nil {
		return fmt.Errorf("the accuracy that train found: %w", err)
	}
	data, err := ml.Load("data/iris.csv")
	if err != nil {
		return err
	}
	m, err := loadModel("inputs/train/model.json", data)
	if err != nil {
		return err
	}
	checking, err := data.Pick(m.Held)
	if err != nil {
		return err
	}

	confusion := ml.Check(m, checking)
	r := result{Accuracy: confusion.Accuracy(), ByClass: map[string]float64{}}
	for i, class := range data.Classes {
		r.ByClass[class] = confusion.Recall(i)
	}
	if math.Abs(r.Accuracy-claimed) > 1e-9 {
		return fmt.Errorf("the model's accuracy is %.4f here, and train said %.4f", r.Accuracy, claimed)
	}
	r.Message = fmt.Sprintf("analyzed on %s: accuracy %.3f on %d flowers", machine, r.Accuracy, len(m.Held))
	fmt.Fprintln(out, r.Message)

	report := fmt.Sprintf("# Iris: what the model knows\n\nAnalyzed on %s. Accuracy on %d flowers it had not seen: %.3f.\n\n%s",
		machine, len(m.Held), r.Accuracy, confusion.Markdown(data.Classes))
	if err := os.WriteFile("report.md", []byte(report), 0o644); err != nil {
		return err
	}
	return writeResult(r)
}

func loadModel(path string, data ml.Dataset) (model, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return model{}, err
	}
	m := model{Logistic: &ml.Logistic{}}
	if err := json.Unmarshal(text, &m); err != nil {
		return model{}, fmt.Errorf("%s: %w", path, err)
	}
	if err := m.Validate(data); err != nil {
		return model{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func writeResult(r result) error {
	name := os.Getenv("LEVIN_RESULT")
	if name == "" {
		return nil // run outside Levin
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(name, text, 0o644)
}
