package terraform

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/terraform-exec/tfexec"
)

// Planned is what an Apply of a root would do.
type Planned struct {
	Resources []PlannedResource // those that would be created or changed, in Terraform's order
	// Removed are the addresses of what would be removed or replaced.
	Removed []string
}

// PlannedResource is one resource that would be created or changed.
type PlannedResource struct {
	Address string // module.machines.aws_instance.machine["web"]
	Type    string // aws_instance
	// Values are its attributes and nested blocks as they would be, in JSON's types.
	// What only the apply will tell (ids, addresses) is not in there, at any depth;
	// null stands for what the root leaves unset. They may hold host keys.
	Values map[string]any
	// Unknown are the attributes and blocks at the top level that are unknown, wholly
	// or in part, until the apply, sorted.
	Unknown []string
}

// Plan says what an Apply of the root in dir would do, and does none of it.
// Data that the root looks up (images, networks) is looked up. Errors are those of
// Apply.
//
// No lock is taken, and nothing in the state or in the world changes. The plan
// itself is removed again from dir.
func (x *Exec) Plan(ctx context.Context, dir string, p Providers) (Planned, error) {
	dir, release, err := x.take(ctx, "plan", dir)
	if err != nil {
		return Planned{}, err
	}
	defer release()
	if err := x.initialise(ctx, dir, p); err != nil {
		return Planned{}, err
	}
	const file = "levin.tfplan"
	defer os.Remove(filepath.Join(dir, file))
	err = x.run(ctx, command{name: "plan", dir: dir, providers: p, out: x.newStream(dir), run: func(ctx context.Context, tf *tfexec.Terraform) error {
		_, err := tf.Plan(ctx, tfexec.Out(file), tfexec.Refresh(false), tfexec.Lock(false),
			tfexec.Parallelism(parallelism), tfexec.Reattach(x.reattachInfo(p)), tfexec.Dir("-json")) // see Apply
		return err
	}})
	if err != nil {
		return Planned{}, err
	}
	var planned Planned
	err = x.run(ctx, command{name: "show", dir: dir, providers: p, out: &stream{}, run: func(ctx context.Context, tf *tfexec.Terraform) error {
		plan, err := tf.ShowPlanFile(ctx, file, tfexec.Reattach(x.reattachInfo(p)))
		if err != nil {
			return err
		}
		for _, r := range plan.ResourceChanges {
			if r.Mode != "managed" {
				continue // data that was looked up
			}
			actions := r.Change.Actions
			if actions.Delete() || actions.Replace() {
				planned.Removed = append(planned.Removed, r.Address)
			}
			if !actions.Create() && !actions.Update() && !actions.Replace() {
				continue
			}
			values, ok := r.Change.After.(map[string]any)
			if !ok {
				return fmt.Errorf("the plan says of %s what is not understood", r.Address)
			}
			unknown, _ := r.Change.AfterUnknown.(map[string]any)
			one := PlannedResource{Address: r.Address, Type: r.Type, Values: known(values, unknown).(map[string]any)}
			for _, name := range sortedKeys(unknown) {
				if anyTrue(unknown[name]) {
					one.Unknown = append(one.Unknown, name)
				}
			}
			planned.Resources = append(planned.Resources, one)
		}
		return nil
	}})
	if err != nil {
		return Planned{}, err
	}
	return planned, nil
}

// known drops from a value what is unknown of it. Terraform marks that in a value
// of the same form with true, and itself puts null where a list has to keep its
// places.
func known(value, unknown any) any {
	switch v := value.(type) {
	case map[string]any:
		marks, _ := unknown.(map[string]any)
		kept := map[string]any{}
		for name, part := range v {
			if marks[name] != true {
				kept[name] = known(part, marks[name])
			}
		}
		return kept
	case []any:
		marks, _ := unknown.([]any)
		kept := []any{}
		for i, part := range v {
			var mark any
			if i < len(marks) {
				mark = marks[i]
			}
			if mark != true {
				kept = append(kept, known(part, mark))
			}
		}
		return kept
	}
	return value
}

// anyTrue reports whether a mark, or any mark within it, is true.
func anyTrue(mark any) bool {
	switch m := mark.(type) {
	case bool:
		return m
	case map[string]any:
		for _, part := range m {
			if anyTrue(part) {
				return true
			}
		}
	case []any:
		for _, part := range m {
			if anyTrue(part) {
				return true
			}
		}
	}
	return false
}
