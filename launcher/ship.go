package launcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher/agent"
)

const (
	// shipRounds is how often a ship begins anew because files change under it.
	shipRounds = 3
	// bigShip is from where on the user is told how much is shipped.
	bigShip = 1 << 30
	// maxLanes is how many uploads go side by side; a lane is worth its channel for
	// laneBytes or laneFiles.
	maxLanes  = 3
	laneBytes = 4 << 20
	laneFiles = 256
)

// Shipped says what a ship came to.
type Shipped struct {
	Files     int    // in the work folder
	Bytes     int64  // in the work folder
	SentBytes int64  // of content that the machine lacked, before compression
	Digest    string // of the whole folder's entries, "sha256:<hex>"
	// Warnings are what the user should know and nothing fails for: special files
	// that were left out, much that was sent.
	Warnings []string
}

// errChanged says that a file is not any more what was promised to the machine.
type errChanged struct{ name string }

func (e *errChanged) Error() string { return e.name + " changed while it was shipped" }

// Ship makes the work folder on the machine hold exactly what the trees hold,
// besides what the work itself made there. Only content that the machine lacks
// travels, and a transfer that breaks goes on where it stopped. A file that
// changes meanwhile is read again; one that does not come to rest is an error
// which names it.
func (s *Session) Ship(ctx context.Context, folder string, trees []Tree) (Shipped, error) {
	for round := 1; ; round++ {
		done, err := s.shipOnce(ctx, folder, trees)
		var changed *errChanged
		switch {
		case err == nil:
			return done, nil
		case !errors.As(err, &changed) && kindOf(err) != agent.KindConflict && kindOf(err) != agent.KindUntrusted:
			return done, s.refused(err, "take the files of "+folder)
		case round == shipRounds && changed != nil:
			return done, &cluster.Failure{Kind: cluster.BadInput, What: "the files cannot be shipped", Err: err,
				Next: "Keep files that something writes to out of what is shipped, with a line in .levinignore."}
		case round == shipRounds:
			return done, s.refused(err, "take the files of "+folder)
		}
		s.cfg.Logger.Debug("shipping again", "machine", s.machine, "folder", folder, "reason", err)
	}
}

// shipOnce reads the trees and brings the folder up to what it read.
func (s *Session) shipOnce(ctx context.Context, folder string, trees []Tree) (Shipped, error) {
	var done Shipped
	warn := func(text string) { done.Warnings = append(done.Warnings, text) }
	src, err := walk(ctx, trees, warn)
	if err != nil {
		return Shipped{}, err
	}
	defer src.Close()
	if err := digestAll(ctx, src.items, s.cfg.Digests); err != nil {
		return Shipped{}, err
	}
	entries := make([]agent.Entry, len(src.items))
	for i, it := range src.items {
		entries[i] = it.entry
		if it.entry.Digest != "" {
			done.Files++
			done.Bytes += it.entry.Size
		}
	}
	ask := agent.SyncRequest{Folder: folder, Entries: entries}
	done.Digest = agent.ManifestDigest(entries)
	best := int64(-1) // fewest missing bytes so far
	err = s.do(ctx, func(ctx context.Context, l *link) (progress bool, err error) {
		var known agent.SameAnswer
		same := request{method: http.MethodPost, path: "sync/" + folder + "/same", in: agent.SameRequest{Digest: done.Digest}}
		if err := l.ask(ctx, same, &known); err != nil || known.Same {
			return known.Same, err
		}
		var need agent.SyncNeed
		if err := l.ask(ctx, request{method: http.MethodPost, path: "sync", in: ask, zip: true}, &need); err != nil {
			return false, err
		}
		missing, err := s.missing(entries, need)
		if err != nil {
			return false, err
		}
		progress = best >= 0 && missing < best
		if best < 0 {
			done.SentBytes = missing
			if missing >= bigShip {
				warn(fmt.Sprintf("%d files with %.1f GiB go to machine %s; what the work does not need can be left out in .levinignore",
					len(need.Need), float64(missing)/(1<<30), s.machine))
			}
		}
		best = missing
		if err := l.uploadFiles(ctx, folder, src.items, need.Need); err != nil {
			if changed := findChanged(src.items, need.Need); changed != nil {
				return progress, changed // and that is why
			}
			return progress, err
		}
		var answer agent.SyncDone
		if err := l.ask(ctx, request{method: http.MethodPost, path: "sync/" + folder + "/commit"}, &answer); err != nil {
			return true, err
		}
		if answer.Digest != done.Digest {
			return true, &cluster.Failure{Kind: cluster.Untrusted,
				What: fmt.Sprintf("machine %s says that folder %s holds %s, expected %s", s.machine, folder, answer.Digest, done.Digest)}
		}
		return true, nil
	})
	return done, err
}

// findChanged looks for a file that is not what it was when it was listed.
func findChanged(items []item, need []agent.Need) error {
	for _, n := range need {
		it := &items[n.Index]
		info, err := it.root.Lstat(filepath.FromSlash(it.name))
		if err != nil || identify(info) != it.id {
			return &errChanged{it.local()}
		}
	}
	return nil
}

// missing checks what the machine asks for, and adds up its bytes.
func (s *Session) missing(entries []agent.Entry, need agent.SyncNeed) (bytes int64, err error) {
	for _, n := range need.Need {
		if n.Index < 0 || n.Index >= len(entries) || entries[n.Index].Digest == "" || n.Offset < 0 || n.Offset > entries[n.Index].Size {
			return 0, &cluster.Failure{Kind: cluster.Untrusted,
				What: fmt.Sprintf("machine %s asks for byte %d of entry %d of what is shipped, which there is not", s.machine, n.Offset, n.Index)}
		}
		bytes += entries[n.Index].Size - n.Offset
	}
	return bytes, nil
}

// uploadFiles sends what the machine needs, over as many channels as it is worth.
func (l *link) uploadFiles(ctx context.Context, folder string, items []item, need []agent.Need) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, lane := range lanes(items, need) {
		group.Go(func() error { return l.uploadLane(ctx, folder, items, lane) })
	}
	return group.Wait()
}

// lanes deals the needs out so that each lane has about as many bytes.
func lanes(items []item, need []agent.Need) [][]agent.Need {
	size := func(n agent.Need) int64 { return items[n.Index].entry.Size - n.Offset }
	var bytes int64
	for _, n := range need {
		bytes += size(n)
	}
	count := min(maxLanes, len(need), int(min(bytes/laneBytes, maxLanes))+len(need)/laneFiles+1)
	if count == 0 {
		return nil
	}
	sorted := slices.Clone(need)
	slices.SortStableFunc(sorted, func(a, b agent.Need) int { return cmp.Compare(size(b), size(a)) })
	out := make([][]agent.Need, count)
	load := make([]int64, count)
	const perFile = 16 << 10 // what a file costs besides its bytes, in bytes
	for _, n := range sorted {
		least := 0
		for i := range load {
			if load[i] < load[least] {
				least = i
			}
		}
		out[least] = append(out[least], n)
		load[least] += size(n) + perFile
	}
	return out
}

// uploadLane sends some files as one stream of frames.
func (l *link) uploadLane(ctx context.Context, folder string, items []item, need []agent.Need) error {
	body, into := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		err := writeFrames(into, items, need)
		into.CloseWithError(err)
		wrote <- err
	}()
	resp, err := l.send(ctx, request{method: http.MethodPost, path: "sync/" + folder + "/files", body: body})
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		resp.Body.Close()
	}
	body.CloseWithError(errStopped) // an answer may come before the body is read
	werr := <-wrote
	var changed *errChanged
	if errors.As(werr, &changed) {
		return changed
	}
	var local errLocal
	if errors.As(werr, &local) {
		return werr
	}
	return err
}

var errStopped = errors.New("upload stopped")

func writeFrames(w io.Writer, items []item, need []agent.Need) error {
	frames, err := agent.NewFrameWriter(w)
	if err != nil {
		return err
	}
	for _, n := range need {
		if err := writeFrame(frames, &items[n.Index], n.Offset); err != nil {
			_ = frames.Close()
			return err
		}
	}
	return frames.Close()
}

func writeFrame(frames *agent.FrameWriter, it *item, offset int64) error {
	f, err := it.open()
	if errors.Is(err, fs.ErrNotExist) {
		return &errChanged{it.local()}
	}
	if err != nil {
		return errLocal{fmt.Errorf("reading a file to ship: %w", err)}
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return errLocal{fmt.Errorf("reading a file to ship: %w", err)}
	}
	content := &localReader{r: f}
	err = frames.WriteFile(agent.FileFrame{Digest: it.entry.Digest, Size: it.entry.Size, Offset: offset}, content)
	switch {
	case content.err != nil:
		return errLocal{fmt.Errorf("reading a file to ship: %w", content.err)}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &errChanged{it.local()}
	}
	return err
}

// localReader tells errors of reading apart from those of the connection that the
// bytes go to.
type localReader struct {
	r   io.Reader
	err error
}

func (l *localReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		l.err = err
	}
	return n, err
}
