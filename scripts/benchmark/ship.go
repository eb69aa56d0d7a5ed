package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/levinrun/levin/launcher"
)

// firstShip brings the same files to the same server with Levin and with rsync,
// in turns, each time to a place that has nothing of them. Both log in anew; the
// agent's binary is there, as rsync is. The page cache is warm for both, and what
// the round before has written is on the disk.
func firstShip(ctx context.Context, r *rig) ([]row, error) {
	what := fmt.Sprintf("first ship of %d MiB: throughput against `rsync -a` over the same SSH server", r.mib)
	if why := missingForShip(); why != "" {
		return []row{skipped(what, why)}, nil
	}
	s, err := newShipping(ctx, r, "ship")
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := bigTree(s.src, r.mib); err != nil {
		return nil, err
	}
	var ours, connects, theirs []time.Duration
	var shipped launcher.Shipped
	for round := range r.rounds {
		syscall.Sync()
		digests := s.p.path("cache", "digests-"+strconv.Itoa(round)) // nothing is known of the files
		var t shipTimes
		err := r.profiled("ship-"+strconv.Itoa(round), func() (err error) {
			t, shipped, err = s.levin(ctx, digests, true)
			return err
		})
		if err != nil {
			return nil, err
		}
		ours, connects = append(ours, t.all), append(connects, t.connect)

		syscall.Sync()
		took, err := s.rsync(ctx)
		if err != nil {
			return nil, err
		}
		theirs = append(theirs, took)
		if err := os.RemoveAll(s.dst); err != nil {
			return nil, err
		}
	}
	if shipped.SentBytes != int64(r.mib)<<20 {
		return nil, fmt.Errorf("levin sent %d bytes, expected %d MiB", shipped.SentBytes, r.mib)
	}
	rate := func(d time.Duration) float64 { return float64(r.mib) * 1.048576 / d.Seconds() }
	return []row{measured(what, median(theirs).Seconds()/median(ours).Seconds(), 1, "×", true,
		"medians of %d rounds in turns; files of 4 MiB, half of them random bytes and half text. Levin %s (%.0f MB/s; of it %s to connect and start the agent), "+
			"rsync %s (%.0f MB/s), neither told to compress: Levin does by itself, rsync by default does not. "+
			"The agent's binary was put there before, in %s",
		r.rounds, seconds(median(ours)), rate(median(ours)), seconds(median(connects)), seconds(median(theirs)), rate(median(theirs)), seconds(s.install))}, nil
}

// reShip ships files again that are there already, in turns.
func reShip(ctx context.Context, r *rig) ([]row, error) {
	const files = 10_000
	const what = "re-ship of 10,000 unchanged files: time against `rsync -a`"
	if why := missingForShip(); why != "" {
		return []row{skipped(what, why)}, nil
	}
	s, err := newShipping(ctx, r, "reship")
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := manyFiles(s.src, files); err != nil {
		return nil, err
	}
	// Digests of files that are younger than this are not remembered; nobody ships
	// a tree within two seconds of writing all of it, and again.
	select {
	case <-time.After(2500 * time.Millisecond):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	digests := s.p.path("cache", "digests")
	if _, _, err := s.levin(ctx, digests, false); err != nil {
		return nil, err
	}
	if _, err := s.rsync(ctx); err != nil {
		return nil, err
	}
	var ours, connects, theirs []time.Duration
	for round := range r.rounds {
		var t shipTimes
		var shipped launcher.Shipped
		err := r.profiled("reship-"+strconv.Itoa(round), func() (err error) {
			t, shipped, err = s.levin(ctx, digests, round == r.rounds-1)
			return err
		})
		if err != nil {
			return nil, err
		}
		if shipped.Files != files || shipped.SentBytes != 0 {
			return nil, fmt.Errorf("levin shipped %d files and sent %d bytes again", shipped.Files, shipped.SentBytes)
		}
		ours, connects = append(ours, t.all), append(connects, t.connect)
		took, err := s.rsync(ctx)
		if err != nil {
			return nil, err
		}
		theirs = append(theirs, took)
	}
	open := median(ours) - median(connects)
	return []row{measured(what, median(ours).Seconds()/median(theirs).Seconds(), 0.5, "×", false,
		"medians of %d rounds in turns, both log in anew. Levin %s, of it %s to connect to the agent, rsync %s. "+
			"On a machine that a run uses again Levin is connected already; without the connecting it is %s",
		r.rounds, seconds(median(ours)), seconds(median(connects)), seconds(median(theirs)),
		quantity(open.Seconds()/median(theirs).Seconds(), "×"))}, nil
}

// shipping is a server and a tree to bring there.
type shipping struct {
	p        *place
	sshd     *sshd
	binary   launcher.Binary
	install  time.Duration // how long it took to put the agent's binary there
	src, dst string
}

func newShipping(ctx context.Context, r *rig, name string) (*shipping, error) {
	if err := r.build(ctx); err != nil {
		return nil, err
	}
	p, err := r.newPlace(name)
	if err != nil {
		return nil, err
	}
	binary, err := digested(r.agent)
	if err != nil {
		return nil, err
	}
	s := &shipping{p: p, binary: binary, src: p.path("src"), dst: p.path("dst")}
	if s.sshd, err = startSSHD(p); err != nil {
		return nil, err
	}
	if err := s.installAgent(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *shipping) close() { s.sshd.stop() }

func digested(path string) (launcher.Binary, error) {
	f, err := os.Open(path)
	if err != nil {
		return launcher.Binary{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return launcher.Binary{}, err
	}
	return launcher.Binary{Path: path, Digest: fmt.Sprintf("sha256:%x", h.Sum(nil))}, nil
}

// installAgent has the agent's binary put on the server.
func (s *shipping) installAgent(ctx context.Context) error {
	started := time.Now()
	session, err := s.connect(ctx, "")
	if err != nil {
		return err
	}
	s.install = time.Since(started)
	return errors.Join(session.Shutdown(ctx), session.Close())
}

func (s *shipping) connect(ctx context.Context, digests string) (*launcher.Session, error) {
	return launcher.Connect(ctx, launcher.Config{
		Agent:   func(context.Context, string, string) (launcher.Binary, error) { return s.binary, nil },
		Digests: digests,
	}, "bench", s.sshd.target)
}

// shipTimes is how long a ship took, and how long it was until the agent answered.
type shipTimes struct{ connect, all time.Duration }

// levin connects and ships. With last the agent and all that it holds is removed
// afterwards, which takes no part in the time.
func (s *shipping) levin(ctx context.Context, digests string, last bool) (t shipTimes, shipped launcher.Shipped, err error) {
	started := time.Now()
	session, err := s.connect(ctx, digests)
	if err != nil {
		return t, shipped, err
	}
	t.connect = time.Since(started)
	shipped, err = session.Ship(ctx, "work", []launcher.Tree{{Root: s.src, Files: []string{"."}, Ignore: true}})
	t.all = time.Since(started)
	if last || err != nil {
		err = errors.Join(err, session.Shutdown(context.WithoutCancel(ctx)))
	}
	return t, shipped, errors.Join(err, session.Close())
}

func (s *shipping) rsync(ctx context.Context) (time.Duration, error) {
	rsync, err := exec.LookPath("rsync")
	if err != nil {
		return 0, err
	}
	return s.p.timed(ctx, rsync, "-a", "-e", s.sshd.rsh, s.src+string(filepath.Separator), "127.0.0.1:"+s.dst+string(filepath.Separator))
}
