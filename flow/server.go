package flow

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
)

// The control API: HTTP/1.1 over a unix socket that only its owner can open.
// Bodies are JSON. An error is an Error with a 4xx or 5xx status.
//
//	POST /v1/stop {"component": "train"}   → 204     stops the run; with a component, only that. Answers once the order is taken.
//	GET  /v1/run                           → Status
//	GET  /v1/events?after=N                → NDJSON  stored events with seq > N, then what happens, call.log included,
//	                                                 until the controller ends. A reader that is too slow gets an Error
//	                                                 as the last line.

// StopRequest is the body of POST /v1/stop.
type StopRequest struct {
	Component string `json:"component,omitempty"` // "" is the whole run
}

// Status is the answer of GET /v1/run: the run as it is in the store.
type Status struct {
	Run      cluster.Run       `json:"run"`
	Calls    []cluster.Call    `json:"calls"`
	Machines []cluster.Machine `json:"machines"`
}

// Error is the body of every answer that is not a success, and the last line of
// an event stream that had to be cut off.
type Error struct {
	Message string              `json:"error"`
	Kind    cluster.FailureKind `json:"kind,omitempty"`
	Next    string              `json:"next,omitempty"`
}

const (
	maxQueuedEvents = 1 << 16          // of one event stream whose reader does not keep up
	writeTimeout    = 30 * time.Second // for a reader to take anything at all
	drainTimeout    = 2 * time.Second  // for readers to take the rest when the server closes
	headerTimeout   = 10 * time.Second
	pageSize        = 1000 // stored events read at once
)

// Server serves the control API of one run.
type Server struct {
	path    string
	http    *http.Server
	journal *cluster.Journal
	run     string
	coord   *Coordinator
	queue   int // maxQueuedEvents

	closing chan struct{} // closed when streams must come to their end
	once    sync.Once
	served  chan struct{} // closed when http has ended
}

// Serve begins to serve the control API of a run at a unix socket, replacing a
// socket that a controller before left behind. The caller holds the run's lock
// and calls Close, best after the run's last event.
func Serve(socketPath string, journal *cluster.Journal, coord *Coordinator) (*Server, error) {
	s := newServer(socketPath, journal, coord)
	listener, err := listen(socketPath)
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(listener) // always ErrServerClosed; a broken listener serves nobody, and the run goes on
	}()
	return s, nil
}

func newServer(socketPath string, journal *cluster.Journal, coord *Coordinator) *Server {
	s := &Server{
		path: socketPath, journal: journal, run: coord.cfg.Run.ID, coord: coord, queue: maxQueuedEvents,
		closing: make(chan struct{}), served: make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/stop", s.stop)
	mux.HandleFunc("GET /v1/run", s.status)
	mux.HandleFunc("GET /v1/events", s.events)
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}
	return s
}

// listen binds the socket. Nobody but its owner can open it.
func listen(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, socketFailure(path, err)
		}
	}
	listener, err := listenUnix(path)
	if err != nil {
		return nil, socketFailure(path, err)
	}
	// The file is removed by its own name, which need not be the name it was bound by.
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, socketFailure(path, err)
	}
	return listener, nil
}

func socketFailure(path string, err error) error {
	return &cluster.Failure{
		Kind: cluster.BadInput, What: "could not open the control socket " + path, Err: err,
		Next: "set LEVIN_HOME to a folder on a local disk with a shorter name",
	}
}

// Close stops serving: nobody new gets in, event streams are given what has
// happened so far and end. The socket's file is removed.
func (s *Server) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closing)
		ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
		defer cancel()
		if err = s.http.Shutdown(ctx); err != nil {
			err = s.http.Close()
		}
		<-s.served
		if rm := os.Remove(s.path); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
			err = errors.Join(err, rm)
		}
	})
	return err
}

func (s *Server) stop(w http.ResponseWriter, r *http.Request) {
	var req StopRequest
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil && !errors.Is(err, io.EOF) {
		answerError(w, http.StatusBadRequest, &cluster.Failure{Kind: cluster.BadInput, What: "the request cannot be read", Err: err})
		return
	}
	if req.Component == "" {
		s.coord.Stop("levin stop")
	} else if err := s.coord.StopComponent(req.Component); err != nil {
		answerError(w, http.StatusNotFound, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	store := s.journal.Store()
	run, err := store.Run(r.Context(), s.run)
	var calls []cluster.Call
	if err == nil {
		calls, err = store.Calls(r.Context(), s.run)
	}
	var machines []cluster.Machine
	if err == nil {
		machines, err = store.Machines(r.Context(), s.run)
	}
	if err != nil {
		answerError(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(Status{Run: run, Calls: calls, Machines: machines})
}

func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	var after int64
	if text := r.URL.Query().Get("after"); text != "" {
		var err error
		if after, err = strconv.ParseInt(text, 10, 64); err != nil || after < 0 {
			answerError(w, http.StatusBadRequest, &cluster.Failure{Kind: cluster.BadInput, What: "after is not the number of an event: " + strconv.Quote(text)})
			return
		}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	newStream(s, w, after).serve(r.Context())
}

func answerError(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(errorOf(err))
}

func errorOf(err error) Error {
	text, next := withoutAdvice(err)
	return Error{Message: text, Kind: cluster.KindOf(err), Next: next}
}
