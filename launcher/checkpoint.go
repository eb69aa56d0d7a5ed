package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/levinrun/levin/cluster"
)

// FetchCheckpoint brings what an attempt has saved (Exit.Checkpoint) into the
// folder dst, in place of the checkpoint that is there. A checkpoint is whole or
// not there: it comes into a folder beside dst (<dst>.part) and replaces the old
// one when all of it has come. If the machine ends before that the old one stays;
// where there is none, the files that did come whole are kept, since they are more
// than nothing. Without artifacts the old one stays, too. An error says what was
// not brought.
func (s *Session) FetchCheckpoint(ctx context.Context, id string, artifacts []cluster.Artifact, dst string) error {
	if err := settleCheckpoint(dst); err != nil {
		return fmt.Errorf("looking at the checkpoint before: %w", err)
	}
	if len(artifacts) == 0 {
		return nil
	}
	part := dst + ".part"
	if err := os.RemoveAll(part); err != nil {
		return fmt.Errorf("making room for a checkpoint: %w", err)
	}
	err := s.Fetch(ctx, id, artifacts, part)
	if err != nil && (exists(dst) || !holdsFiles(part)) {
		return errors.Join(err, os.RemoveAll(part))
	}
	return errors.Join(err, replaceFolder(part, dst))
}

// replaceFolder puts a folder in the place of another one. A folder cannot be
// renamed over one that holds something, so the old one steps aside first.
func replaceFolder(from, to string) error {
	aside := to + ".old"
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	if err := os.Rename(to, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return errors.Join(err, os.Rename(aside, to))
	}
	return os.RemoveAll(aside)
}

// settleCheckpoint brings back the old checkpoint when its replacement was cut
// short.
func settleCheckpoint(dst string) error {
	if exists(dst) {
		return nil
	}
	err := os.Rename(dst+".old", dst)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// holdsFiles reports whether something is in a folder besides folders.
func holdsFiles(dir string) bool {
	found := false
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found
}

// CheckpointTree is the tree of an attempt's checkpoint, to be shipped after the
// component's own, so that its files count. It reports false when there is none.
func CheckpointTree(dir string) (Tree, bool) {
	if dir == "" || settleCheckpoint(dir) != nil || !exists(dir) {
		return Tree{}, false
	}
	return Tree{Root: dir}, true
}
