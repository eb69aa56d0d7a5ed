package launcher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher/agent"
)

// maxJSON bounds an answer that is held in memory.
const maxJSON = 64 << 20

// request is one question to the agent.
type request struct {
	method string
	path   string // below /v1/
	in     any    // sent as JSON, when not nil
	body   io.Reader
	zip    bool // zstd both ways
}

// send asks the agent and gives its answer, whose body the caller closes. An
// answer that is not a success is an *agent.Error.
func (l *link) send(ctx context.Context, r request) (*http.Response, error) {
	body := r.body
	if r.in != nil {
		data, err := json.Marshal(r.in)
		if err != nil {
			return nil, err
		}
		if r.zip {
			data = pack(data)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, "http://agent/v1/"+r.path, body)
	if err != nil {
		return nil, err
	}
	if r.in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.zip {
		if r.in != nil {
			req.Header.Set("Content-Encoding", "zstd")
		}
		req.Header.Set("Accept-Encoding", "zstd")
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.Header.Get("Content-Encoding") == "zstd" {
		if err := unzip(resp); err != nil {
			resp.Body.Close()
			return nil, err
		}
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, answerError(resp)
	}
	return resp, nil
}

// ask sends r and reads the answer into out, when out is not nil.
func (l *link) ask(ctx context.Context, r request, out any) error {
	resp, err := l.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxJSON+1))
	if err != nil {
		return err
	}
	if len(data) > maxJSON {
		return &cluster.Failure{Kind: cluster.Untrusted, What: fmt.Sprintf("the agent's answer to %s has more than %d MiB", r.path, maxJSON>>20)}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return &cluster.Failure{Kind: cluster.Untrusted, What: fmt.Sprintf("the agent's answer to %s cannot be read", r.path), Err: err}
	}
	return nil
}

func answerError(resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	e := &agent.Error{}
	if json.Unmarshal(data, e) != nil || e.Message == "" {
		e.Message = strings.TrimSpace(fmt.Sprintf("%s %.200s", resp.Status, data))
	}
	e.Status = resp.StatusCode
	return e
}

// isAnswer reports whether err is what the agent wanted to say, a judgement about
// it, or trouble of our own, rather than a connection that broke.
func isAnswer(err error) bool {
	var e *agent.Error
	var f *cluster.Failure
	var local errLocal
	var changed *errChanged
	return errors.As(err, &e) || errors.As(err, &f) || errors.As(err, &local) || errors.As(err, &changed)
}

// kindOf gives the kind of the agent's answer, or "".
func kindOf(err error) string {
	var e *agent.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

// refused makes the agent's answer a Failure that a person can read. Other errors
// pass.
func (s *Session) refused(err error, what string) error {
	var e *agent.Error
	if err == nil || !errors.As(err, &e) {
		return err
	}
	f := &cluster.Failure{Kind: cluster.BadRequest, What: fmt.Sprintf("machine %s could not %s", s.machine, what), Words: e.Message, Err: e}
	switch e.Kind {
	case agent.KindUntrusted:
		f.Kind = cluster.Untrusted
	case agent.KindPreempted:
		f.Kind = cluster.Preempted
	case agent.KindConflict, agent.KindInternal:
		f.Kind = cluster.Transient
	case agent.KindDiskFull:
		f.Next = "Ask for a larger disk (resources: disk), or ship less (.levinignore)."
	}
	return f
}

// simple asks until there is an answer.
func (s *Session) simple(ctx context.Context, r request, out any) error {
	return s.do(ctx, func(ctx context.Context, l *link) (bool, error) {
		return false, l.ask(ctx, r, out)
	})
}

func (s *Session) renew(ctx context.Context, ttl time.Duration) error {
	return s.simple(ctx, request{method: http.MethodPost, path: "lease", in: agent.LeaseRequest{TTL: ttl}}, nil)
}

// restartAgent makes sure that an agent answers behind a connection which still
// stands. Idle channels may lead to the one that went.
func (l *link) restartAgent(ctx context.Context, source AgentSource) error {
	ctx, cancel := context.WithTimeout(ctx, restartPatience)
	defer cancel()
	l.http.CloseIdleConnections()
	return l.startAgent(ctx, source, true)
}

// restartPatience is how long an old connection is given before a new one is
// made: it may be broken in a way that nobody has told us of.
const restartPatience = 10 * time.Second

func pack(data []byte) []byte { return packer().EncodeAll(data, nil) }

// packer is one encoder for all questions: it is large, and EncodeAll may be
// called from many goroutines.
var packer = sync.OnceValue(func() *zstd.Encoder {
	zw, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		panic(err) // only for options that cannot be
	}
	return zw
})

// maxWindow bounds the memory that a peer can make a decoder use.
const maxWindow = 8 << 20

// unzip replaces the answer's body by what it unpacks to.
func unzip(resp *http.Response) error {
	zr, err := zstd.NewReader(resp.Body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	resp.Body = &unzipped{zr, resp.Body}
	return nil
}

type unzipped struct {
	*zstd.Decoder
	raw io.Closer
}

func (u *unzipped) Close() error {
	u.Decoder.Close()
	return u.raw.Close()
}
