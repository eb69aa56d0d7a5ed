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
	setName  = "levin-set"           // in a root's dataDir: the set it was copied from, and for which backend
)

// initialise gives a root what `terraform init` would. Init runs once for each
// set of providers, in a folder of the cache; roots get a copy of what it made
// there: the list of modules, whose places are the same in each root, and links
// to the providers (D1). A root with a backend needs an init of its own on top,
// which fetches nothing any more.
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
	backend, err := readBackend(dir)
	if err != nil {
		return failed(err)
	}
	want := key
	if backend != "" {
		want += " " + digest(backend)
	}
	cache := filepath.Join(x.cfg.CacheDir, "terraform")
	set := filepath.Join(cache, "sets", key)
	if exists(set) {
		if mark, err := os.ReadFile(filepath.Join(dir, dataDir, setName)); err == nil && string(mark) == want {
			return nil
		}
	} else if err := x.makeSet(ctx, cache, set, dir, p); err != nil {
		return err
	}
	if err := copyInit(set, dir); err != nil {
		return failed(err)
	}
	if backend != "" {
		if err := x.initBackend(ctx, dir, p); err != nil {
			return err
		}
	}
	// The mark comes last: without it all is made anew.
	if err := os.WriteFile(filepath.Join(dir, dataDir, setName), []byte(want), 0o600); err != nil {
		return failed(err)
	}
	return nil
}

// initBackend lets Terraform see the root's backend. The providers are there
// already, so the plugin cache is not touched and no lock is needed.
func (x *Exec) initBackend(ctx context.Context, dir string, p Providers) error {
	return x.run(ctx, command{
		name: "init", dir: dir, providers: p, out: &stream{}, firstWord: "Initializing",
		run: func(ctx context.Context, tf *tfexec.Terraform) error {
			return tf.Init(ctx, tfexec.Reattach(x.reattachInfo(p)))
		},
	})
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
			// The state of no root is the set's business.
			return tf.Init(ctx, tfexec.Backend(false), tfexec.Reattach(x.reattachInfo(p)))
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
// and its module require, and which providers are served already.
func (x *Exec) providerSet(dir string, p Providers) (string, error) {
	needs, err := initNeeds(dir)
	if err != nil {
		return "", err
	}
	var h strings.Builder
	fmt.Fprintf(&h, "%s %s\n", x.cfg.Binary.Path, x.cfg.Binary.Version)
	for _, source := range sortedKeys(x.reattached(p)) {
		fmt.Fprintf(&h, "reattach %s\n", source)
	}
	for _, need := range needs {
		fmt.Fprintf(&h, "%s\n", need)
	}
	return digest(h.String()), nil
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// initNeeds gives what init looks at in a root and its modules: the terraform
// blocks without their backend, the places of modules, and the names that stand
// for a provider. What the run's machines are is no part of it.
func initNeeds(dir string) ([]string, error) {
	files, err := configFiles(dir)
	if err != nil {
		return nil, err
	}
	var needs []string
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
	slices.Sort(needs)
	return slices.Compact(needs), nil
}

// configFiles gives the *.tf files of a root and of its modules, which may hold
// modules of their own.
func configFiles(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(filepath.Join(dir, modulesDir), func(file string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && filepath.Ext(file) == ".tf" {
			files = append(files, file)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return files, err
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
			text := string(src[block.OpenBraceRange.Start.Byte:block.CloseBraceRange.End.Byte])
			if b := backendBlock(block); b != nil {
				text = string(src[block.OpenBraceRange.Start.Byte:b.TypeRange.Start.Byte]) + string(src[b.CloseBraceRange.End.Byte:block.CloseBraceRange.End.Byte])
			}
			needs = append(needs, fmt.Sprintf("%s: terraform %s", place, strings.Join(strings.Fields(text), " ")))
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

// copyInit gives dir the outcome of the set's init.
func copyInit(set, dir string) error {
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
	return nil
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
