package emulator

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/provision/local/machine"
)

// life is an instance while it is in the books.
type life struct {
	birth
	dir     string // of its machine
	address string // of its SSH server, private and public alike
	wake    chan struct{}
	wanted  State  // Stopped or Terminated, once somebody wants it to end
	why     string // in the cloud's words
	notice  notice // that it is taken back
}

// birth is what an instance is born with.
type birth struct {
	user       userData
	clientKey  string  // who is let in, authorized_keys form; "" is nobody
	whenOff    State   // Stopped or Terminated: what becomes of it when it powers itself off
	offWords   string  // why, in the cloud's words
	maxRun     float64 // seconds after which the cloud ends it; 0 is never
	maxRunEnd  State   // what becomes of it then
	preemptEnd State   // what becomes of it when it is taken back
	noBoot     bool    // its SSH server never answers
}

const (
	// lookEach is how often it is looked whether the agent has moved an instance's
	// expiry.
	lookEach = 50 * time.Millisecond
	// forever is longer than any test: an instance does not end for lack of
	// connections as a local machine does.
	forever = 24 * time.Hour
	// expiryName is the file in a machine's folder by which the agent says when the
	// machine is to power itself off, as RFC 3339.
	expiryName = "expiry"
)

// newLife gives an instance its address.
func newLife(b birth) *life {
	var random [3]byte
	rand.Read(random[:])
	// Loopback has 16 million addresses; an instance has one for itself, as it has a
	// public address in a cloud.
	address := net.IPv4(127, 1+random[0]%254, random[1], 1+random[2]%254)
	return &life{birth: b, address: address.String(), wake: make(chan struct{}, 1)}
}

// launch lets an instance that is in the books live. It returns at once.
func (e *Emulator) launch(t *Thing) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t.life.dir = filepath.Join(e.machines(), strings.Join([]string{t.Cloud, t.Zone, t.ID}, "-"))
	t.State = Pending
	if e.cfg.Boot > 0 {
		t.State = Running // clouds count it as running before its SSH server is up
	}
	if t.life.maxRun > 0 {
		t.ExpiresAt = t.CreatedAt.Add(e.seconds(t.life.maxRun))
	}
	if e.closed {
		t.State = Terminated
		return
	}
	e.wg.Go(func() { e.live(t) })
}

// live is the whole life of an instance.
func (e *Emulator) live(t *Thing) {
	l := t.life
	env, closeMetadata, err := e.metadataFor(t)
	if err != nil {
		e.end(t, Terminated, "Server.InternalError: "+err.Error())
		return
	}
	defer closeMetadata()
	defer e.stopMachine(t)
	up := time.NewTimer(e.cfg.Boot)
	defer up.Stop()
	maxRun := stoppedTimer(e.seconds(l.maxRun))
	defer maxRun.Stop()
	expiry := stoppedTimer(0)
	defer expiry.Stop()
	look := time.NewTicker(lookEach)
	defer look.Stop()
	ended := make(chan struct{})
	var expires time.Time
	for {
		select {
		case <-up.C:
			if l.user.expiry > 0 {
				expires = time.Now().Add(e.seconds(l.user.expiry))
				expiry.Reset(time.Until(expires))
			}
			if err := e.boot(t, env, expires); err != nil {
				e.end(t, Terminated, "Server.InternalError: "+err.Error())
				return
			}
			if !l.noBoot {
				e.wg.Go(func() {
					defer close(ended)
					machine.Wait(e.ctx, l.dir)
				})
			}
		case <-look.C:
			if at, ok := l.readExpiry(); ok && !at.Equal(expires) {
				expires = at
				expiry.Reset(time.Until(expires))
				e.setExpiry(t, expires)
			}
		case <-ended:
			ended = nil
			if e.ctx.Err() == nil {
				e.end(t, l.whenOff, l.offWords)
			}
		case <-expiry.C:
			e.end(t, l.whenOff, l.offWords)
		case <-maxRun.C:
			e.end(t, l.maxRunEnd, "compute.instances.maxRunDuration: the instance has run for as long as it may")
		case <-l.wake:
			state, why := e.wish(t)
			e.end(t, state, why)
		case <-e.ctx.Done():
			e.stopMachine(t)
			return
		}
		switch e.stateOf(t) {
		case Terminated:
			return
		case Stopped:
			up.Stop()
			maxRun.Stop()
			expiry.Stop()
			look.Stop()
		}
	}
}

// stoppedTimer gives a timer that does not run when d is 0.
func stoppedTimer(d time.Duration) *time.Timer {
	t := time.NewTimer(max(d, time.Hour))
	t.Stop()
	if d > 0 {
		t.Reset(d)
	}
	return t
}

// boot starts the machine.
func (e *Emulator) boot(t *Thing, env []string, expires time.Time) error {
	l := t.life
	var info machine.Info
	if !l.noBoot {
		key := l.clientKey
		if key == "" {
			nobody, err := keyOfNobody()
			if err != nil {
				return err
			}
			key = nobody
		}
		var err error
		info, err = e.starter.Start(e.ctx, machine.Options{
			Dir: l.dir, Name: t.ID, Run: t.Tags["levin-run"], Key: key, Lease: forever,
			HostKey: l.user.hostKey, Listen: net.JoinHostPort(l.address, strconv.Itoa(e.cfg.SSHPort)),
			Env: env, Tied: true, Agent: e.cfg.Agent,
		})
		if err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	t.Machine = info
	if t.State == Pending {
		t.State = Running
	}
	e.notify()
	if !expires.IsZero() {
		t.expire(expires)
	}
	return nil
}

// keyOfNobody is a client key of which nobody has the private half.
func keyOfNobody() (string, error) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		return "", err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return "", err
	}
	return string(ssh.MarshalAuthorizedKey(key)), nil
}

// readExpiry gives the time that the agent has written, if it has.
func (l *life) readExpiry() (time.Time, bool) {
	b, err := os.ReadFile(filepath.Join(l.dir, expiryName))
	if err != nil {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(string(b)))
	return at, err == nil
}

func (e *Emulator) setExpiry(t *Thing, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t.expire(at)
	e.notify()
}

// expire notes when the machine powers itself off, unless the cloud ends it before
// that.
func (t *Thing) expire(at time.Time) {
	if l := t.life; l.maxRun == 0 || at.Before(t.ExpiresAt) {
		t.ExpiresAt = at
	}
}

// end ends an instance: from now on it is on its way out, and when this returns,
// out.
func (e *Emulator) end(t *Thing, state State, why string) {
	e.mu.Lock()
	if t.State == Stopped && state == Stopped || t.State == Terminated {
		e.mu.Unlock()
		return
	}
	if t.State != Stopped { // the reason for which it stopped remains
		t.Reason = why
	}
	t.State = Terminating
	e.notify()
	e.mu.Unlock()

	e.stopMachine(t)

	e.mu.Lock()
	defer e.mu.Unlock()
	if t.life.wanted == Terminated {
		state = Terminated // asked for in the meantime
	}
	t.State, t.Machine = state, machine.Info{}
	if state == Terminated {
		e.things = slices.DeleteFunc(e.things, func(other *Thing) bool { return other == t.disk })
	}
	e.notify()
}

// stopMachine ends the machine of an instance with all that runs on it.
func (e *Emulator) stopMachine(t *Thing) {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	if err := machine.Stop(ctx, t.life.dir); err != nil {
		// Close finds and reports what is left.
		e.mu.Lock()
		t.Reason = fmt.Sprintf("%s (%v)", t.Reason, err)
		e.mu.Unlock()
	}
}

func (e *Emulator) stateOf(t *Thing) State {
	e.mu.Lock()
	defer e.mu.Unlock()
	return t.State
}

func (e *Emulator) wish(t *Thing) (State, string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return t.life.wanted, t.life.why
}

// Terminate begins to end an instance and returns at once; it is terminated when
// its processes are gone. Terminating a terminated one is no error; one that never
// was is ErrNotFound.
func (e *Emulator) Terminate(cloud, id, reason string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.find(cloud, func(t *Thing) bool { return t.ID == id && t.instance() })
	if t == nil {
		return fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	e.want(t, Terminated, reason)
	return nil
}

// want asks for the end of an instance. The lock is held.
func (e *Emulator) want(t *Thing, state State, why string) {
	l := t.life
	if !t.exists() || l.wanted == Terminated || l.wanted == state {
		return
	}
	l.wanted, l.why = state, why
	if t.State != Stopped {
		t.Reason = why
	}
	t.State = Terminating
	e.notify()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
