package agentbin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/mod/modfile"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher/agent"
)

const (
	module  = "github.com/levinrun/levin"
	command = "cmd/levin-agent"
)

// errNoSource says why the agent cannot be built here at all.
type errNoSource struct{ why string }

func (e errNoSource) Error() string { return "the agent cannot be built: " + e.why }

// build gives the program built from this module's source, from the cache when it
// was built before. Its name holds a digest of everything that goes into it, so a
// changed source is another program.
func (f *Finder) build(ctx context.Context, goos, goarch string) (string, error) {
	gobin, err := exec.LookPath("go")
	if err != nil {
		return "", errNoSource{"the Go toolchain is not on PATH"}
	}
	root, err := sourceRoot(ctx, gobin)
	if err != nil {
		return "", err
	}
	key, err := sourceKey(root)
	if err != nil {
		return "", fmt.Errorf("reading the agent's source: %w", err)
	}
	prefix := fmt.Sprintf("levin-agent-%s-%s-", goos, goarch)
	path := filepath.Join(f.Cache, prefix+key)
	if exists(path) {
		return path, nil
	}
	if err := os.MkdirAll(f.Cache, 0o755); err != nil {
		return "", fmt.Errorf("making the cache for agents: %w", err)
	}
	lock := flock.New(filepath.Join(f.Cache, "build.lock"))
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return "", fmt.Errorf("waiting for another build of the agent: %w", err)
	}
	defer lock.Unlock()
	if exists(path) {
		return path, nil
	}
	err = place(path, func(tmp *os.File) error { return compile(ctx, gobin, root, goos, goarch, tmp.Name()) })
	if err != nil {
		return "", err
	}
	prune(path, prefix)
	return path, nil
}

func compile(ctx context.Context, gobin, root, goos, goarch, out string) error {
	// Nothing of the checkout's state or place may get into the program, so that
	// the same source gives the same digest.
	args := append(append([]string{"build"}, agent.BuildFlags()...), "-o", out, "./"+command)
	cmd := exec.CommandContext(ctx, gobin, args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch, "GOWORK=off")
	cmd.WaitDelay = 5 * time.Second
	said, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return &cluster.Failure{
			Kind: cluster.Provisioning, What: fmt.Sprintf("building the agent for %s/%s failed", goos, goarch),
			Words: strings.TrimSpace(string(said)), Err: err,
			Next: "Use a release of levin, which contains its agents.",
		}
	}
	return nil
}

// sourceRoot finds this module's source: the checkout that this program was
// compiled from, else the module cache, by the version it was compiled with.
func sourceRoot(ctx context.Context, gobin string) (string, error) {
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		root := filepath.Join(filepath.Dir(file), "..", "..")
		if isModule(root) {
			return root, nil
		}
	}
	version := moduleVersion()
	if version == "" {
		return "", errNoSource{"this levin was not built from a version of " + module + " and its source is not here"}
	}
	cmd := exec.CommandContext(ctx, gobin, "mod", "download", "-json", module+"@"+version)
	cmd.Dir = os.TempDir() // outside of any module
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := cmd.Output()
	var got struct{ Dir, Error string }
	if jerr := json.Unmarshal(out, &got); jerr != nil || got.Dir == "" {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		why := got.Error
		if why == "" {
			why = fmt.Sprint(errors.Join(err, jerr))
		}
		return "", errNoSource{fmt.Sprintf("the source of %s@%s could not be had: %s", module, version, why)}
	}
	return got.Dir, nil
}

func isModule(root string) bool {
	data, err := os.ReadFile(filepath.Join(root, "go.mod"))
	return err == nil && modfile.ModulePath(data) == module
}

// moduleVersion is the released version of this module in this program, or "".
func moduleVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path == module && strings.HasPrefix(m.Version, "v") && !strings.Contains(m.Version, "+dirty") && m.Replace == nil {
			return m.Version
		}
	}
	return ""
}

// sourceKey digests what goes into the agent: every source file of the packages of
// this module that it is made of, go.mod and go.sum, and the version of Go. (It
// embeds no other files; a test holds it to that.)
func sourceKey(root string) (string, error) {
	packages, err := packagesOf(root, command)
	if err != nil {
		return "", err
	}
	files := []string{"go.mod", "go.sum"}
	for _, p := range packages {
		entries, err := os.ReadDir(filepath.Join(root, filepath.FromSlash(p)))
		if err != nil {
			return "", err
		}
		for _, e := range entries {
			name := e.Name()
			if ext := path.Ext(name); (ext == ".go" || ext == ".s") && !strings.HasSuffix(name, "_test.go") {
				files = append(files, path.Join(p, e.Name()))
			}
		}
	}
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version())
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			return "", err
		}
		sum := sha256.Sum256(data)
		fmt.Fprintf(h, "%q %x\n", name, sum)
	}
	return hex.EncodeToString(h.Sum(nil))[:24], nil
}

// packagesOf follows the imports of a package within this module, for every
// platform at once. It gives folders relative to root, sorted.
func packagesOf(root, start string) ([]string, error) {
	seen := map[string]bool{start: true}
	todo := []string{start}
	fset := token.NewFileSet()
	for len(todo) > 0 {
		pkg := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pkg), "*.go"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(fset, file, nil, parser.ImportsOnly)
			if err != nil {
				return nil, err
			}
			for _, spec := range parsed.Imports {
				name, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return nil, err
				}
				if dir, ours := strings.CutPrefix(name, module+"/"); ours && !seen[dir] {
					seen[dir] = true
					todo = append(todo, dir)
				}
			}
		}
	}
	packages := make([]string, 0, len(seen))
	for p := range seen {
		packages = append(packages, p)
	}
	slices.Sort(packages)
	return packages, nil
}
