package terraform

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/terraform-exec/tfexec"
)

// Resources gives the addresses of everything that the state of the root in dir
// says exists, sorted, wherever that state is kept.
func (x *Exec) Resources(ctx context.Context, dir string, p Providers) ([]string, error) {
	dir, release, err := x.take(ctx, "state pull", dir)
	if err != nil {
		return nil, err
	}
	defer release()
	remote, err := readBackend(dir)
	if err != nil {
		return nil, (&ApplyError{Command: "state pull", Err: err}).Failure(ctx, dir)
	}
	if remote != "" {
		if err := x.initialise(ctx, dir, p); err != nil {
			return nil, err
		}
	}
	return x.resources(ctx, dir, p)
}

// resources is Resources for a root that is initialised and whose turn is taken.
func (x *Exec) resources(ctx context.Context, dir string, p Providers) ([]string, error) {
	remote, err := readBackend(dir)
	if err != nil {
		return nil, (&ApplyError{Command: "state pull", Err: err}).Failure(ctx, dir)
	}
	if remote == "" {
		return Resources(dir)
	}
	var state string
	err = x.run(ctx, command{name: "state pull", urgent: true, dir: dir, providers: p, out: &stream{}, run: func(ctx context.Context, tf *tfexec.Terraform) error {
		var err error
		state, err = tf.StatePull(ctx)
		return err
	}})
	if err != nil {
		return nil, err
	}
	pulled, err := stateAddresses([]byte(state))
	if err != nil {
		return nil, fmt.Errorf("reading the state of %s from its backend: %w", dir, err)
	}
	errored, err := readState(filepath.Join(dir, erroredFile))
	if err != nil {
		return nil, err
	}
	all := append(pulled, errored...)
	slices.Sort(all)
	return slices.Compact(all), nil
}

// restore gives the state what an earlier Terraform could not: it leaves that in
// a file of its own.
func (x *Exec) restore(ctx context.Context, dir string, p Providers) error {
	errored := filepath.Join(dir, erroredFile)
	if !exists(errored) {
		return nil
	}
	err := x.run(ctx, command{name: "state push", urgent: true, dir: dir, providers: p, out: &stream{}, run: func(ctx context.Context, tf *tfexec.Terraform) error {
		return tf.StatePush(ctx, erroredFile, tfexec.Lock(true), tfexec.LockTimeout(stateLock))
	}})
	if err != nil {
		return err
	}
	return os.Remove(errored)
}
