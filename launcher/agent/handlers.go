package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/levinrun/levin/cluster"
)

// maxBody bounds a JSON body, decompressed: a manifest of a million files fits.
const maxBody = 256 << 20

// bigManifest is the number of entries from which on memory is given back.
const bigManifest = 1000

// handler answers a request; its error becomes the answer.
type handler func(w http.ResponseWriter, r *http.Request) error

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"GET /v1/info":                         s.getInfo,
		"POST /v1/lease":                       s.postLease,
		"POST /v1/sync":                        s.postSync,
		"POST /v1/sync/{folder}/same":          s.postSame,
		"POST /v1/sync/{folder}/files":         s.postFiles,
		"POST /v1/sync/{folder}/commit":        s.postCommit,
		"POST /v1/calls":                       s.postCalls,
		"GET /v1/calls/{id}":                   s.getCall,
		"GET /v1/calls/{id}/log":               s.getLog,
		"GET /v1/calls/{id}/wait":              s.getWait,
		"POST /v1/calls/{id}/stop":             s.postStop,
		"GET /v1/calls/{id}/outputs":           s.getOutputs,
		"POST /v1/calls/{id}/follow":           s.postFollow,
		"GET /v1/calls/{id}/outputs/{path...}": s.getOutput,
		"GET /v1/notice":                       s.getNotice,
		"POST /v1/hostkey":                     s.postHostKey,
		"POST /v1/hostkey/use":                 s.postHostKeyUse,
		"POST /v1/expiry":                      s.postExpiry,
		"POST /v1/shutdown":                    s.postShutdown,
		"/":                                    s.noRoute,
	} {
		mux.Handle(pattern, h)
	}
	return mux
}

func (s *server) noRoute(_ http.ResponseWriter, r *http.Request) error {
	return notFound("there is no %s %.100s", r.Method, r.URL.Path)
}

// ServeHTTP answers, and turns an error into an Error. An error after the answer
// has begun can only be shown by cutting the answer.
func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tracked := &answer{ResponseWriter: w}
	err := h(tracked, r)
	if err == nil {
		return
	}
	if tracked.begun {
		panic(http.ErrAbortHandler)
	}
	e := asError(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(e)
}

// answer knows whether anything was sent.
type answer struct {
	http.ResponseWriter
	begun bool
}

func (a *answer) WriteHeader(status int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// readBody decodes a JSON body, compressed or not. What it does not know it
// refuses: the two sides are of one release.
func readBody(w http.ResponseWriter, r *http.Request, v any) error {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "zstd" {
		zr, err := newZstdReader(r.Body)
		if err != nil {
			return err
		}
		defer zr.Close()
		body = zr
	}
	limited := &io.LimitedReader{R: body, N: maxBody}
	d := json.NewDecoder(limited)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("more than one value")
	}
	if limited.N <= 0 {
		return &Error{Message: "the request is too large", Kind: KindBadRequest, Status: http.StatusRequestEntityTooLarge}
	}
	return badRequest("the request cannot be read: %v", err)
}

func sendJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

// compressed gives a writer for the body: zstd when the request accepts it.
func compressed(w http.ResponseWriter, r *http.Request) (io.Writer, func() error, error) {
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "zstd") {
		return w, func() error { return nil }, nil
	}
	w.Header().Set("Content-Encoding", "zstd")
	zw, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true))
	if err != nil {
		return nil, nil, err
	}
	return zw, zw.Close, nil
}

func (s *server) getInfo(w http.ResponseWriter, _ *http.Request) error { return sendJSON(w, s.info()) }

func (s *server) postLease(w http.ResponseWriter, r *http.Request) error {
	var req LeaseRequest
	if err := readBody(w, r, &req); err != nil {
		return err
	}
	if req.TTL <= 0 {
		return badRequest("a lease of %v", req.TTL)
	}
	s.lease.renew(req.TTL)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) postSync(w http.ResponseWriter, r *http.Request) error {
	var req SyncRequest
	if err := readBody(w, r, &req); err != nil {
		return err
	}
	f, err := s.folder(req.Folder)
	if err != nil {
		return err
	}
	need, err := f.ask(r.Context(), req.Entries)
	if err != nil {
		return f.spoiled(err)
	}
	if len(req.Entries) >= bigManifest {
		defer s.tidySoon()
	}
	body, end, err := compressed(w, r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(body).Encode(need); err != nil {
		return err
	}
	return end()
}

func (s *server) postSame(w http.ResponseWriter, r *http.Request) error {
	var req SameRequest
	if err := readBody(w, r, &req); err != nil {
		return err
	}
	if _, err := digestHex(req.Digest); err != nil {
		return err
	}
	f, err := s.folder(r.PathValue("folder"))
	if err != nil {
		return err
	}
	release, err := s.calls.reserve(f.name)
	if err != nil {
		return err
	}
	defer release()
	same, err := f.same(req.Digest)
	if err != nil {
		return err
	}
	defer s.tidySoon()
	return sendJSON(w, SameAnswer{Same: same})
}

func (s *server) postFiles(w http.ResponseWriter, r *http.Request) error {
	f, err := s.folder(r.PathValue("folder"))
	if err != nil {
		return err
	}
	control := http.NewResponseController(w)
	interrupt := func() { _ = control.SetReadDeadline(time.Now()) }
	if err := f.receive(r.Context(), r.Body, interrupt); err != nil {
		return f.spoiled(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) postCommit(w http.ResponseWriter, r *http.Request) error {
	f, err := s.folder(r.PathValue("folder"))
	if err != nil {
		return err
	}
	release, err := s.calls.reserve(f.name)
	if err != nil {
		return err
	}
	defer release()
	done, err := f.commit()
	if err != nil {
		return f.spoiled(err)
	}
	defer s.tidySoon()
	return sendJSON(w, done)
}

// spoiled makes room when the disk is full, and passes the error on.
func (f *folder) spoiled(err error) error {
	if e := asError(err); e.Kind == KindDiskFull {
		if err := f.giveUp(); err != nil {
			e.Message += "; and what had arrived could not be removed: " + err.Error()
		}
		return e
	}
	return err
}

func (s *server) postCalls(w http.ResponseWriter, r *http.Request) error {
	var req StartRequest
	if err := readBody(w, r, &req); err != nil {
		return err
	}
	if err := req.check(); err != nil {
		return err
	}
	f, err := s.folder(req.Folder)
	if err != nil {
		return err
	}
	defer s.tidySoon()
	c, err := s.calls.start(req, f.abandon)
	if err != nil {
		return err
	}
	s.holdButton()
	return sendJSON(w, c.status())
}

func (s *server) call(r *http.Request) (*call, error) { return s.calls.get(r.PathValue("id")) }

func (s *server) getCall(w http.ResponseWriter, r *http.Request) error {
	c, err := s.call(r)
	if err != nil {
		return err
	}
	return sendJSON(w, c.status())
}

// getWait answers when an attempt has exited or, when asked for that, has left
// its setup. The phase is in the attempt's folder and supervise tells when it
// changes, so that an agent that took the attempt over knows it, too.
func (s *server) getWait(w http.ResponseWriter, r *http.Request) error {
	c, err := s.call(r)
	if err != nil {
		return err
	}
	after := Phase(r.URL.Query().Get("after"))
	if after != "" && after != PhaseSetup {
		return badRequest("waiting for the end of phase %.40q", after)
	}
	for {
		exit, changed := c.state()
		if exit != nil {
			return sendJSON(w, c.status())
		}
		if after == PhaseSetup {
			if status := c.status(); status.Phase != PhaseSetup {
				return sendJSON(w, status)
			}
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return r.Context().Err()
		case <-s.stopping:
			if exit, _ := c.state(); exit == nil {
				return conflict("the agent is shutting down")
			}
		}
	}
}

// getLog follows the log. The exit is looked at before the log is read, so that
// nothing can come after the last read.
func (s *server) getLog(w http.ResponseWriter, r *http.Request) error {
	c, err := s.call(r)
	if err != nil {
		return err
	}
	offset, err := offsetOf(r)
	if err != nil {
		return err
	}
	log, err := os.Open(c.dir.log())
	if err != nil {
		return err
	}
	defer log.Close()
	if _, err := log.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	control := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	buf := make([]byte, 32<<10)
	for {
		exit, changed := c.state()
		if _, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{log}, buf); err != nil {
			return err
		}
		if exit != nil {
			return nil
		}
		if err := control.Flush(); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return r.Context().Err()
		case <-s.stopping:
			if exit, _ := c.state(); exit == nil {
				return errors.New("the agent is shutting down")
			}
		}
	}
}

func (s *server) postStop(w http.ResponseWriter, r *http.Request) error {
	c, err := s.call(r)
	if err != nil {
		return err
	}
	if err := c.stop(); err != nil {
		return fmt.Errorf("stopping attempt %s: %w", c.id, err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) getOutputs(w http.ResponseWriter, r *http.Request) error {
	c, err := s.call(r)
	if err != nil {
		return err
	}
	artifacts := []cluster.Artifact{}
	if exit, _ := c.state(); exit != nil {
		artifacts = append(artifacts, exit.Artifacts...)
	}
	return sendJSON(w, artifacts)
}

// getOutput gives the content of an output; of a link, its target.
func (s *server) getOutput(w http.ResponseWriter, r *http.Request) error {
	c, err := s.call(r)
	if err != nil {
		return err
	}
	offset, err := offsetOf(r)
	if err != nil {
		return err
	}
	name := r.PathValue("path")
	artifact, err := c.output(name)
	if err != nil {
		return err
	}
	if offset > artifact.Size {
		return badRequest("offset %d of output %.100q, which has %d bytes", offset, name, artifact.Size)
	}
	content, err := c.openOutput(s.layout, artifact, offset)
	if err != nil {
		return err
	}
	defer content.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	body, end, err := compressed(w, r)
	if err != nil {
		return err
	}
	if body == io.Writer(w) {
		w.Header().Set("Content-Length", strconv.FormatInt(artifact.Size-offset, 10))
	}
	buf := make([]byte, copyBuffer)
	n, err := io.CopyBuffer(struct{ io.Writer }{body}, io.LimitReader(content, artifact.Size-offset), buf)
	if err == nil && n < artifact.Size-offset {
		err = fmt.Errorf("output %s has become shorter: %w", name, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return err
	}
	return end()
}

func (c *call) output(name string) (cluster.Artifact, error) {
	if exit, _ := c.state(); exit != nil {
		for _, a := range slices.Concat(exit.Artifacts, exit.Checkpoint) {
			if a.Path == name {
				return a, nil
			}
		}
	}
	return cluster.Artifact{}, notFound("attempt %s has no output %.100q", c.id, name)
}

func (c *call) openOutput(l layout, a cluster.Artifact, offset int64) (io.ReadCloser, error) {
	if a.Link != "" {
		return io.NopCloser(strings.NewReader(a.Link[offset:])), nil
	}
	root, err := os.OpenRoot(l.work(c.folder))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := openRegular(root, a.Path)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (s *server) postShutdown(w http.ResponseWriter, _ *http.Request) error {
	// From here on the server ends, once this answer is out.
	if err := s.shutdown(); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func offsetOf(r *http.Request) (int64, error) {
	text := r.URL.Query().Get("offset")
	if text == "" {
		return 0, nil
	}
	offset, err := strconv.ParseInt(text, 10, 64)
	if err != nil || offset < 0 {
		return 0, badRequest("offset %.40q", text)
	}
	return offset, nil
}
