package launcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher/agent"
)

// Condition is what its cloud says of a machine.
type Condition struct {
	Gone      bool   // it does not exist, or does not run any more: nothing will answer there
	Preempted bool   // it is gone, or about to be, because the cloud has taken it back
	Words     string // the cloud's own; may be empty
}

const (
	// askAfter is how long a try to reach a machine may take before the cloud is
	// asked about it: packets to one that is gone are often answered by nobody.
	askAfter = 2 * time.Second
	// lastMoments is how long a machine that is taken back may stay beyond the time
	// its cloud has named.
	lastMoments = 3 * time.Second
)

// goneError is the cloud's word that a machine is gone.
type goneError struct{ Condition }

func (e *goneError) Error() string {
	switch {
	case e.Words != "":
		return e.Words
	case e.Preempted:
		return "its cloud has taken it back"
	}
	return "its cloud says that it is gone"
}

// inquiry asks the cloud about a machine that does not answer, beside the tries
// to reach it.
type inquiry struct {
	begin func()        // asks from now on
	end   func()        // does not ask any more, and has not when it returns
	done  chan struct{} // closed when it has ended
}

// inquire asks the cloud, once begin was called or patience is over (0: never),
// again and again until end. When the cloud says so agree times in a row that the
// machine is gone, verdict is called with a *goneError.
func (s *Session) inquire(ctx context.Context, patience time.Duration, agree int, verdict context.CancelCauseFunc) *inquiry {
	ctx, stop := context.WithCancel(ctx)
	begun := make(chan struct{})
	q := &inquiry{begin: sync.OnceFunc(func() { close(begun) }), done: make(chan struct{})}
	q.end = func() { stop(); <-q.done }
	if s.cfg.Status == nil {
		close(q.done)
		return q
	}
	go func() {
		defer close(q.done)
		var late <-chan time.Time
		if patience > 0 {
			timer := time.NewTimer(patience)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-begun:
		case <-late:
		case <-ctx.Done():
			return
		}
		if gone := s.askCloud(ctx, agree); gone != nil {
			verdict(gone)
		}
	}()
	return q
}

// askCloud asks until the machine is gone or ctx ends.
func (s *Session) askCloud(ctx context.Context, agree int) error {
	agreed := 0
	for try := 0; ; try++ {
		c, err := s.cfg.Status(ctx, s.machine)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.cfg.Logger.Debug("the cloud does not say how the machine is", "machine", s.machine, "error", err)
		case !c.Gone && !c.Preempted:
			agreed = 0
		default:
			if agreed++; agreed >= agree {
				return &goneError{c}
			}
		}
		if pause(ctx, min(time.Second<<min(try, 4), 15*time.Second)) != nil {
			return nil
		}
	}
}

// noticed remembers that the cloud takes the machine back.
func (s *Session) noticed(n agent.Notice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.notice == nil {
		s.notice, s.ends = &n, time.Now().Add(n.Left)
	}
}

// giveUpAt is when a machine that has not answered since then is given up.
func (s *Session) giveUpAt(since time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := since.Add(s.cfg.LostAfter)
	if s.notice == nil {
		return at
	}
	if end := s.ends.Add(lastMoments); end.Before(at) {
		return end
	}
	return at
}

// lose makes the machine lost for every method from now on.
func (s *Session) lose(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost == nil {
		s.lost = s.loss(err)
	}
	return s.lost
}

// loss is the error for a machine that is lost because of err.
func (s *Session) loss(err error) error {
	var gone *goneError
	said := errors.As(err, &gone)
	switch {
	case cluster.KindOf(err) == cluster.Untrusted:
		return err
	case said && gone.Preempted:
		return s.takenBack(gone.Error(), err)
	case s.notice != nil:
		return s.takenBack(s.notice.Words, err)
	case said:
		return &cluster.Failure{Kind: cluster.Transient, What: fmt.Sprintf("machine %s is gone", s.machine), Words: gone.Error(), Err: errors.Join(ErrLost, err)}
	}
	return &cluster.Failure{Kind: cluster.Transient, What: "lost machine " + s.machine, Words: err.Error(), Err: errors.Join(ErrLost, err)}
}

func (s *Session) takenBack(words string, err error) error {
	return &cluster.Failure{Kind: cluster.Preempted, What: fmt.Sprintf("the cloud has taken machine %s back", s.machine), Words: words, Err: errors.Join(ErrLost, err)}
}
