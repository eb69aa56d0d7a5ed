package terraform

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/terraform-exec/tfexec"
)

const (
	dataDir  = ".terraform"          // what `terraform init` makes
	lockName = ".terraform.lock.hcl" // the providers it chose
	setName  = "levin-set"           // in a root's dataDir: the set it was copied from
)

// initialise gives a root what `terraform init` would. Init runs once for each
// set of providers, in a folder of the cache; roots get a copy of what it made
// there: the list of modules, whose places are the same in each root, and links
// to the providers (D1).
//
// A lock lets one process initialise at a time, because Terraform's plugin cache
// is not safe for parallel init (hashicorp/terraform#31964).
func (x *Exec) initialise(ctx context.Context, dir string, p Providers) error {
	failed := func(err error) error {
		return (&ApplyError{Command: "init", Err: err}).Failure(ctx, dir)
	}
	key, err := x.providerSet(dir, p)
	if err != nil {
		return failed(err)
	}
	cache := filepath.Join(x.cfg.CacheDir, "terraform")
	set := filepath.Join(cache, "sets", key)
	if exists(set) {
		if mark, err := os.ReadFile(filepath.Join(dir, dataDir, setName)); err == nil && string(mark) == key {
			return nil
		}
	} else if err := x.makeSet(ctx, cache, set, dir, p); err != nil {
		return err
	}
	if err := copyInit(set, dir, key); err != nil {
		return failed(err)
	}
	return nil
}

// makeSet runs init for a set, unless another root has meanwhile.
func (x *Exec) makeSet(ctx context.Context, cache, set, dir string, p Providers) error {
	failed := func(err error) error {
		return (&ApplyError{Command: "init", Err: err}).Failure(ctx, dir)
	}
	lock := flock.New(filepath.Join(cache, "init.lock"))
	release, err := x.turns.take(ctx, lock.Path()) // in this process, where waiting needs no looking
	if err != nil {
		return failed(err)
	}
	defer release()
	plugins := filepath.Join(cache, "plugins")
	for _, d := range []string{filepath.Dir(set), plugins} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return failed(err)
		}
	}
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil { // others hold it for one init
		return failed(fmt.Errorf("waiting for another init: %w", err))
	}
	defer lock.Unlock()
	if exists(set) {
		return nil
	}
	work, err := os.MkdirTemp(filepath.Dir(set), "new-")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(work) // it has another name when all is well
	if err := copyConfig(dir, work); err != nil {
		return failed(err)
	}
	err = x.run(ctx, command{
		name: "init", dir: work, providers: p, out: &stream{}, firstWord: "Initializing",
		env: map[string]string{
			"TF_PLUGIN_CACHE_DIR": plugins,
			// The lock file of a set never leaves this machine, so it need not know the
			// digests of other platforms.
			"TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE": "true",
		},
		run: func(ctx context.Context, tf *tfexec.Terraform) error {
			return tf.Init(ctx, tfexec.Reattach(reattachInfo(p)))
		},
	})
	if err != nil {
		return err
	}
	if err := os.Rename(work, set); err != nil {
		return failed(err)
	}
	return nil
}

// providerSet names what decides the outcome of init: the binary, what the root
// and its module require, and which providers are served by this process.
func (x *Exec) providerSet(dir string, p Providers) (string, error) {
	needs, err := initNeeds(dir)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %s\n", x.cfg.Binary.Path, x.cfg.Binary.Version)
	for _, source := range sortedKeys(p.Reattach) {
		fmt.Fprintf(h, "reattach %s\n", source)
	}
	for _, need := range needs {
		fmt.Fprintf(h, "%s\n", need)
	}
	return hex.EncodeToString(h.Sum(nil))[:32], nil
}

// initNeeds gives what init looks at in a root and its modules: the terraform
// blocks, the places of modules, and the names that stand for a provider. What
// the run's machines are is no part of it.
func initNeeds(dir string) ([]string, error) {
	var needs []string
	for _, pattern := range []string{"*.tf", filepath.Join("modules", "*", "*.tf")} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			rel, err := filepath.Rel(dir, file)
			if err != nil {
				return nil, err
			}
			src, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			of, err := fileNeeds(src, rel)
			if err != nil {
				return nil, err
			}
			needs = append(needs, of...)
		}
	}
	slices.Sort(needs)
	return slices.Compact(needs), nil
}

func fileNeeds(src []byte, name string) ([]string, error) {
	f, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, diags
	}
	var needs []string
	place := filepath.Dir(name)
	for _, block := range f.Body.(*hclsyntax.Body).Blocks {
		switch block.Type {
		case "terraform":
			needs = append(needs, fmt.Sprintf("%s: terraform %s", place, src[block.OpenBraceRange.Start.Byte:block.CloseBraceRange.End.Byte]))
		case "module":
			need := fmt.Sprintf("%s: module %q", place, block.Labels)
			for _, key := range []string{"source", "version"} {
				if a := block.Body.Attributes[key]; a != nil {
					need += fmt.Sprintf(" %s %s", key, a.Expr.Range().SliceBytes(src))
				}
			}
			needs = append(needs, need)
		case "provider", "resource", "data", "ephemeral":
			if len(block.Labels) > 0 {
				local, _, _ := strings.Cut(block.Labels[0], "_")
				needs = append(needs, fmt.Sprintf("%s: uses %s", place, local))
			}
		}
	}
	return needs, nil
}

// copyConfig copies a root's configuration, without state and values, to where
// init runs.
func copyConfig(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && rel == dataDir:
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case !strings.HasSuffix(rel, ".tf"):
			return nil
		}
		return copyFile(path, filepath.Join(to, rel))
	})
}

// copyInit gives dir the outcome of the set's init. The mark comes last: without
// it all is copied anew.
func copyInit(set, dir, key string) error {
	data := filepath.Join(dir, dataDir)
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	if from := filepath.Join(set, dataDir); exists(from) {
		if err := os.CopyFS(data, os.DirFS(from)); err != nil {
			return err
		}
	}
	if from := filepath.Join(set, lockName); exists(from) {
		if err := copyFile(from, filepath.Join(dir, lockName)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(data, setName), []byte(key), 0o600)
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return renameio.WriteFile(to, b, 0o600, renameio.WithTempDir(filepath.Dir(to)))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
