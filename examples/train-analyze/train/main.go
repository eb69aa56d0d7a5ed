// Command train teaches a model to tell three species of iris apart. Levin runs
// it on the machine that it was given; it knows nothing of Levin but the name of
// a file for its result.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/levinrun/levin/examples/ml"
)

// model is what goes on to analyze, as model.json.
type model struct {
	*ml.Logistic
	Held []int `json:"held"` // rows of the data that the model has not seen
}

// result is what others can ask for as ${train.result.…}.
type result struct {
	Accuracy float64 `json:"accuracy"` // on the rows held out
	Message  string  `json:"message"`
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "train:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: train MACHINE")
	}
	machine := args[0]
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("SEED"), "1"), 10, 64)
	if err != nil {
		return fmt.Errorf("SEED: %w", err)
	}
	data, err := ml.Load("data/iris.csv")
	if err != nil {
		return err
	}
	rows, held := data.Split(0.3, seed)
	training, err := data.Pick(rows)
	if err != nil {
		return err
	}
	checking, err := data.Pick(held)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "training on %s: %d flowers, %d held out, seed %d\n", machine, len(rows), len(held), seed)

	m := model{ml.FitLogistic(training), held}
	r := result{Accuracy: ml.Check(m, checking).Accuracy()}
	r.Message = fmt.Sprintf("trained on %s: accuracy %.3f on flowers it had not seen", machine, r.Accuracy)
	fmt.Fprintln(out, r.Message)

	if err := writeJSON("model.json", m); err != nil {
		return err
	}
	return writeJSON(os.Getenv("LEVIN_RESULT"), r)
}

// writeJSON writes v to a file; no name is no file, for runs outside Levin.
func writeJSON(name string, v any) error {
	if name == "" {
		return nil
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(text, '\n'), 0o644)
}
