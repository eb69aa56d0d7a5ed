package configs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxPath is the longest path that every platform takes, in bytes.
const maxPath = 1024

// relative cleans a slash-separated path that must stay in its folder.
func relative(s string) (string, error) {
	switch {
	case len(s) > maxPath:
		return "", fmt.Errorf("is longer than %d bytes", maxPath)
	case strings.Contains(s, `\`):
		return "", errors.New("must be separated by /, not by \\")
	case path.IsAbs(s):
		return "", errors.New("must be relative")
	case strings.HasPrefix(s, "~"):
		return "", errors.New("must be relative; ~ has no meaning here")
	}
	clean := path.Clean(s)
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", errors.New("leaves the folder")
	}
	return clean, nil
}

// checkFiles cleans the files of a component and makes sure that each is in the
// app's folder, also when a symbolic link is on the way.
func (r *appReader) checkFiles(s *source) []string {
	n := s.nodes["files"]
	if n == nil {
		return s.Files
	}
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		return []string{} // nothing is shipped
	}
	cleaned := []string{}
	seen := map[string]bool{}
	for _, item := range entries(n) {
		if item.Kind != yaml.ScalarNode || strings.TrimSpace(item.Value) == "" {
			continue // already refused
		}
		file, err := relative(item.Value)
		if e, found := findExpression(item.Value); found {
			err = fmt.Errorf("holds %s, but files cannot hold expressions; name the folder that has the files of all calls", e)
		}
		if err == nil {
			err = inside(r.app.Dir, file, s.Build != "")
		}
		switch {
		case err != nil:
			r.d.fail(item, item.Value, "files of %s: %s %s", s.Name, quote(item.Value), err)
		case !seen[file]:
			seen[file] = true
			cleaned = append(cleaned, file)
		}
	}
	return cleaned
}

// inside reports whether dir/file really is in dir, whose links are resolved.
// With mayMiss the file need not be there yet, but what is there of the way to
// it must be in dir.
func inside(dir, file string, mayMiss bool) error {
	at := filepath.Join(dir, filepath.FromSlash(file))
	for {
		real, err := filepath.EvalSymlinks(at)
		switch {
		case err == nil:
			rel, err := filepath.Rel(dir, real)
			if err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
				return errors.New("leaves the app's folder through a symbolic link")
			}
			return nil
		case !errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("cannot be read: %w", err)
		case !mayMiss:
			if strings.ContainsAny(file, "*?[") {
				return errors.New("does not exist; globs are not expanded here, so name the folder")
			}
			return errors.New("does not exist")
		}
		// A link to nowhere would be followed when it is written to.
		if info, err := os.Lstat(at); err == nil && info.Mode()&os.ModeSymlink != 0 {
			return errors.New("is a symbolic link to nowhere")
		}
		if at == dir {
			return nil
		}
		at = filepath.Dir(at)
	}
}

// checkGlobs cleans the outputs or checkpoint of a component and checks their
// globs.
func (r *appReader) checkGlobs(s *source, key string) []string {
	n := s.nodes[key]
	if n == nil {
		return nil
	}
	var cleaned []string
	seen := map[string]bool{}
	for _, item := range entries(n) {
		if item.Kind != yaml.ScalarNode || strings.TrimSpace(item.Value) == "" {
			continue // already refused
		}
		pattern, err := glob(item.Value)
		if e, found := findExpression(item.Value); found {
			err = fmt.Errorf("holds %s, but %s cannot hold expressions; use a fixed name: each call has its own artifact folder", e, key)
		}
		switch {
		case err != nil:
			r.d.fail(item, item.Value, "%s of %s: %s %s", key, s.Name, quote(item.Value), err)
		case !seen[pattern]:
			seen[pattern] = true
			cleaned = append(cleaned, pattern)
		}
	}
	return cleaned
}

// glob cleans a path whose segments are patterns of path.Match, or **
// for any number of segments.
func glob(s string) (string, error) {
	clean, err := relative(s)
	switch {
	case err != nil:
		return "", err
	case clean == ".":
		return "", errors.New("is the whole work folder; name what is in it, or ** for everything")
	}
	for segment := range strings.SplitSeq(clean, "/") {
		if strings.Contains(segment, "**") && segment != "**" {
			return "", errors.New("is not a valid glob: ** must stand alone between slashes")
		}
		if _, err := path.Match(segment, ""); err != nil {
			return "", errors.New("is not a valid glob")
		}
	}
	return clean, nil
}
