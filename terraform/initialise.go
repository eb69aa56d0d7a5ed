package terraform

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
)

// initialise gives a root what `terraform init` would, running it once for each
// set of providers and copying its work afterwards (DESIGN D1: a shared plugin
// cache is not safe for parallel init, hashicorp/terraform#31964).
func (x *Exec) initialise(ctx context.Context, r *root, dir string, p Providers) error {
	if _, err := os.Stat(filepath.Join(dir, dataDir, "modules", "modules.json")); err == nil {
		return nil
	}
	key, err := x.providerSet(dir, p)
	if err != nil {
		return err
	}
	set := filepath.Join(x.cfg.CacheDir, "terraform", "init", key)
	if err := x.ready(ctx, set, dir, p); err != nil {
		return err
	}
	return copyInit(set, dir)
}

// providerSet names what decides the outcome of init: the binary, what the root
// and its module require, and which providers are served by this process.
func (x *Exec) providerSet(dir string, p Providers) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s %s\n", x.cfg.Binary.Path, x.cfg.Binary.Version)
	for _, source := range sortedKeys(p.Reattach) {
		fmt.Fprintf(h, "reattach %s\n", source)
	}
	blocks, err := initBlocks(dir)
	if err != nil {
		return "", err
	}
	h.Write(blocks)
	return hex.EncodeToString(h.Sum(nil))[:32], nil
}

// initBlocks gives the parts of main.tf and of its modules that init looks at:
// the terraform blocks, and where the modules are.
func initBlocks(dir string) ([]byte, error) {
	var out []byte
	files, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil {
		return nil, err
	}
	modules, err := filepath.Glob(filepath.Join(dir, "modules", "*", "*.tf"))
	if err != nil {
		return nil, err
	}
	for _, file := range append(files, modules...) {
		src, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		f, diags := hclsyntax.ParseConfig(src, file, hcl.InitialPos)
		if diags.HasErrors() {
			return nil, fmt.Errorf("terraform: %w", diags)
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return nil, err
		}
		for _, block := range f.Body.(*hclsyntax.Body).Blocks {
			switch block.Type {
			case "terraform":
				out = fmt.Appendf(out, "%s %s\n", rel, block.Range().SliceBytes(src))
			case "module":
				out = fmt.Appendf(out, "%s module %v", rel, block.Labels)
				if a := block.Body.Attributes["source"]; a != nil {
					out = fmt.Appendf(out, " %s", a.Expr.Range().SliceBytes(src))
				}
				out = append(out, '\n')
			}
		}
	}
	return out, nil
}

// ready makes sure that the set has been initialised, by this process or another.
func (x *Exec) ready(ctx context.Context, set, dir string, p Providers) error {
	done := filepath.Join(set, "done")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := os.MkdirAll(set, 0o700); err != nil {
		return fmt.Errorf("terraform: %w", err)
	}
	lock := flock.New(set + ".lock")
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil { // other processes hold it for one init
		return fmt.Errorf("terraform: waiting for another init: %w", err)
	}
	defer lock.Unlock()
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := copyConfig(dir, set); err != nil {
		return fmt.Errorf("terraform: %w", err)
	}
	r := &root{}
	err := x.run(ctx, "initialise the providers", r, set, p, &stream{}, func(ctx context.Context, reattach tfexec.ReattachInfo) error {
		return r.tf.Init(ctx, tfexec.Reattach(reattach), tfexec.Upgrade(false))
	})
	if err != nil {
		return err
	}
	return os.WriteFile(done, nil, 0o600)
}

// copyConfig copies a root's configuration, without state, to where init runs.
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
		case !strings.HasSuffix(rel, ".tf") && rel != lockName:
			return nil
		}
		return copyFile(path, filepath.Join(to, rel))
	})
}

// copyInit gives dir the outcome of the set's init: the list of modules, whose
// places are the same in each root, the chosen providers, and a link to them.
func copyInit(set, dir string) error {
	data := filepath.Join(dir, dataDir)
	if err := os.MkdirAll(filepath.Join(data, "modules"), 0o700); err != nil {
		return fmt.Errorf("terraform: %w", err)
	}
	providers := filepath.Join(set, dataDir, "providers")
	if _, err := os.Stat(providers); err == nil {
		if err := os.Symlink(providers, filepath.Join(data, "providers")); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("terraform: %w", err)
		}
	}
	if _, err := os.Stat(filepath.Join(set, lockName)); err == nil {
		if err := copyFile(filepath.Join(set, lockName), filepath.Join(dir, lockName)); err != nil {
			return fmt.Errorf("terraform: %w", err)
		}
	}
	modules := filepath.Join(set, dataDir, "modules", "modules.json")
	if _, err := os.Stat(modules); errors.Is(err, fs.ErrNotExist) {
		// A root without modules: an empty list marks it as initialised.
		empty, _ := json.Marshal(map[string][]any{"Modules": {}})
		return renameio.WriteFile(filepath.Join(data, "modules", "modules.json"), empty, 0o600, renameio.WithTempDir(data))
	}
	return copyFile(modules, filepath.Join(data, "modules", "modules.json"))
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return renameio.WriteFile(to, b, 0o600, renameio.WithTempDir(filepath.Dir(to)))
}

// withoutConfigWarning drops Terraform's warning about a CLI configuration file
// that TF_CLI_CONFIG_FILE names and that does not exist; it is no error.
func withoutConfigWarning(stderr string) string {
	const begin, end = "There are some problems with the CLI configuration:", "╵"
	at := strings.Index(stderr, begin)
	if at < 0 || !strings.Contains(stderr[at:], "does not exist") {
		return stderr
	}
	_, rest, _ := strings.Cut(stderr[at:], end)
	return stderr[:at] + rest
}
