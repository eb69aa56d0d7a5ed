package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
)

// fakeMetadata is a metadata service that says what it is told to, below /m.
type fakeMetadata struct {
	*httptest.Server

	mu      sync.Mutex
	action  string // AWS: the instance action; "" is none
	tokens  int    // AWS: given out; only the last one is good
	value   string // GCP: instance/preempted
	etag    int    // GCP: of value
	changed chan struct{}
	wrong   []string // questions that no such service answers
	status  int      // answered to everything, when it is not 0
}

func newFakeMetadata(t testing.TB) *fakeMetadata {
	f := &fakeMetadata{value: "FALSE", changed: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /m/latest/api/token", f.token)
	mux.HandleFunc("GET /m/latest/meta-data/spot/instance-action", f.instanceAction)
	mux.HandleFunc("GET /m/computeMetadata/v1/instance/preempted", f.preempted)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		status := f.status
		f.mu.Unlock()
		if status != 0 {
			w.WriteHeader(status)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
		for _, wrong := range f.wrong {
			t.Error(wrong)
		}
	})
	return f
}

func (f *fakeMetadata) env() []string {
	return []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + f.URL + "/m/", "GCE_METADATA_HOST=" + strings.TrimPrefix(f.URL, "http://") + "/m",
		"http_proxy=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1"}
}

// take has the machine be taken back after so long, on either cloud.
func (f *fakeMetadata) take(left time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.action = fmt.Sprintf(`{"action": "terminate", "time": %q}`, time.Now().Add(left).UTC().Format(time.RFC3339Nano))
	f.change("TRUE")
}

// change sets GCP's value; the caller holds mu.
func (f *fakeMetadata) change(value string) {
	f.value = value
	f.etag++
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeMetadata) fail(status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = status
}

func (f *fakeMetadata) token(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") == "" {
		f.wrong = append(f.wrong, "a token without a life")
	}
	f.tokens++
	fmt.Fprintf(w, "token-%d", f.tokens)
}

func (f *fakeMetadata) instanceAction(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case r.Header.Get("X-aws-ec2-metadata-token") != fmt.Sprintf("token-%d", f.tokens):
		w.WriteHeader(http.StatusUnauthorized)
	case f.action == "":
		http.NotFound(w, r)
	default:
		fmt.Fprintln(w, f.action)
	}
}

func (f *fakeMetadata) preempted(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Header.Get("Metadata-Flavor") != "Google" {
		f.wrong = append(f.wrong, "a question without Metadata-Flavor")
	}
	if r.FormValue("wait_for_change") == "true" && r.FormValue("last_etag") == fmt.Sprintf("e+%d", f.etag) {
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
		}
		f.mu.Lock()
	}
	w.Header().Set("ETag", fmt.Sprintf("e+%d", f.etag))
	fmt.Fprint(w, f.value)
}

func TestWatcher(t *testing.T) {
	for _, tt := range []struct {
		name, cloud string
		before      func(*fakeMetadata) // the first look
		between     func(*fakeMetadata) // the first look and the last
		errors      int                 // that are told
	}{
		{name: "aws, there already", cloud: noticeAWS, before: func(f *fakeMetadata) { f.take(time.Minute) }},
		{name: "aws, later", cloud: noticeAWS, between: func(f *fakeMetadata) { f.take(time.Minute) }},
		{name: "aws, with a token that has run out", cloud: noticeAWS, between: func(f *fakeMetadata) {
			f.take(time.Minute)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.tokens++
		}},
		{name: "aws, out of order at first", cloud: noticeAWS, errors: 1, before: func(f *fakeMetadata) { f.fail(500) }, between: func(f *fakeMetadata) {
			f.fail(0)
			f.take(time.Minute)
		}},
		{name: "gcp, there already", cloud: noticeGCP, before: func(f *fakeMetadata) { f.take(0) }},
		{name: "gcp, later", cloud: noticeGCP, between: func(f *fakeMetadata) { f.take(0) }},
		{name: "gcp, after another change", cloud: noticeGCP, between: func(f *fakeMetadata) {
			f.mu.Lock()
			f.change("FALSE")
			f.mu.Unlock()
			f.take(0)
		}},
		{name: "gcp, out of order at first", cloud: noticeGCP, errors: 1, before: func(f *fakeMetadata) { f.fail(503) }, between: func(f *fakeMetadata) {
			f.fail(0)
			f.take(0)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeMetadata(t)
			for _, entry := range f.env() {
				name, value, _ := strings.Cut(entry, "=")
				t.Setenv(name, value)
			}
			if tt.before != nil {
				tt.before(f)
			}
			failures := 0
			w, err := newWatcher(tt.cloud, func(error) { failures++ })
			if err != nil {
				t.Fatal(err)
			}
			w.pause = time.Millisecond
			looked, next := false, w.next
			w.next = func(ctx context.Context) (*Notice, error) {
				n, err := next(ctx)
				if !looked && tt.between != nil {
					if n != nil {
						t.Errorf("there is a notice already: %+v", n)
					}
					tt.between(f)
				}
				looked = true
				return n, err
			}
			n, err := w.wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			window := map[string]time.Duration{noticeAWS: time.Minute, noticeGCP: gcpWindow}[tt.cloud]
			if left := time.Until(n.At); left > window || left < window-20*time.Second || n.Words == "" {
				t.Errorf("%+v, %s left", n, left)
			}
			if failures != tt.errors {
				t.Errorf("%d errors were told, want %d", failures, tt.errors)
			}
		})
	}
}

func TestWatcherEnds(t *testing.T) {
	for _, cloud := range []string{noticeAWS, noticeGCP} {
		f := newFakeMetadata(t)
		for _, entry := range f.env() {
			name, value, _ := strings.Cut(entry, "=")
			t.Setenv(name, value)
		}
		w, err := newWatcher(cloud, func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		w.pause = time.Millisecond
		ctx, cancel := context.WithCancel(t.Context())
		looks, next := 0, w.next
		w.next = func(ctx context.Context) (*Notice, error) {
			if looks++; looks == 2 {
				cancel()
			}
			return next(ctx)
		}
		if n, err := w.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %+v, %v", cloud, n, err)
		}
	}
}

func TestMetadataAddress(t *testing.T) {
	for base, want := range map[string]metadata{
		"http://169.254.169.254":    {host: "169.254.169.254:80"},
		"http://[fd00:ec2::254]":    {host: "[fd00:ec2::254]:80"},
		"http://127.0.0.1:8080/a/b": {host: "127.0.0.1:8080", path: "/a/b"},
		"http://metadata:81/":       {host: "metadata:81"},
		"https://169.254.169.254":   {},
		"169.254.169.254":           {},
		"":                          {},
	} {
		got, err := newMetadata(base)
		if got != want || (err != nil) != (want == metadata{}) {
			t.Errorf("%q: %+v, %v", base, got, err)
		}
	}
}

func FuzzInstanceAction(f *testing.F) {
	f.Add(`{"action": "terminate", "time": "2017-09-18T08:22:00Z"}`)
	f.Add(`{"action": "stop"}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, body string) {
		n, err := parseInstanceAction(body)
		if (n == nil) == (err == nil) {
			t.Errorf("%q: %+v, %v", body, n, err)
		}
		if n != nil && n.At.IsZero() {
			t.Errorf("%q: at no time", body)
		}
	})
}

// noticeMachine is a machine whose cloud may take it back.
func noticeMachine(t *testing.T, cloud string) (*machine, *fakeMetadata) {
	f := newFakeMetadata(t)
	m := newStopped(t, "--lease", "5m", "--notice", cloud)
	m.env = append(f.env(), "LEVIN_MACHINE_DIR="+t.TempDir())
	m.start()
	return m, f
}

// takenBack is an attempt on a machine that is taken back.
type takenBack struct {
	name  string
	req   StartRequest
	want  Exit // without times and artifacts
	saved []string
	made  []string
}

func TestTakenBack(t *testing.T) {
	trap := func(line string) string { return "trap '" + line + "' TERM; echo up; while :; do sleep 0.02; done" }
	for _, tt := range []struct {
		cloud string
		left  time.Duration
		calls []takenBack
	}{
		{noticeAWS, time.Minute, []takenBack{
			{name: "it saves what it has",
				req:   StartRequest{Shell: trap(`mkdir ckpt; echo 7 > ckpt/step; exit 0`), Outputs: []string{"model"}, Checkpoint: []string{"ckpt", "*.state"}},
				saved: []string{"ckpt/step"}, want: Exit{Phase: PhaseRun, Preempted: true}},
			{name: "it just ends",
				req:   StartRequest{Shell: "echo half > ckpt; echo up; exec sleep 600", Outputs: []string{"model"}, Checkpoint: []string{"ckpt"}},
				saved: []string{"ckpt"}, want: Exit{Phase: PhaseRun, Preempted: true, Code: 143}},
			{name: "it gets done",
				req:  StartRequest{Shell: trap(`echo m > model; echo 1 > $LEVIN_RESULT; exit 0`), Outputs: []string{"model"}, Checkpoint: []string{"ckpt"}},
				made: []string{"model"}, want: Exit{Phase: PhaseRun, Result: []byte("1")}},
			{name: "its result is all there is",
				req:  StartRequest{Shell: trap(`echo 1 > $LEVIN_RESULT; exit 0`)},
				want: Exit{Phase: PhaseRun, Result: []byte("1")}},
			{name: "nothing says that it is done",
				req:  StartRequest{Shell: trap(`exit 0`)},
				want: Exit{Phase: PhaseRun, Preempted: true}},
			{name: "it fails with its outputs there",
				req:  StartRequest{Shell: trap(`echo m > model; exit 5`), Outputs: []string{"model"}},
				want: Exit{Phase: PhaseRun, Preempted: true, Code: 5}},
			{name: "in setup",
				req:  StartRequest{Setup: "echo s > ckpt; echo up; exec sleep 600", Shell: "echo never", Checkpoint: []string{"ckpt"}},
				want: Exit{Phase: PhaseSetup, Preempted: true, Code: 143}},
		}},
		{noticeAWS, 4 * time.Second, []takenBack{
			{name: "it does not end",
				req:   StartRequest{Shell: "trap '' TERM; echo half > ckpt; echo up; while :; do sleep 1; done", Checkpoint: []string{"ckpt"}, Grace: time.Hour},
				saved: []string{"ckpt"}, want: Exit{Phase: PhaseRun, Preempted: true, Code: 137}},
		}},
		{noticeAWS, -time.Second, []takenBack{
			{name: "it is too late",
				req:  StartRequest{Shell: "trap '' TERM; echo up; while :; do sleep 1; done", Checkpoint: []string{"ckpt"}},
				want: Exit{Phase: PhaseRun, Preempted: true, Code: 137}},
		}},
		{noticeGCP, gcpWindow, []takenBack{
			{name: "it saves what it has",
				req:   StartRequest{Shell: trap(`echo 7 > x.state; exit 3`), Outputs: []string{"model"}, Checkpoint: []string{"ckpt", "*.state"}},
				saved: []string{"x.state"}, want: Exit{Phase: PhaseRun, Preempted: true, Code: 3}},
		}},
	} {
		t.Run(fmt.Sprint(tt.cloud, " in ", tt.left), func(t *testing.T) {
			t.Parallel()
			m, f := noticeMachine(t, tt.cloud)
			for i := range tt.calls {
				req := &tt.calls[i].req
				req.ID, req.Folder = fmt.Sprintf("c%d-a1", i), fmt.Sprintf("w%d", i)
				m.sync(req.Folder, tree{})
				m.startCall(*req)
				awaitLog(t, m, req.ID, "up")
			}
			f.take(tt.left)
			var n Notice
			m.get("/v1/notice", &n)
			if n.Words == "" || n.Left > tt.left || n.Left < tt.left-20*time.Second {
				t.Errorf("notice %+v", n)
			}
			for _, c := range tt.calls {
				t.Run(c.name, func(t *testing.T) { c.check(t, m) })
			}
			// No new work, but the old one is known.
			var e *Error
			if err := m.call("POST", "/v1/calls", StartRequest{ID: "new", Folder: "w0", Shell: "true"}, nil); !errors.As(err, &e) || e.Kind != KindPreempted {
				t.Errorf("new work: %v", err)
			}
			if _, err := m.trySync("w0", nil, nil); !errors.As(err, &e) || e.Kind != KindPreempted {
				t.Errorf("a sync: %v", err)
			}
			m.startCall(tt.calls[0].req)
		})
	}
}

func (c takenBack) check(t *testing.T, m *machine) {
	exit := m.wait(c.req.ID)
	paths := func(artifacts []cluster.Artifact) (all []string) {
		for _, a := range artifacts {
			all = append(all, a.Path)
			want, err := os.ReadFile(filepath.Join(m.layout().work(c.req.Folder), a.Path))
			if got := m.raw("/v1/calls/" + c.req.ID + "/outputs/" + a.Path); err != nil || got != string(want) || got == "" {
				t.Errorf("%s is %q, want %q: %v", a.Path, got, want, err)
			}
		}
		return all
	}
	if diff := cmp.Diff(c.saved, paths(exit.Checkpoint)); diff != "" {
		t.Errorf("saved: %s", diff)
	}
	if diff := cmp.Diff(c.made, paths(exit.Artifacts)); diff != "" {
		t.Errorf("made: %s", diff)
	}
	exit.At, exit.Checkpoint, exit.Artifacts = time.Time{}, nil, nil
	if diff := cmp.Diff(c.want, exit); diff != "" {
		t.Error(diff)
	}
}

// An agent that is killed in the middle of it is followed by one that finds the
// notice again.
func TestTakenBackWhileNobodyServes(t *testing.T) {
	m, f := noticeMachine(t, noticeAWS)
	m.sync("w", tree{})
	m.startCall(StartRequest{ID: "a", Folder: "w", Shell: "echo up; exec sleep 600"})
	awaitLog(t, m, "a", "up")
	m.killServe()
	f.take(time.Minute)
	m.start()
	if exit := m.wait("a"); !exit.Preempted {
		t.Errorf("exit %+v", exit)
	}
}

// What an attempt on the same machine has saved is not taken for another one's.
func TestCheckpointIsClearedBefore(t *testing.T) {
	m, _ := noticeMachine(t, noticeAWS)
	m.sync("w", tree{"ckpt/shipped": "1"})
	m.run(StartRequest{ID: "a", Folder: "w", Shell: "echo 2 > ckpt/made"})
	m.run(StartRequest{ID: "b", Folder: "w", Shell: "true", Checkpoint: []string{"ckpt"}})
	if diff := cmp.Diff(tree{"ckpt/": "", "ckpt/shipped": "1"}, readTree(t, m.work())); diff != "" {
		t.Error(diff)
	}
}

func TestNoNotice(t *testing.T) {
	m := newMachine(t)
	var e *Error
	if err := m.call("GET", "/v1/notice", nil, nil); !errors.As(err, &e) || e.Kind != KindNotFound {
		t.Error(err)
	}
	if code := Main([]string{"start", "--machine", "m", "--lease", "1m", "--notice", "azure"}, nil, os.Stdout, os.Stderr); code != 2 {
		t.Errorf("exit code %d", code)
	}
}
