// Package agentbin finds the agent's program for a platform: embedded in this
// executable, beside it, or built from this module with the Go toolchain.
package agentbin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
)

// Binary is the agent's program as a local file.
type Binary struct {
	Path   string // absolute
	Digest string // "sha256:<hex>" of its content
}

// Finder finds the agent's program. It remembers what it found; use one for a
// process. Fields may not be changed after the first Find.
type Finder struct {
	Cache string // folder for what is unpacked or built; made when it is missing
	Exe   string // the executable beside which to look; empty: os.Executable

	mu    sync.Mutex
	found map[string]remembered
}

type remembered struct {
	bin  Binary
	size int64
	time time.Time
}

// Find gives the program for a platform, in Go's names. When there is none and
// none can be made, the error is a Failure that says what to do. The first call
// for a platform may take as long as the Go toolchain needs; later ones, also of
// other processes, take milliseconds.
func (f *Finder) Find(ctx context.Context, goos, goarch string) (Binary, error) {
	key := goos + "-" + goarch
	f.mu.Lock()
	r, ok := f.found[key]
	f.mu.Unlock()
	if ok {
		if info, err := os.Stat(r.bin.Path); err == nil && info.Size() == r.size && info.ModTime().Equal(r.time) {
			return r.bin, nil
		}
	}
	path, err := f.look(ctx, goos, goarch)
	if err != nil {
		return Binary{}, err
	}
	digest, err := digestFile(path)
	if err != nil {
		return Binary{}, fmt.Errorf("reading the agent: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return Binary{}, fmt.Errorf("reading the agent: %w", err)
	}
	r = remembered{bin: Binary{Path: path, Digest: digest}, size: info.Size(), time: info.ModTime()}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.found == nil {
		f.found = map[string]remembered{}
	}
	f.found[key] = r
	return r.bin, nil
}

func (f *Finder) look(ctx context.Context, goos, goarch string) (string, error) {
	path, err := f.embedded(goos, goarch)
	if path != "" || err != nil {
		return path, err
	}
	exe := f.Exe
	if exe == "" {
		if exe, err = os.Executable(); err != nil {
			return "", fmt.Errorf("finding this executable: %w", err)
		}
	}
	if path := beside(filepath.Dir(exe), goos, goarch); path != "" {
		return path, nil
	}
	path, err = f.build(ctx, goos, goarch)
	var missing errNoSource
	if errors.As(err, &missing) {
		name := fmt.Sprintf("levin-agent-%s-%s", goos, goarch)
		return "", &cluster.Failure{
			Kind:  cluster.Provisioning,
			What:  fmt.Sprintf("there is no agent for %s/%s", goos, goarch),
			Words: fmt.Sprintf("this levin does not contain it, %s is not beside %s, and it cannot be built because %s", name, exe, missing.why),
			Next:  fmt.Sprintf("Use a release of levin, put %s beside it, or install Go (https://go.dev/dl) so that it can be built.", name),
			Err:   err,
		}
	}
	return path, err
}

// beside looks for a program that was put next to the executable.
func beside(dir, goos, goarch string) string {
	names := []string{fmt.Sprintf("levin-agent-%s-%s", goos, goarch)}
	if goos == runtime.GOOS && goarch == runtime.GOARCH {
		names = append(names, "levin-agent")
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

func digestFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// place puts what write writes at path as a whole, executable.
func place(path string, write func(tmp *os.File) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	err = errors.Join(write(tmp), tmp.Chmod(0o755), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// keepFor is how long a program that no longer fits the source is kept: an older
// levin may still be running.
const keepFor = 7 * 24 * time.Hour

// prune removes other programs of the same platform that are old.
func prune(path, prefix string) {
	dir := filepath.Dir(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || e.Name() == filepath.Base(path) || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		if time.Since(info.ModTime()) > keepFor {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
