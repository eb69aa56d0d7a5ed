package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// server answers the controller for one machine.
type server struct {
	layout  layout
	digest  string
	started time.Time
	calls   *calls
	lease   *lease
	notice  string // metadata service to watch; "" is none
	board   *board
	button  button
	machine sync.Mutex // held while something of the whole machine is changed

	mu      sync.Mutex
	folders map[string]*folder

	stopping chan struct{} // closed when the agent is to end; logs stop following
	once     sync.Once
	gone     bool  // shutdown was done; set before stopping is closed
	ending   error // why it could not remove everything; set before stopping is closed
	untidy   chan struct{}
}

func newServer(l layout, digest string) *server {
	s := &server{layout: l, digest: digest, started: time.Now(), folders: make(map[string]*folder), board: newBoard(),
		stopping: make(chan struct{}), untidy: make(chan struct{}, 1)}
	s.lease = newLease(func() bool { _, running := s.calls.list(); return running > 0 })
	s.calls = newCalls(l, func() {
		s.lease.idle()
		s.holdButton()
		s.tidySoon()
	})
	return s
}

func (s *server) folder(name string) (*folder, error) {
	if err := checkLabel("folder", name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.folders[name]
	if f == nil {
		f = &folder{name: name, layout: s.layout, uploads: make(map[*upload]bool)}
		s.folders[name] = f
	}
	return f, nil
}

func (s *server) info() Info {
	ids, _ := s.calls.list()
	return Info{Protocol: ProtocolVersion, Digest: s.digest, OS: runtime.GOOS, Arch: runtime.GOARCH,
		PID: os.Getpid(), Started: s.started, Now: time.Now(), Calls: ids}
}

// serve answers on the listener until the lease has run out, somebody asked for
// shutdown, or ctx ends; in the first two cases nothing of the agent is left and
// gone is true. ready is called once it answers.
func (s *server) serve(ctx context.Context, listener net.Listener, ttl time.Duration, ready func(Info) error) (gone bool, err error) {
	if err := s.calls.adopt(); err != nil {
		listener.Close()
		return false, err
	}
	h := &http.Server{Handler: s.routes(), MaxHeaderBytes: 64 << 10}
	served := make(chan error, 1)
	var helpers sync.WaitGroup
	helpers.Go(func() { served <- h.Serve(listener) })
	helpers.Go(s.tidy)
	if s.notice != "" {
		watching, stopWatching := context.WithCancel(ctx)
		defer stopWatching()
		helpers.Go(func() { s.watchNotice(watching, s.notice) })
		helpers.Go(func() {
			<-s.stopping
			stopWatching()
		})
	}
	s.holdButton() // for work that was taken over
	defer s.button.end()
	s.lease.renew(ttl)
	defer s.lease.stop()
	if err = ready(s.info()); err == nil {
		s.tidySoon()
		select {
		case err = <-served:
		case <-ctx.Done():
		case <-s.lease.over:
			s.shutdown()
		case <-s.stopping:
		}
	}
	// Answers that are on their way may finish; connections that only wait may not.
	s.once.Do(func() { close(s.stopping) })
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if h.Shutdown(grace) != nil {
		h.Close()
	}
	helpers.Wait()
	if err == nil {
		err = s.ending
	}
	return s.gone, err
}

// shutdown ends all work and removes the agent's folder. It is done once; later
// callers wait for it.
func (s *server) shutdown() error {
	s.once.Do(func() {
		s.calls.end()
		if err := removeAll(s.layout.dir); err != nil {
			s.ending = fmt.Errorf("removing the agent's folder: %w", err)
		}
		s.gone = true
		close(s.stopping)
	})
	return s.ending
}

// tidySoon has memory given back after something big, so that an idle agent is
// small.
func (s *server) tidySoon() {
	select {
	case s.untidy <- struct{}{}:
	default:
	}
}

func (s *server) tidy() {
	for {
		select {
		case <-s.untidy:
			debug.FreeOSMemory()
		case <-s.stopping:
			return
		}
	}
}
