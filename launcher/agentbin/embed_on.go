//go:build embed_agent

package agentbin

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The agents are put there, gzipped, before a release is built; see the Makefile.
//
//go:embed files/levin-agent-*.gz
var agents embed.FS

// embedded unpacks the agent into the cache, once for each content.
func (f *Finder) embedded(goos, goarch string) (string, error) {
	packed, err := agents.ReadFile(fmt.Sprintf("files/levin-agent-%s-%s.gz", goos, goarch))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(packed)
	prefix := fmt.Sprintf("levin-agent-%s-%s-", goos, goarch)
	path := filepath.Join(f.Cache, prefix+fmt.Sprintf("%x", sum[:12]))
	if exists(path) {
		return path, nil
	}
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", fmt.Errorf("unpacking the agent: %w", err)
	}
	err = place(path, func(tmp *os.File) error {
		_, err := io.Copy(tmp, zr)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("unpacking the agent: %w", err)
	}
	prune(path, prefix)
	return path, nil
}
