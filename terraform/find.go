package terraform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hc-install/product"
	"github.com/hashicorp/hc-install/releases"

	"github.com/levinrun/levin/cluster"
)

// The oldest version that Levin drives, and the one it fetches where there is
// none. 1.6 is the first version that both Terraform and OpenTofu have.
const (
	minVersion    = "1.6.0"
	pinnedVersion = "1.11.4"
)

// Binary is a Terraform or OpenTofu that can be used.
type Binary struct {
	Path    string // absolute
	Version string // "1.11.4"
	Tofu    bool
}

// FindOptions says where to look.
type FindOptions struct {
	Path     string   // of the binary, from the settings; "" looks on PATH and then fetches
	CacheDir string   // a fetched Terraform and the versions of binaries are kept here
	Env      []string // KEY=VALUE: PATH, and what Terraform itself is given

	releases string // base URL to fetch from; "" is HashiCorp's
}

// Find finds terraform or tofu: the one of the settings, else on PATH, else a
// pinned version that is fetched, verified and kept in the cache. The version of
// a binary is asked for once and remembered until the file changes.
func Find(ctx context.Context, o FindOptions) (Binary, error) {
	if o.Path != "" {
		b, err := o.check(ctx, o.Path)
		if err != nil {
			return Binary{}, &cluster.Failure{
				Kind: cluster.BadInput, What: "the settings name " + o.Path + " as Terraform, which cannot be used", Err: err,
				Next: "set `terraform` to a terraform or tofu of version " + minVersion + " or newer, or leave it out",
			}
		}
		return b, nil
	}
	var unusable []error
	for _, name := range []string{"terraform", "tofu"} {
		path, ok := lookPath(o.Env, name)
		if !ok {
			continue
		}
		b, err := o.check(ctx, path)
		if err == nil {
			return b, nil
		}
		unusable = append(unusable, err)
	}
	path, err := o.fetch(ctx)
	if err == nil {
		var b Binary
		if b, err = o.check(ctx, path); err == nil {
			return b, nil
		}
	}
	what := "there is no terraform or tofu on PATH"
	if len(unusable) > 0 {
		what = "there is no terraform or tofu on PATH that can be used"
	}
	return Binary{}, &cluster.Failure{
		Kind: cluster.Provisioning,
		What: what + ", and Terraform " + pinnedVersion + " could not be fetched",
		Err:  errors.Join(append(unusable, err)...),
		Next: "install Terraform (https://developer.hashicorp.com/terraform/install) or OpenTofu (https://opentofu.org/docs/intro/install), version " + minVersion + " or newer, or set `terraform` in the settings to its path",
	}
}

// check asks a binary for its version, or remembers it.
func (o FindOptions) check(ctx context.Context, path string) (Binary, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Binary{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return Binary{}, err
	}
	key := fmt.Sprintf("%s %d %d", path, info.Size(), info.ModTime().UnixNano())
	memory := filepath.Join(o.CacheDir, "terraform", "versions.json")
	known := map[string]Binary{}
	if b, err := os.ReadFile(memory); err == nil {
		json.Unmarshal(b, &known) // a damaged memory is an empty one
	}
	if b, ok := known[key]; ok && b.Path == path {
		return b, nil
	}
	b, err := o.ask(ctx, path)
	if err != nil {
		return Binary{}, err
	}
	known[key] = b
	if text, err := json.Marshal(known); err == nil && os.MkdirAll(filepath.Dir(memory), 0o700) == nil {
		renameio.WriteFile(memory, text, 0o600, renameio.WithTempDir(filepath.Dir(memory))) // asked again next time if this fails
	}
	return b, nil
}

// ask runs `terraform version -json`. The warning about a CLI configuration that
// does not exist may stand around the JSON.
func (o FindOptions) ask(ctx context.Context, path string) (Binary, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version", "-json")
	cmd.Env = envList(childEnv(o.Env, ""))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return Binary{}, fmt.Errorf("%s version: %w %s", path, err, strings.TrimSpace(stderr.String()))
	}
	var answer struct {
		Version string `json:"terraform_version"`
	}
	if at := bytes.IndexByte(out, '{'); at < 0 || json.NewDecoder(bytes.NewReader(out[at:])).Decode(&answer) != nil {
		return Binary{}, fmt.Errorf("%s version: not an answer of terraform or tofu: %q", path, firstBytes(out, 200))
	}
	v, err := version.NewVersion(answer.Version)
	if err != nil {
		return Binary{}, fmt.Errorf("%s version: %w", path, err)
	}
	if v.Core().LessThan(version.Must(version.NewVersion(minVersion))) {
		return Binary{}, fmt.Errorf("%s is version %s; %s or newer is needed", path, v, minVersion)
	}
	return Binary{Path: path, Version: v.String(), Tofu: strings.Contains(filepath.Base(path), "tofu")}, nil
}

// fetch downloads the pinned Terraform into the cache; hc-install checks its
// signature and digest. Two processes that fetch at the same time wait for each
// other, and the binary has its name only once it is whole.
func (o FindOptions) fetch(ctx context.Context) (string, error) {
	parent := filepath.Join(o.CacheDir, "terraform", "bin")
	dir := filepath.Join(parent, pinnedVersion)
	path := filepath.Join(dir, product.Terraform.BinaryName())
	if exists(path) {
		return path, nil
	}
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", err
	}
	lock := flock.New(filepath.Join(parent, "lock"))
	if _, err := lock.TryLockContext(ctx, 200*time.Millisecond); err != nil {
		return "", err
	}
	defer lock.Unlock()
	if exists(path) {
		return path, nil
	}
	work, err := os.MkdirTemp(parent, "new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work) // it has another name when all is well
	release := releases.ExactVersion{
		Product: product.Terraform, Version: version.Must(version.NewVersion(pinnedVersion)),
		InstallDir: work, Timeout: 5 * time.Minute, ApiBaseURL: o.releases,
	}
	if _, err := release.Install(ctx); err != nil {
		return "", err
	}
	if err := os.RemoveAll(dir); err != nil { // it holds no binary
		return "", err
	}
	if err := os.Rename(work, dir); err != nil {
		return "", err
	}
	return path, nil
}

// lookPath looks for a program on the PATH of env.
func lookPath(env []string, name string) (string, bool) {
	for _, dir := range filepath.SplitList(lookupEnv(env, "PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); filepath.IsAbs(path) && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, true
		}
	}
	return "", false
}

func firstBytes(b []byte, n int) []byte { return b[:min(n, len(b))] }
