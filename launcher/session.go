package launcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher/agent"
)

// Config is how machines are reached.
type Config struct {
	Dialer    Dialer        // nil: NetDialer
	Agent     AgentSource   // finds the agent's program; see FindAgent
	AuthSock  string        // socket of ssh-agent; empty: $SSH_AUTH_SOCK
	Lease     time.Duration // how long a machine lives without its controller; default 10 min. Renewed at a third of it
	LostAfter time.Duration // a machine that cannot be reached for this long is lost; default 2 min
	KeepAlive time.Duration // how often a silent connection is asked whether it lives; default 15 s. Dead after three times that
	// Status asks the cloud how a machine is that does not answer; nil: nobody can
	// say. It honours ctx.
	Status func(ctx context.Context, machine string) (Condition, error)
	// Rotated is told, when a machine's host key is replaced (Target.Rotate), what its
	// host keys are from now on, one on a line, and returns when that is written down:
	// first two of which either is accepted, then the new one alone. nil: no key is
	// replaced.
	Rotated func(machine, hostKeys string) error
	// Warn is told what the user should know and nothing fails for; nil: nobody is.
	Warn func(machine, text string)

	Digests string       // file that remembers digests of local files between ships; "": none
	Logger  *slog.Logger // nil: no log
}

func (c Config) withDefaults() Config {
	if c.Dialer == nil {
		c.Dialer = NetDialer{AuthSock: c.AuthSock}
	}
	if c.Lease <= 0 {
		c.Lease = 10 * time.Minute
	}
	if c.LostAfter <= 0 {
		c.LostAfter = 2 * time.Minute
	}
	if c.KeepAlive <= 0 {
		c.KeepAlive = keepAlive
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

var (
	// ErrLost is in the chain of every error that says a machine can not be had
	// back: it did not answer for LostAfter, its cloud says that it is gone, or its
	// agent is gone with its work. The kind is cluster.Preempted when the cloud has
	// taken it back.
	ErrLost = errors.New("machine lost")
	// ErrClosed says that the Session was closed.
	ErrClosed = errors.New("session closed")
)

// Session is the way to one machine. Connections that break are made anew behind
// it, and an agent that was killed is started again, so that a method only fails
// when the machine is lost, refuses, or ctx ends. All methods may be called from
// several goroutines.
type Session struct {
	cfg     Config
	machine string
	target  cluster.Target

	life   context.Context // ends with Close
	end    context.CancelFunc
	wg     sync.WaitGroup
	turn   chan struct{} // holds a token while somebody connects
	mu     sync.Mutex
	link   *link         // nil while there is none
	stale  *link         // broke for somebody; its SSH connection may still be good
	down   time.Time     // when the last link broke
	lost   error         // final
	notice *agent.Notice // the cloud takes the machine back
	ends   time.Time     // when it does, by our clock
	lease  time.Duration
}

// Connect dials until the machine answers or ctx ends (the SSH server of a VM
// that boots needs its time), puts the agent there if its digest is not, starts
// it, and replaces the machine's host key where the target says so. A machine that is not one of ours to power off is up already: it is
// given LostAfter. What will not change is not tried again: a wrong or unknown
// host key is a Failure Untrusted with both fingerprints; keys that an own host
// does not take are a Failure Auth.
func Connect(ctx context.Context, cfg Config, machine string, t cluster.Target) (*Session, error) {
	cfg = cfg.withDefaults()
	if cfg.Agent == nil {
		return nil, errors.New("launcher: Config.Agent is missing")
	}
	s := &Session{cfg: cfg, machine: machine, target: t, lease: cfg.Lease, turn: make(chan struct{}, 1)}
	s.life, s.end = context.WithCancel(context.WithoutCancel(ctx))
	l, err := s.firstLink(ctx)
	if err != nil {
		s.end()
		return nil, err
	}
	s.link = l
	s.rotateHostKey(ctx)
	if ctx.Err() != nil {
		s.Close()
		return nil, context.Cause(ctx)
	}
	s.wg.Go(s.keepLease)
	return s, nil
}

// Machine is the name of the machine.
func (s *Session) Machine() string { return s.machine }

// Close drops the connection. The agent and the work stay.
func (s *Session) Close() error {
	s.end()
	s.mu.Lock()
	links := []*link{s.link, s.stale}
	s.link, s.stale = nil, nil
	s.mu.Unlock()
	for _, l := range links {
		if l != nil {
			l.close()
		}
	}
	s.wg.Wait()
	return nil
}

// firstLink dials until it works.
func (s *Session) firstLink(ctx context.Context) (*link, error) {
	if !s.target.PowerOff {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.cfg.LostAfter, fmt.Errorf("no answer within %s", s.cfg.LostAfter))
		defer cancel()
	}
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	// Clouds may take a moment to know a machine everywhere that has just been made.
	asking := s.inquire(ctx, 0, 2, giveUp)
	defer asking.end()
	var last error
	for try := 0; ; try++ {
		l, err := s.dial(ctx, false)
		if err == nil {
			return l, nil
		}
		if ctx.Err() == nil && s.permanent(err) {
			return nil, err
		}
		asking.begin()
		if ctx.Err() == nil || last == nil {
			last = err
		}
		s.cfg.Logger.Debug("machine does not answer yet", "machine", s.machine, "try", try, "error", err)
		if pause(ctx, backoff(try)) != nil {
			return nil, s.unreached(ctx, last)
		}
	}
}

func (s *Session) unreached(ctx context.Context, last error) error {
	cause := context.Cause(ctx)
	if gone := (*goneError)(nil); errors.As(cause, &gone) {
		return s.loss(gone)
	}
	if errors.Is(cause, context.Canceled) {
		return cause
	}
	kind := cluster.Transient
	if k := cluster.KindOf(last); k != "" {
		kind = k
	}
	return &cluster.Failure{
		Kind: kind, What: fmt.Sprintf("machine %s cannot be reached at %s (%v)", s.machine, address(s.target), cause),
		Words: last.Error(), Err: errors.Join(cause, last),
		Next: "Check its address, that its SSH server runs, and that a firewall lets you through.",
	}
}

// permanent reports whether trying again is of no use. A VM of ours may answer
// before its boot has put our key in place.
func (s *Session) permanent(err error) bool {
	switch cluster.KindOf(err) {
	case cluster.Auth:
		return !s.target.PowerOff
	case "", cluster.Transient:
		return false
	}
	return true
}

// dial makes one try at a connection with an agent behind it.
func (s *Session) dial(ctx context.Context, resume bool) (*link, error) {
	l, err := openLink(ctx, s.cfg, s.machine, s.target)
	if err != nil {
		return nil, err
	}
	if err := l.startAgent(ctx, s.cfg.Agent, resume); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// connected gives the live link, making a new one when there is none. It fails
// when the machine is lost for good, the session closed, or ctx ended.
func (s *Session) connected(ctx context.Context) (*link, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-s.life.Done():
		return nil, ErrClosed
	}
	s.mu.Lock()
	l, stale, lost, since := s.link, s.stale, s.lost, s.down
	s.stale = nil
	s.mu.Unlock()
	switch {
	case s.life.Err() != nil:
		return nil, ErrClosed
	case lost != nil:
		return nil, lost
	case l != nil:
		return l, nil
	}
	return s.reconnect(ctx, stale, since)
}

// reconnect is called by one goroutine at a time. The stale link's connection is
// tried first: often only the agent has gone.
func (s *Session) reconnect(ctx context.Context, stale *link, since time.Time) (*link, error) {
	ctx, cancel := context.WithDeadlineCause(ctx, s.giveUpAt(since), errGaveUp)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	asking := s.inquire(ctx, askAfter, 1, giveUp)
	defer asking.end()
	if stale != nil {
		if stale.alive() && stale.restartAgent(ctx, s.cfg.Agent) == nil {
			return s.use(stale)
		}
		stale.close()
	}
	var last error = errDead
	for try := 0; ; try++ {
		l, err := s.dial(ctx, true)
		if err == nil {
			return s.use(l)
		}
		if errors.Is(err, errGone) || cluster.KindOf(err) == cluster.Untrusted {
			return nil, s.lose(err)
		}
		asking.begin()
		if ctx.Err() == nil {
			last = err
		}
		s.cfg.Logger.Debug("machine does not answer", "machine", s.machine, "try", try, "error", err)
		if pause(ctx, backoff(try)) != nil {
			var gone *goneError
			switch {
			case s.life.Err() != nil:
				return nil, ErrClosed
			case errors.As(context.Cause(ctx), &gone):
				return nil, s.lose(gone)
			case errors.Is(context.Cause(ctx), errGaveUp):
				return nil, s.lose(fmt.Errorf("no answer for %s: %w", time.Since(since).Round(time.Second), last))
			}
			return nil, context.Cause(ctx)
		}
	}
}

var errGaveUp = errors.New("gave up reconnecting")

func (s *Session) use(l *link) (*link, error) {
	s.mu.Lock()
	if s.life.Err() == nil {
		s.link = l
		s.mu.Unlock()
		s.cfg.Logger.Debug("connected again", "machine", s.machine)
		return l, nil
	}
	s.mu.Unlock()
	l.close()
	return nil, ErrClosed
}

// suspect takes a link that broke for its user out of use.
func (s *Session) suspect(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l {
		return
	}
	s.link, s.stale = nil, l
	s.down = time.Now()
}

// do runs op on a live link, again and again as long as connections break under
// it, until the machine is lost. op reports whether it got anything done: a try
// that did starts the patience anew, so that an agent that breaks every request
// is given up like one that never answers.
func (s *Session) do(ctx context.Context, op func(context.Context, *link) (progress bool, err error)) error {
	since := time.Now()
	for try := 0; ; try++ {
		l, err := s.connected(ctx)
		if err != nil {
			return err
		}
		progress, err := op(ctx, l)
		if err == nil || isAnswer(err) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.cfg.Logger.Debug("request broke", "machine", s.machine, "error", err)
		s.suspect(l)
		if progress {
			since, try = time.Now(), 0
		}
		if time.Since(since) > s.cfg.LostAfter {
			return s.lose(fmt.Errorf("every request broke for %s: %w", s.cfg.LostAfter, err))
		}
		if try > 0 {
			if err := pause(ctx, backoff(try-1)); err != nil {
				return err
			}
		}
	}
}

// Renew sets how long the machine lives from now on without its controller; the
// session's own renewals ask for the same from then on. A caller that closes the
// session afterwards leaves the machine that long to itself.
func (s *Session) Renew(ctx context.Context, ttl time.Duration) error {
	s.mu.Lock()
	s.lease = ttl
	s.mu.Unlock()
	return s.refused(s.renew(ctx, ttl), "take a lease of "+ttl.String())
}

// keepLease tells the agent that the machine is still wanted, for as long as the
// session lives.
func (s *Session) keepLease() {
	every := s.cfg.Lease / 3
	renewed := time.Now()
	for pause(s.life, every) == nil {
		ctx, cancel := context.WithTimeout(s.life, every)
		s.mu.Lock()
		ttl := s.lease
		s.mu.Unlock()
		err := s.renew(ctx, ttl)
		cancel()
		switch {
		case err == nil:
			renewed = time.Now()
		case errors.Is(err, ErrLost) || errors.Is(err, ErrClosed):
			return
		case time.Since(renewed) > max(s.cfg.LostAfter, s.cfg.Lease):
			// Connections work, yet the agent does not answer.
			_ = s.lose(fmt.Errorf("the lease could not be renewed for %s: %w", time.Since(renewed).Round(time.Second), err))
			s.mu.Lock()
			l := s.link
			s.link = nil
			s.mu.Unlock()
			if l != nil {
				l.close() // wakes whoever waits for the agent
			}
			return
		}
	}
}

// backoff is the pause before try n+1: it doubles from 100 ms to 5 s, with jitter
// so that a hundred sessions do not come back at the same moment.
func backoff(n int) time.Duration {
	d := min(100*time.Millisecond<<min(n, 10), 5*time.Second)
	return d/2 + rand.N(d/2)
}

// pause waits; it ends early with the cause when ctx does.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
