package launcher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/launcher/agent"
)

// rotateLimit bounds the exchange of a host key, and with it how much longer it
// takes until work can begin when something is in its way.
const rotateLimit = 45 * time.Second

// rotateHostKey replaces the host key that came through the cloud's hands by one
// that is made on the machine. When that fails the session goes on with the key
// it has.
func (s *Session) rotateHostKey(ctx context.Context) {
	if !s.target.Rotate {
		return
	}
	limit := min(rotateLimit, s.cfg.LostAfter)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took more than %s", limit))
	defer cancel()
	if err := s.rotate(ctx); err != nil {
		text := fmt.Sprintf("the host key of machine %s was not replaced: %v", s.machine, err)
		s.cfg.Logger.Warn(text)
		if s.cfg.Warn != nil {
			s.cfg.Warn(s.machine, text)
		}
	}
}

// rotate exchanges the key in two steps, so that whoever is killed in between is
// never locked out: first it is written down that either key is accepted, then
// the machine shows the new one, and only when it was seen to do so the old one is
// dropped.
func (s *Session) rotate(ctx context.Context) error {
	if s.cfg.Rotated == nil {
		return errors.New("nobody keeps the new one; the key that went through the cloud's user data is still in use")
	}
	l, err := s.connected(ctx)
	if err != nil {
		return err
	}
	shown := *l.conn.shown.Load()
	stillInUse := func(err error) error {
		return fmt.Errorf("%w; the key that went through the cloud's user data is still in use", err)
	}
	var next agent.HostKey
	if err := s.simple(ctx, request{method: http.MethodPost, path: "hostkey"}, &next); err != nil {
		return stillInUse(err)
	}
	key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(next.Key))
	if err != nil || len(rest) > 0 || key.Type() != ssh.KeyAlgoED25519 {
		return stillInUse(fmt.Errorf("the machine gives a key that cannot be used: %.200q", next.Key))
	}
	next.Key = authorized(key) // whatever comment it had
	if !next.Active || next.Key != shown {
		if err := s.cfg.Rotated(s.machine, next.Key+"\n"+shown); err != nil {
			return stillInUse(fmt.Errorf("the new one could not be written down: %w", err))
		}
		s.target.HostKeys = []string{next.Key, shown}
		if err := s.simple(ctx, request{method: http.MethodPost, path: "hostkey/use"}, nil); err != nil {
			return stillInUse(err)
		}
		if err := s.awaitHostKey(ctx, next.Key); err != nil {
			return err
		}
	}
	if err := s.cfg.Rotated(s.machine, next.Key); err != nil {
		return fmt.Errorf("that the old one is not accepted any more could not be written down: %w", err)
	}
	s.target.HostKeys = []string{next.Key}
	return nil
}

// awaitHostKey makes connections of its own until one is shown this key: an SSH
// server takes a moment to read it.
func (s *Session) awaitHostKey(ctx context.Context, want string) error {
	var last error
	for try := 0; ; try++ {
		shown, err := s.showHostKey(ctx)
		switch {
		case shown == want:
			return nil
		case ctx.Err() != nil && last != nil: // that is why
		case err != nil:
			last = fmt.Errorf("it is not known whether the key that went through the cloud's user data is still in use; both are accepted: %w", err)
		default:
			last = errors.New("the machine still shows the key that went through the cloud's user data; both are accepted")
		}
		if err := pause(ctx, backoff(try)); err != nil {
			return fmt.Errorf("%w (%w)", last, err)
		}
	}
}

// showHostKey makes a connection and gives the host key that it was shown.
func (s *Session) showHostKey(ctx context.Context) (string, error) {
	raw, err := s.cfg.Dialer.Dial(ctx, s.target)
	if err != nil {
		return "", err
	}
	conn := &wireConn{Conn: raw}
	client, err := handshake(ctx, conn, s.target, s.cfg.AuthSock, min(handshakeTimeout, 3*s.cfg.KeepAlive))
	if err != nil {
		return "", err
	}
	client.Close()
	_ = client.Wait() // how it ended is no news
	return *conn.shown.Load(), nil
}

// Expire moves the time at which the machine powers itself off, whatever becomes
// of its agent and of us. On a machine that has no such time (Target.Expiry) it
// does nothing.
func (s *Session) Expire(ctx context.Context, at time.Time) error {
	if !s.target.Expiry {
		return nil
	}
	err := s.simple(ctx, request{method: http.MethodPost, path: "expiry", in: agent.ExpiryRequest{At: at}}, nil)
	return s.refused(err, "expire at "+at.UTC().Format(time.RFC3339))
}
