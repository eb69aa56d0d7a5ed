package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher/agent"
)

// Start starts one attempt of a call. Starting an attempt that was started before
// is not an error.
func (s *Session) Start(ctx context.Context, r agent.StartRequest) error {
	err := s.simple(ctx, request{method: http.MethodPost, path: "calls", in: r}, nil)
	return s.refused(err, "start "+r.ID)
}

// StopWork asks for the end of an attempt: TERM, its grace, KILL, for the whole
// process tree. It returns when the machine has taken the order; Wait tells when
// it is done. An attempt that never was or has ended is stopped already.
func (s *Session) StopWork(ctx context.Context, id string) error {
	err := s.simple(ctx, request{method: http.MethodPost, path: callPath(id, "stop")}, nil)
	if kindOf(err) == agent.KindNotFound {
		return nil
	}
	return s.refused(err, "stop "+id)
}

// Shutdown has the agent end all work, remove its folder and exit. After it the
// session is of no use; it still has to be closed.
func (s *Session) Shutdown(ctx context.Context) error {
	err := s.simple(ctx, request{method: http.MethodPost, path: "shutdown"}, nil)
	if errors.Is(err, errGone) { // the answer was lost, the order was not
		return nil
	}
	if err != nil {
		return s.refused(err, "shut down its agent")
	}
	_ = s.lose(errGone)
	return nil
}

// Listener hears how an attempt goes. Each field may be nil; one may be called
// while another one is.
type Listener struct {
	Log    func(offset int64, p []byte) // each byte of the log once and in order, from offset 0, in chunks that are valid during the call
	Phase  func(agent.Phase)            // each phase once and in order
	Notice func(agent.Notice)           // once, when the cloud has said that it takes the machine back (Target.Notice)
}

// Wait follows an attempt until it has exited and its log is complete. Neither a
// connection that breaks nor an agent that is killed is seen by the caller. A
// machine that its cloud takes back before the exit has come is a Failure
// Preempted.
func (s *Session) Wait(ctx context.Context, id string, to Listener) (agent.Exit, error) {
	w := &waiter{s: s, id: id, log: to.Log, report: to.Phase, notice: to.Notice}
	if w.log == nil {
		w.log = func(int64, []byte) {}
	}
	w.size.Store(-1)
	exit, err := w.run(ctx)
	return exit, s.refused(err, "follow "+id)
}

type waiter struct {
	s      *Session
	id     string
	log    func(int64, []byte)
	report func(agent.Phase)
	notice func(agent.Notice)

	offset atomic.Int64 // how much of the log the caller has
	size   atomic.Int64 // how long the whole log is; -1 while it is not known

	mu       sync.Mutex
	reported int // how many of phases have been
}

var phases = [...]agent.Phase{agent.PhaseSetup, agent.PhaseRun, agent.PhaseExited}

func (w *waiter) run(all context.Context) (agent.Exit, error) {
	group, ctx := errgroup.WithContext(all)
	following, stopFollowing := context.WithCancel(ctx)
	defer stopFollowing()
	asking, stopAsking := context.WithCancel(ctx)
	defer stopAsking()

	var last agent.Status
	group.Go(func() error {
		if err := w.s.simple(ctx, request{method: http.MethodGet, path: callPath(w.id, "wait")}, &last); err != nil {
			return err
		}
		if last.Exit == nil {
			return &cluster.Failure{Kind: cluster.Untrusted, What: fmt.Sprintf("machine %s says that %s has exited and not how", w.s.machine, w.id)}
		}
		stopAsking()
		if last.Exit.Phase == agent.PhaseRun {
			w.phase(agent.PhaseRun)
		}
		w.phase(agent.PhaseExited)
		w.size.Store(last.LogSize)
		if w.offset.Load() >= last.LogSize {
			stopFollowing() // nothing more can come
		}
		return nil
	})
	group.Go(func() error {
		err := w.follow(following)
		if ctx.Err() == nil && following.Err() != nil {
			return nil
		}
		return err
	})
	if w.report != nil {
		group.Go(func() error {
			err := w.watchPhase(asking)
			if ctx.Err() == nil && asking.Err() != nil {
				return nil
			}
			return err
		})
	}
	if w.s.target.Notice != "" {
		group.Go(func() error {
			err := w.watchNotice(asking)
			if ctx.Err() == nil && asking.Err() != nil {
				return nil
			}
			return err
		})
	}
	err := group.Wait()
	if err == nil && w.offset.Load() < last.LogSize { // it ended before its length was known
		err = w.follow(all)
	}
	if err != nil {
		return agent.Exit{}, err
	}
	return *last.Exit, nil
}

// phase reports p, once, and never one that comes before what was reported.
func (w *waiter) phase(p agent.Phase) {
	if w.report == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(phases[:], p); i >= w.reported {
		w.reported = i + 1
		w.report(p)
	}
}

// watchPhase reports the phase that the attempt is in, and when it is its setup,
// the one that comes after it.
func (w *waiter) watchPhase(ctx context.Context) error {
	for _, what := range [...]string{"", "wait?after=" + string(agent.PhaseSetup)} {
		var st agent.Status
		if err := w.s.simple(ctx, request{method: http.MethodGet, path: callPath(w.id, what)}, &st); err != nil {
			return err
		}
		if st.Phase != agent.PhaseExited { // that is reported by whoever knows how
			w.phase(st.Phase)
		}
		if st.Phase != agent.PhaseSetup {
			return nil
		}
	}
	return nil
}

// watchNotice hears of it when the cloud takes the machine back.
func (w *waiter) watchNotice(ctx context.Context) error {
	var n agent.Notice
	err := w.s.simple(ctx, request{method: http.MethodGet, path: "notice"}, &n)
	if kindOf(err) != "" {
		return nil // nothing of the kind will come, or the agent is ending
	}
	if err != nil {
		return err
	}
	w.s.noticed(n)
	if w.notice != nil {
		w.notice(n)
	}
	return nil
}

// follow hands the log on until it is complete.
func (w *waiter) follow(ctx context.Context) error {
	buf := make([]byte, 16<<10)
	for short := 0; short < 3; short++ {
		err := w.s.do(ctx, func(ctx context.Context, l *link) (progress bool, err error) {
			from := w.offset.Load()
			err = w.stream(ctx, l, buf)
			moved := w.offset.Load() > from
			if moved {
				short = 0
			}
			return moved, err
		})
		size := w.size.Load()
		if err != nil || size < 0 || w.offset.Load() >= size {
			return err
		}
		// The agent ended the log before the work did.
	}
	return &cluster.Failure{Kind: cluster.Transient,
		What: fmt.Sprintf("the log of %s ends at byte %d of %d on machine %s", w.id, w.offset.Load(), w.size.Load(), w.s.machine)}
}

func (w *waiter) stream(ctx context.Context, l *link, buf []byte) error {
	from := strconv.FormatInt(w.offset.Load(), 10)
	resp, err := l.send(ctx, request{method: http.MethodGet, path: callPath(w.id, "log") + "?offset=" + from})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			w.log(w.offset.Load(), buf[:n])
			// Add before the look at size: Wait's other half does it the other way round.
			if at, size := w.offset.Add(int64(n)), w.size.Load(); size >= 0 && at >= size {
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func callPath(id, what string) string {
	p := "calls/" + url.PathEscape(id)
	if what != "" {
		p += "/" + what
	}
	return p
}
