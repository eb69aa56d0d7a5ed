package launcher

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/levinrun/levin/cluster"
)

// fetchers is how many files come side by side.
const fetchers = 3

// Fetch brings an attempt's artifacts into the folder dst, which is made when it
// is missing. Nothing is written outside dst whatever the machine says, and a
// file is only there under its name when its content has the digest that was
// promised; one that has not is a Failure Untrusted. A transfer that breaks goes
// on where it stopped.
func (s *Session) Fetch(ctx context.Context, id string, artifacts []cluster.Artifact, dst string) error {
	return s.fetch(ctx, id, artifacts, dst, nil)
}

// fetch is Fetch with the beginnings that have come already, by path.
func (s *Session) fetch(ctx context.Context, id string, artifacts []cluster.Artifact, dst string, parts map[string]*part) error {
	if err := checkArtifacts(artifacts); err != nil {
		return &cluster.Failure{Kind: cluster.Untrusted, What: fmt.Sprintf("machine %s offers an output that cannot be accepted", s.machine), Err: err}
	}
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return fmt.Errorf("making the folder for outputs: %w", err)
	}
	root, err := os.OpenRoot(dst)
	if err != nil {
		return fmt.Errorf("opening the folder for outputs: %w", err)
	}
	defer root.Close()
	group, all := errgroup.WithContext(ctx)
	group.SetLimit(fetchers)
	for i, a := range artifacts {
		if all.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := s.fetchOne(all, id, a, root, i, parts[a.Path]); err != nil {
				return s.refused(err, "give the output "+a.Path)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// checkArtifacts refuses names that could lead out of the folder: by themselves,
// or through a link that is there before them.
func checkArtifacts(artifacts []cluster.Artifact) error {
	links := map[string]bool{}
	seen := map[string]bool{}
	for _, a := range artifacts {
		if err := checkPath(a.Path); err != nil {
			return err
		}
		if seen[a.Path] {
			return fmt.Errorf("path %.200q is there twice", a.Path)
		}
		seen[a.Path] = true
		if a.Link != "" {
			if !linkInside(a.Path, a.Link) {
				return fmt.Errorf("link %.200q → %.200q leads out of the folder", a.Path, a.Link)
			}
			links[a.Path] = true
		}
		if a.Size < 0 {
			return fmt.Errorf("%.200q has a size below 0", a.Path)
		}
	}
	for _, a := range artifacts {
		for p := path.Dir(a.Path); p != "."; p = path.Dir(p) {
			if links[p] {
				return fmt.Errorf("path %.200q goes through the link %.200q", a.Path, p)
			}
		}
	}
	return nil
}

// checkPath refuses every name that is not plainly below its folder.
func checkPath(p string) error {
	if p == "." || !fs.ValidPath(p) || strings.ContainsRune(p, 0) {
		return fmt.Errorf("path %.200q is not plainly below its folder", p)
	}
	return nil
}

// linkInside reports whether a link at p stays in its folder. Only leading ".."
// are accepted: further in, they could climb out of what another link leads to.
func linkInside(p, target string) bool {
	if target == "" || path.IsAbs(target) || strings.ContainsRune(target, 0) {
		return false
	}
	parts := strings.Split(target, "/")
	up := 0
	for up < len(parts) && parts[up] == ".." {
		up++
	}
	return up <= strings.Count(p, "/") && !slices.Contains(parts[up:], "..")
}

// fetchOne brings one artifact, or the rest of one that has begun to come.
func (s *Session) fetchOne(ctx context.Context, id string, a cluster.Artifact, root *os.Root, n int, begun *part) error {
	if begun != nil && begun.f != nil && a.Link == "" {
		if done, err := s.complete(ctx, id, a, root, begun); done || err != nil {
			return err
		}
	}
	if dir := path.Dir(a.Path); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	part := path.Join(path.Dir(a.Path), fmt.Sprintf(".levin-part-%d", n))
	if a.Link != "" {
		_ = root.Remove(part)
		if err := root.Symlink(a.Link, part); err != nil {
			return err
		}
		return root.Rename(part, a.Path)
	}
	f, err := root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	got := &sink{f: f, sum: sha256.New(), left: a.Size}
	if err = s.fetchContent(ctx, id, a, got); err == nil {
		err = s.checkContent(a, got)
	}
	if err == nil {
		err = f.Chmod(fs.FileMode(a.Mode) & fs.ModePerm)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = root.Rename(part, a.Path)
	}
	if err != nil {
		_ = root.Remove(part)
	}
	return err
}

// fetchContent writes what got lacks of a's bytes to its file.
func (s *Session) fetchContent(ctx context.Context, id string, a cluster.Artifact, got *sink) error {
	if got.left == 0 {
		return nil
	}
	return s.do(ctx, func(ctx context.Context, l *link) (progress bool, err error) {
		from := got.left
		err = got.receive(ctx, l, outputPath(id, a.Path)+"?offset="+strconv.FormatInt(a.Size-got.left, 10))
		return got.left < from, err
	})
}

// checkContent holds what has come against the digest that was promised.
func (s *Session) checkContent(a cluster.Artifact, got *sink) error {
	said := got.digest()
	if said == a.Digest && !got.over {
		return nil
	}
	if got.over {
		said = "more bytes than promised"
	}
	return &cluster.Failure{Kind: cluster.Untrusted,
		What: fmt.Sprintf("machine %s sent something else as %s than it promised: %s, expected %s (%d bytes)", s.machine, a.Path, said, a.Digest, a.Size)}
}

// sink takes a file's bytes over as many connections as it needs.
type sink struct {
	f    *os.File
	sum  hash.Hash
	left int64
	over bool // more came than was promised
}

func (k *sink) digest() string { return "sha256:" + hex.EncodeToString(k.sum.Sum(nil)) }

// errLocal marks an error of our own disk, which a new connection does not cure.
type errLocal struct{ error }

func (e errLocal) Unwrap() error { return e.error }

func (k *sink) receive(ctx context.Context, l *link, path string) error {
	resp, err := l.send(ctx, request{method: http.MethodGet, path: path, zip: true})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	buf := make([]byte, 256<<10)
	for {
		n, err := resp.Body.Read(buf)
		if int64(n) > k.left {
			k.over = true
			return nil
		}
		if n > 0 {
			k.sum.Write(buf[:n])
			if _, err := k.f.Write(buf[:n]); err != nil {
				return errLocal{err}
			}
			k.left -= int64(n)
		}
		switch {
		case errors.Is(err, io.EOF):
			// Fewer bytes than promised: the digest will say so.
			return nil
		case err != nil:
			return err
		}
	}
}

func outputPath(id, name string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return callPath(id, "outputs/"+strings.Join(parts, "/"))
}
