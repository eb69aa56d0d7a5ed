package terraform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/terraform-exec/tfexec"
	"golang.org/x/sync/semaphore"
)

// Config is what an Exec works with.
type Config struct {
	Binary   Binary
	CacheDir string   // initialised provider sets and the plugin cache
	TempDir  string   // TMPDIR of Terraform, inside the Levin home; "" is the system's
	Env      []string // the user's environment; only an allow-list of it is passed on
	// MaxProcesses bounds Terraform processes that run at the same time; 0 derives
	// it: twice the cores, but one for each GiB of memory at the most (a provider of
	// a big cloud takes about 340 MB beside Terraform itself).
	MaxProcesses int
	// StopGrace is how long an interrupted Terraform may take to write its state
	// before it is killed; default 60 s.
	StopGrace time.Duration
	Logger    *slog.Logger
}

// Exec is the Runner that runs a terraform or tofu binary.
type Exec struct {
	cfg       Config
	processes *semaphore.Weighted

	mu    sync.Mutex
	roots map[string]*root // by folder
}

// root is what is remembered of one folder: its turn, and terraform-exec's
// object, which remembers the version it asked the binary for.
type root struct {
	turn chan struct{} // holds one token: calls on one folder queue
	tf   *tfexec.Terraform
}

var _ Runner = (*Exec)(nil)

// NewRunner makes a Runner for a binary that Find found.
func NewRunner(cfg Config) (*Exec, error) {
	if cfg.Binary.Path == "" {
		return nil, errors.New("terraform: no binary")
	}
	if cfg.MaxProcesses <= 0 {
		cfg.MaxProcesses = defaultProcesses()
	}
	if cfg.StopGrace <= 0 {
		cfg.StopGrace = time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	for _, dir := range []string{cfg.TempDir, cfg.CacheDir} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("terraform: %w", err)
		}
	}
	return &Exec{cfg: cfg, processes: semaphore.NewWeighted(int64(cfg.MaxProcesses)), roots: map[string]*root{}}, nil
}

func defaultProcesses() int {
	n := 2 * runtime.NumCPU()
	if gib := totalMemory() >> 30; gib > 0 {
		n = min(n, int(gib))
	}
	return max(1, n)
}

// Apply implements Runner.
func (x *Exec) Apply(ctx context.Context, dir string, p Providers) (Outputs, error) {
	r, release, err := x.take(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := x.initialise(ctx, r, dir, p); err != nil {
		return nil, err
	}
	fresh := !hasState(dir)
	var s stream
	s.progress = x.progress(dir)
	err = x.run(ctx, "apply "+filepath.Base(dir), r, dir, p, &s, func(ctx context.Context, reattach tfexec.ReattachInfo) error {
		options := []tfexec.ApplyOption{tfexec.Parallelism(parallelism), tfexec.Reattach(reattach)}
		if fresh {
			options = append(options, tfexec.Refresh(false)) // there is nothing to look up
		}
		return r.tf.ApplyJSON(ctx, &s, options...)
	})
	return s.outputs, err
}

// parallelism is how many resources of one root Terraform creates at the same
// time; its own default of 10 leaves a group of 100 waiting.
const parallelism = 32

// Destroy implements Runner.
func (x *Exec) Destroy(ctx context.Context, dir string, p Providers) error {
	r, release, err := x.take(ctx, dir)
	if err != nil {
		return err
	}
	defer release()
	if !hasState(dir) {
		return nil // it was never applied, or never got as far as creating
	}
	if left, err := Resources(dir); err == nil && len(left) == 0 {
		return nil
	}
	if err := x.initialise(ctx, r, dir, p); err != nil {
		return err
	}
	var s stream
	s.progress = x.progress(dir)
	err = x.run(ctx, "destroy "+filepath.Base(dir), r, dir, p, &s, func(ctx context.Context, reattach tfexec.ReattachInfo) error {
		return r.tf.DestroyJSON(ctx, &s, tfexec.Parallelism(parallelism), tfexec.Reattach(reattach))
	})
	if err == nil {
		x.mu.Lock()
		delete(x.roots, dir)
		x.mu.Unlock()
	}
	return err
}

// take waits for the folder's turn and for a process to be free.
func (x *Exec) take(ctx context.Context, dir string) (*root, func(), error) {
	x.mu.Lock()
	r := x.roots[dir]
	if r == nil {
		r = &root{turn: make(chan struct{}, 1)}
		x.roots[dir] = r
	}
	x.mu.Unlock()
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("terraform: waiting for %s: %w", dir, ctx.Err())
	}
	if err := x.processes.Acquire(ctx, 1); err != nil {
		<-r.turn
		return nil, nil, fmt.Errorf("terraform: waiting for a free process: %w", err)
	}
	return r, func() {
		x.processes.Release(1)
		<-r.turn
	}, nil
}

// object gives terraform-exec's object for the folder.
func (x *Exec) object(r *root, dir string, p Providers) error {
	if r.tf == nil {
		tf, err := tfexec.NewTerraform(dir, x.cfg.Binary.Path)
		if err != nil {
			return fmt.Errorf("terraform: %w", err)
		}
		if err := tf.SetWaitDelay(x.cfg.StopGrace); err != nil {
			return err
		}
		r.tf = tf
	}
	// terraform-exec keeps the map: it gets one of its own each time.
	if err := r.tf.SetEnv(childEnv(x.cfg.Env, p.Env, x.cfg.TempDir)); err != nil {
		return fmt.Errorf("terraform: %w", err)
	}
	return nil
}

// run runs one command, and puts its failure into words.
func (x *Exec) run(ctx context.Context, doing string, r *root, dir string, p Providers, s *stream, command func(context.Context, tfexec.ReattachInfo) error) error {
	if err := x.object(r, dir, p); err != nil {
		return err
	}
	var stderr bytes.Buffer
	r.tf.SetStderr(&stderr)
	started := time.Now()
	err := command(ctx, reattachInfo(p))
	x.cfg.Logger.Debug("terraform", "did", doing, "took", time.Since(started), "error", err)
	if err == nil {
		return nil
	}
	return (&ApplyError{Diagnostics: s.diagnostics, Stderr: withoutConfigWarning(stderr.String()), Err: err}).failure(doing, dir)
}

func (x *Exec) progress(dir string) func(string) {
	return func(line string) { x.cfg.Logger.Debug("terraform", "root", filepath.Base(dir), "says", line) }
}

func reattachInfo(p Providers) tfexec.ReattachInfo {
	info := tfexec.ReattachInfo{}
	for source, r := range p.Reattach {
		info[source] = tfexec.ReattachConfig{
			Protocol: r.Protocol, ProtocolVersion: r.ProtocolVersion, Pid: r.PID, Test: true,
			Addr: tfexec.ReattachConfigAddr{Network: r.Network, String: r.Address},
		}
	}
	return info
}

// hasState reports whether anything was ever applied in dir.
func hasState(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, stateFile))
	return !errors.Is(err, fs.ErrNotExist)
}
