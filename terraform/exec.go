package terraform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/hashicorp/terraform-exec/tfexec"

	"github.com/levinrun/levin/cluster"
)

// Config is what an Exec works with.
type Config struct {
	Binary   Binary
	CacheDir string   // initialised provider sets and the plugin cache
	TempDir  string   // TMPDIR of Terraform, inside the Levin home; "" is the system's
	Env      []string // KEY=VALUE, the user's environment; only an allow-list of it is passed on
	// MaxProcesses bounds Terraform processes that run at the same time; 0 derives
	// it: twice the cores, because most of the time Terraform waits for its cloud,
	// but one for each GiB of memory at the most (a provider of a big cloud takes
	// about 340 MB beside Terraform itself), and at least one.
	MaxProcesses int
	// StopGrace is how long an interrupted Terraform may take to write its state
	// before it is killed; default 60 s.
	StopGrace time.Duration
	Logger    *slog.Logger
}

// Exec is the Runner that runs a terraform or tofu binary.
//
// An Apply or a Destroy is one Terraform process, with one more for `init` when
// no root with the same set of providers was ever initialised. A root with a
// backend costs one more `init`, and a Destroy of it two looks at the state.
type Exec struct {
	cfg       Config
	reattach  map[string]Reattach // of the user's environment
	processes *processes
	turns     turns // by folder: calls on one queue
}

var _ Runner = (*Exec)(nil)

// parallelism is how many resources of one root Terraform creates at the same
// time; its own default of 10 leaves a group of 100 waiting.
const parallelism = 32

// stateLock is how long Terraform waits for a state that another process holds:
// one that was interrupted a moment ago and is about to be through.
const stateLock = "60s"

// NewRunner makes a Runner for a binary that Find found.
func NewRunner(cfg Config) (*Exec, error) {
	if cfg.Binary.Path == "" {
		return nil, errors.New("terraform: no binary")
	}
	if cfg.CacheDir == "" {
		return nil, errors.New("terraform: no folder for its cache")
	}
	if cfg.MaxProcesses <= 0 {
		cfg.MaxProcesses = defaultProcesses(runtime.GOMAXPROCS(0), totalMemory())
	}
	if cfg.StopGrace <= 0 {
		cfg.StopGrace = time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	for _, dir := range []*string{&cfg.CacheDir, &cfg.TempDir} {
		if *dir == "" {
			continue
		}
		abs, err := filepath.Abs(*dir) // Terraform runs in another folder
		if err != nil {
			return nil, fmt.Errorf("terraform: %w", err)
		}
		if err := os.MkdirAll(abs, 0o700); err != nil {
			return nil, fmt.Errorf("terraform: %w", err)
		}
		*dir = abs
	}
	reattach, err := userReattach(cfg.Env)
	if err != nil {
		return nil, err
	}
	return &Exec{cfg: cfg, reattach: reattach, processes: newProcesses(cfg.MaxProcesses)}, nil
}

// defaultProcesses is MaxProcesses for so many cores and bytes of memory; 0 bytes
// is not known.
func defaultProcesses(cores int, memory uint64) int {
	n := 2 * cores
	if memory > 0 {
		n = min(n, int(memory>>30))
	}
	return max(1, n)
}

// Apply implements Runner.
func (x *Exec) Apply(ctx context.Context, dir string, p Providers) (Outputs, error) {
	dir, release, err := x.take(ctx, "apply", dir)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := x.initialise(ctx, dir, p); err != nil {
		return nil, err
	}
	if err := x.restore(ctx, dir, p); err != nil {
		return nil, err // what the state does not know would be created a second time
	}
	out := x.newStream(dir)
	err = x.run(ctx, command{name: "apply", dir: dir, providers: p, out: out, run: func(ctx context.Context, tf *tfexec.Terraform) error {
		// ApplyJSON would start a `terraform version` first, in each instance; Find has
		// asked already. The last argument stands where a plan file could.
		return tf.Apply(ctx, tfexec.Refresh(false), tfexec.Backup("-"), tfexec.LockTimeout(stateLock),
			tfexec.Parallelism(parallelism), tfexec.Reattach(x.reattachInfo(p)), tfexec.DirOrPlan("-json"))
	}})
	if err != nil {
		return nil, err
	}
	return out.outputs, nil
}

// Destroy implements Runner.
func (x *Exec) Destroy(ctx context.Context, dir string, p Providers) error {
	dir, release, err := x.take(ctx, "destroy", dir)
	if err != nil {
		return err
	}
	defer release()
	remote, err := readBackend(dir)
	if err != nil {
		return (&ApplyError{Command: "destroy", Err: err}).Failure(ctx, dir)
	}
	if remote == "" {
		if left, err := Resources(dir); err != nil || len(left) == 0 {
			return err // it was never applied, or never got as far as creating
		}
	}
	if err := x.initialise(ctx, dir, p); err != nil {
		return err
	}
	notRestored := x.restore(ctx, dir, p) // what can be removed is removed all the same
	if notRestored != nil && ctx.Err() != nil {
		return notRestored
	}
	if left, err := x.resources(ctx, dir, p); err != nil || len(left) == 0 {
		return err
	}
	// What the state says is deleted without a look first: whoever calls knows that
	// it has to go, and a look at each resource of a big cloud takes seconds. A
	// provider that will not delete what is gone already gets the look.
	for _, look := range []bool{false, true} {
		err = x.run(ctx, command{name: "destroy", urgent: true, dir: dir, providers: p, out: x.newStream(dir), run: func(ctx context.Context, tf *tfexec.Terraform) error {
			return tf.Destroy(ctx, tfexec.Refresh(look), tfexec.Backup("-"), tfexec.LockTimeout(stateLock),
				tfexec.Parallelism(parallelism), tfexec.Reattach(x.reattachInfo(p)), tfexec.Dir("-json")) // see Apply
		}})
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return err
	}
	left, err := x.resources(ctx, dir, p)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return &cluster.Failure{
			Kind: cluster.Unclean,
			What: fmt.Sprintf("terraform destroy ended well in %s, and its state still holds %s", dir, strings.Join(left, ", ")),
			Next: "look into " + stateFile + " (or the state's backend) and " + erroredFile + " there, and remove by hand what still exists",
			Err:  notRestored,
		}
	}
	return nil
}

// take waits for the folder's turn. It gives the folder's one absolute name.
func (x *Exec) take(ctx context.Context, name, dir string) (string, func(), error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", nil, fmt.Errorf("terraform: %w", err)
	}
	release, err := x.turns.take(ctx, dir)
	if err != nil {
		return "", nil, (&ApplyError{Command: name, Err: err}).Failure(ctx, dir)
	}
	return dir, release, nil
}

func (x *Exec) newStream(dir string) *stream {
	return &stream{progress: func(line string) {
		x.cfg.Logger.Debug("terraform", "root", filepath.Base(dir), "says", line)
	}}
}
