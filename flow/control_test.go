package flow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/flow"
	"github.com/levinrun/levin/flow/inprocess"
)

// serve serves a world's control API and gives the socket and a client.
func serve(t *testing.T, w *world) (*flow.Client, *flow.Server, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "control.sock")
	server, err := flow.Serve(socket, w.journal, w.coord)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	client, err := flow.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client, server, socket
}

func TestControlStop(t *testing.T) {
	running := make(chan struct{}, 2)
	work := func(ctx context.Context, m string, w flow.Work, o flow.Observer) (flow.Outcome, error) {
		running <- struct{}{}
		return untilStopped(ctx, m, w, o)
	}
	w := newWorld(t, app(comp("a"), comp("b")), work, nil)
	client, _, _ := serve(t, w)
	done := make(chan flow.Result)
	go func() { done <- w.run(context.Background()) }()
	<-running
	<-running

	err := client.Stop(t.Context(), "nobody")
	if cluster.KindOf(err) != cluster.BadInput || !strings.Contains(err.Error(), "it has: a, b") {
		t.Error(err)
	}
	if err := client.Stop(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if err := client.Stop(t.Context(), ""); err != nil {
		t.Error(err)
	}
	if result := <-done; result.Outcome != cluster.RunCancelled || !strings.Contains(result.Err.Error(), "levin stop") {
		t.Error(result)
	}
	status, err := client.Status(t.Context())
	if err != nil || status.Run.ID != "r" || len(status.Calls) != 2 || status.Calls[0].State != cluster.CallCancelled {
		t.Errorf("%+v, %v", status, err)
	}
}

// Events come in order, each stored one once, from wherever the reader left off,
// with log lines among them.
func TestControlEvents(t *testing.T) {
	goOn := make(chan struct{})
	w := newWorld(t, app(comp("a"), comp("b", needs("a"))), byComponent(map[string]inprocess.Func{
		"b": func(ctx context.Context, m string, work flow.Work, o flow.Observer) (flow.Outcome, error) {
			<-goOn
			return prints(chunk{0, "hello\n"})(ctx, m, work, o)
		},
	}), nil)
	client, server, _ := serve(t, w)
	ctx := t.Context()
	early, err := client.Events(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(context.Background())
	}()
	// Once a has succeeded, a second reader joins who has seen three events.
	var seen []cluster.Event
	for {
		e, err := early.Next()
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, e)
		if e.Type == cluster.EventCallSucceeded {
			break
		}
	}
	late, err := client.Events(ctx, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if first, err := late.Next(); err != nil || first.Seq != 4 {
		t.Errorf("%+v, %v", first, err)
	}
	close(goOn)
	<-done
	server.Close()
	rest := func(s *flow.Stream) (events []cluster.Event) {
		for {
			e, err := s.Next()
			if errors.Is(err, io.EOF) {
				return events
			}
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
	}
	stored, err := w.store.Events(ctx, "r", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	onlyStored := func(events []cluster.Event) (out []cluster.Event) {
		for _, e := range events {
			if e.Seq > 0 {
				out = append(out, e)
			}
		}
		return out
	}
	all := append(seen, rest(early)...)
	if diff := cmp.Diff(stored, onlyStored(all)); diff != "" {
		t.Error(diff)
	}
	tail := rest(late)
	if diff := cmp.Diff(stored[4:], onlyStored(tail)); diff != "" {
		t.Error(diff)
	}
	for _, events := range [][]cluster.Event{all, tail} {
		lines := 0
		for _, e := range events {
			if e.Type == cluster.EventCallLog && e.Line == "hello" {
				lines++
			}
		}
		if lines != 1 {
			t.Errorf("the line came %d times", lines)
		}
	}
}

// A run that writes faster than a reader replays does not lose it an event.
func TestControlEventsDuringARun(t *testing.T) {
	items := make([]string, 2000)
	for i := range items {
		items[i] = fmt.Sprint(i)
	}
	w := newWorld(t, app(comp("wide", forEach(items...))), prints(chunk{0, "x\n"}), nil)
	client, server, _ := serve(t, w)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(context.Background())
	}()
	counted := make(chan error)
	const readers = 3
	for range readers {
		stream, err := client.Events(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		go func() {
			var last int64
			for {
				e, err := stream.Next()
				if errors.Is(err, io.EOF) {
					if last < 2000*5 {
						err = fmt.Errorf("ended at %d", last)
					} else {
						err = nil
					}
					counted <- err
					return
				}
				if err == nil && e.Seq > 0 && e.Seq != last+1 {
					err = fmt.Errorf("event %d after %d", e.Seq, last)
				}
				if err != nil {
					counted <- err
					return
				}
				last = max(last, e.Seq)
			}
		}()
	}
	<-done
	server.Close()
	for range readers {
		if err := <-counted; err != nil {
			t.Error(err)
		}
	}
}

func TestControlErrors(t *testing.T) {
	w := newWorld(t, app(comp("a")), inprocess.NoOp, nil)
	_, _, socket := serve(t, w)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	raw := &http.Client{Transport: transport}
	tests := []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/v1/events?after=x", "", 400},
		{"GET", "/v1/events?after=-1", "", 400},
		{"POST", "/v1/stop", "{", 400},
		{"POST", "/v1/stop", `{"componnt":"a"}`, 400},
		{"POST", "/v1/stop", `{"component":"b"}`, 404},
		{"GET", "/v1/stop", "", 405},
		{"GET", "/v2/run", "", 404},
	}
	for _, tt := range tests {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://levin"+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := raw.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.status {
			t.Errorf("%s %s %s: %s %s", tt.method, tt.path, tt.body, resp.Status, body)
		}
		var e flow.Error
		if tt.status == 400 && (json.Unmarshal(body, &e) != nil || e.Message == "") {
			t.Errorf("%s: %s", tt.path, body)
		}
	}
}

// The folder of a run may have a name that is longer than a socket's may be.
func TestSocketWithALongName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "control.sock")
	w := newWorld(t, app(comp("a")), inprocess.NoOp, nil)
	server, err := flow.Serve(socket, w.journal, w.coord)
	if runtime.GOOS != "linux" {
		if cluster.KindOf(err) != cluster.BadInput {
			t.Error(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := flow.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Status(t.Context()); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A socket that a dead controller left behind is replaced; one that is gone is
// no controller.
func TestStaleSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if _, err := flow.Dial(socket); err == nil {
		t.Error("a dead controller answered")
	}
	w := newWorld(t, app(comp("a")), inprocess.NoOp, nil)
	server, err := flow.Serve(socket, w.journal, w.coord)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	// What is no socket is not removed.
	if err := os.WriteFile(socket, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := flow.Serve(socket, w.journal, w.coord); cluster.KindOf(err) != cluster.BadInput {
		t.Error(err)
	}
	if p, _ := os.ReadFile(socket); string(p) != "precious" {
		t.Errorf("%q", p)
	}
}

func TestStreamEndsWithItsContext(t *testing.T) {
	w := newWorld(t, app(comp("a")), inprocess.NoOp, nil)
	client, _, _ := serve(t, w)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	stream, err := client.Events(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := stream.Next(); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
