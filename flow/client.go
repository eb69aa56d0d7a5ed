package flow

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/levinrun/levin/cluster"
)

// Client speaks to the control API of a run's controller.
type Client struct {
	path string
	http *http.Client
}

// Dial finds out whether a controller answers at a socket, and gives a client
// for it.
func Dial(socketPath string) (*Client, error) {
	probe, err := dialUnix(context.Background(), socketPath)
	if err != nil {
		return nil, &cluster.Failure{
			Kind: cluster.BadInput, What: "no controller answers at " + socketPath, Err: err,
			Next: "the run may have ended (levin ps); what it left behind is removed by: levin down RUN",
		}
	}
	probe.Close()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialUnix(ctx, socketPath) },
	}
	return &Client{path: socketPath, http: &http.Client{Transport: transport}}, nil
}

// Close drops the connections that are idle; streams are closed by themselves.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Stop stops the run, or only a component of it. It returns once the controller
// has taken the order.
func (c *Client) Stop(ctx context.Context, component string) error {
	body, err := json.Marshal(StopRequest{Component: component})
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, http.MethodPost, "/v1/stop", bytes.NewReader(body))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Status gives the run as it is now.
func (c *Client) Status(ctx context.Context) (Status, error) {
	resp, err := c.do(ctx, http.MethodGet, "/v1/run", nil)
	if err != nil {
		return Status{}, err
	}
	defer resp.Body.Close()
	var s Status
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return Status{}, fmt.Errorf("reading the answer of the controller: %w", err)
	}
	return s, nil
}

// Events follows the run: stored events with a Seq greater than after, then what
// happens. The stream ends with ctx, with Close, or with the controller.
func (c *Client) Events(ctx context.Context, after int64) (*Stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	resp, err := c.do(ctx, http.MethodGet, "/v1/events?after="+strconv.FormatInt(after, 10), nil)
	if err != nil {
		cancel()
		return nil, err
	}
	return &Stream{ctx: ctx, cancel: cancel, body: resp.Body, lines: bufio.NewReader(resp.Body)}, nil
}

func (c *Client) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://levin"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &cluster.Failure{Kind: cluster.Transient, What: "the controller at " + c.path + " did not answer", Err: err}
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	var e Error
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&e); err != nil || e.Message == "" {
		e.Message = "the controller answered " + resp.Status
	}
	return nil, e.failure()
}

func (e Error) failure() error {
	return &cluster.Failure{Kind: e.Kind, What: e.Message, Next: e.Next}
}

// Stream is the events of a run as they come. It is used by one goroutine; Close
// may be called by another.
type Stream struct {
	ctx    context.Context
	cancel context.CancelFunc
	body   io.ReadCloser
	lines  *bufio.Reader
}

// Next waits for the next event. io.EOF says that the controller has ended the
// stream because it ends itself.
func (s *Stream) Next() (cluster.Event, error) {
	line, err := s.lines.ReadBytes('\n')
	if err != nil {
		switch {
		case s.ctx.Err() != nil:
			return cluster.Event{}, context.Cause(s.ctx)
		case errors.Is(err, io.EOF) && len(line) == 0:
			return cluster.Event{}, io.EOF
		}
		return cluster.Event{}, fmt.Errorf("the controller's events broke off: %w", err)
	}
	var e struct {
		cluster.Event
		Next string `json:"next"`
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return cluster.Event{}, fmt.Errorf("the controller sent what is no event: %w", err)
	}
	if e.Type == "" {
		return cluster.Event{}, Error{Message: e.Error, Kind: cluster.FailureKind(e.Kind), Next: e.Next}.failure()
	}
	return e.Event, nil
}

// Close ends the stream.
func (s *Stream) Close() error {
	s.cancel()
	return s.body.Close()
}
