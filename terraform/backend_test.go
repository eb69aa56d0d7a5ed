package terraform_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
	"github.com/levinrun/levin/terraform/runnertest"
)

// stateServer keeps states the way Terraform's http backend wants it: behind a
// password, and written by whoever holds the lock alone.
type stateServer struct {
	*httptest.Server
	mu     sync.Mutex
	states map[string][]byte // by path
	locks  map[string]string // id by path
	locked int               // how often a lock was taken
	broken bool              // writes fail
}

const statePassword = "a-secret-password"

func newStateServer(t *testing.T) *stateServer {
	s := &stateServer{states: map[string][]byte{}, locks: map[string]string{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *stateServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if user, password, _ := r.BasicAuth(); user != "levin" || password != statePassword {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	body, _ := io.ReadAll(r.Body)
	var lock struct{ ID string }
	switch r.Method {
	case "GET":
		if s.states[r.URL.Path] == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Write(s.states[r.URL.Path])
	case "POST":
		if s.broken {
			w.WriteHeader(http.StatusInsufficientStorage)
			return
		}
		if id := r.URL.Query().Get("ID"); id == "" || id != s.locks[r.URL.Path] {
			w.WriteHeader(http.StatusConflict)
			return
		}
		s.states[r.URL.Path] = body
	case "LOCK":
		if s.locks[r.URL.Path] != "" || json.Unmarshal(body, &lock) != nil || lock.ID == "" {
			w.WriteHeader(http.StatusLocked)
			return
		}
		s.locks[r.URL.Path] = lock.ID
		s.locked++
	case "UNLOCK":
		if json.Unmarshal(body, &lock) != nil || lock.ID != s.locks[r.URL.Path] {
			w.WriteHeader(http.StatusConflict)
			return
		}
		delete(s.locks, r.URL.Path)
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

func (s *stateServer) set(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

func (s *stateServer) state(path string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.states[path])
}

func (s *stateServer) backend() *terraform.Backend {
	at := s.URL + "/${run}/${group}"
	return &terraform.Backend{Type: "http", Config: map[string]any{
		"address": at, "lock_address": at, "unlock_address": at, "retry_max": 0,
	}}
}

// credentials of the backend come by the environment alone.
func credentials() terraform.Providers {
	return terraform.Providers{Env: map[string]string{"TF_HTTP_USERNAME": "levin", "TF_HTTP_PASSWORD": statePassword}}
}

// writeWithBackend writes a root with machines of the module Shell that note their
// creation and destruction in record.
func writeWithBackend(t *testing.T, dir, record string, b *terraform.Backend, group string, names ...string) {
	t.Helper()
	machines := map[string]terraform.MachineInput{}
	for _, name := range names {
		machines[name] = runnertest.Line("echo +"+name+" >>"+record, "echo -"+name+" >>"+record)
	}
	root := terraform.Root{Run: "run", Group: group, Module: runnertest.Shell(), Machines: machines, Backend: b}
	if err := root.Write(dir); err != nil {
		t.Fatal(err)
	}
}

func lines(t *testing.T, record string) []string {
	t.Helper()
	all := strings.Fields(readFile(t, record))
	slices.Sort(all)
	return all
}

// A state that is kept by a server: applied, read, and destroyed from there, also
// by another computer; one init for all providers, and one for each root.
func TestHTTPBackend(t *testing.T) {
	server, record := newStateServer(t), filepath.Join(t.TempDir(), "record")
	b, starts := logging(t, realBinary(t))
	x := newExec(t, func(c *terraform.Config) { c.Binary = b })
	first, second := filepath.Join(t.TempDir(), "g1"), filepath.Join(t.TempDir(), "g2")
	writeWithBackend(t, first, record, server.backend(), "g1", "a", "b")
	writeWithBackend(t, second, record, server.backend(), "g2", "c")
	for _, dir := range []string{first, second, first} {
		outputs, err := x.Apply(t.Context(), dir, credentials())
		if err != nil {
			t.Fatal(err)
		}
		if machines, err := terraform.DecodeMachines(outputs); err != nil || len(machines) == 0 {
			t.Errorf("machines: %v %v", machines, err)
		}
	}
	got := starts()
	if inits, applies := count(got, "init"), count(got, "apply"); inits != 3 || applies != 3 {
		t.Errorf("%d inits and %d applies, want 3 and 3", inits, applies)
	}
	if server.locked != 3 {
		t.Errorf("the state was locked %d times, want 3", server.locked)
	}
	if !strings.Contains(server.state("/run/g1"), "terraform_data") || !strings.Contains(server.state("/run/g2"), "terraform_data") {
		t.Error("the server has not got both states")
	}
	if _, err := os.Stat(filepath.Join(first, "terraform.tfstate")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a state beside the root: %v", err)
	}
	left, err := x.Resources(t.Context(), first, credentials())
	if want := []string{`module.machines.terraform_data.machine["a"]`, `module.machines.terraform_data.machine["b"]`}; err != nil || !slices.Equal(left, want) {
		t.Errorf("resources %v %v, want %v", left, err, want)
	}
	if _, err := terraform.Resources(first); err == nil {
		t.Error("a root without a state beside it was believed to be empty")
	}
	if machines, err := terraform.ReadMachines(first); err != nil || len(machines) != 2 {
		t.Errorf("machines of the root: %v %v", machines, err)
	}
	noSecretIn(t, first)

	// Another computer knows the root only.
	elsewhere := filepath.Join(t.TempDir(), "g1")
	writeWithBackend(t, elsewhere, record, server.backend(), "g1", "a", "b")
	if err := newExec(t, nil).Destroy(t.Context(), elsewhere, credentials()); err != nil {
		t.Error(err)
	}
	if err := x.Destroy(t.Context(), second, credentials()); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{first, second} { // again is no error
		if err := x.Destroy(t.Context(), dir, credentials()); err != nil {
			t.Error(err)
		}
		if left, err := x.Resources(t.Context(), dir, credentials()); err != nil || len(left) > 0 {
			t.Errorf("left: %v %v", left, err)
		}
	}
	if got, want := lines(t, record), []string{"+a", "+b", "+c", "-a", "-b", "-c"}; !slices.Equal(got, want) {
		t.Errorf("created and destroyed: %v, want %v", got, want)
	}
}

func noSecretIn(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(readFile(t, path), statePassword) {
			t.Errorf("the password is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A root that was written and never applied holds nothing; one whose server does
// not answer is not believed to.
func TestBackendWithoutState(t *testing.T) {
	server, record := newStateServer(t), filepath.Join(t.TempDir(), "record")
	x := newExec(t, nil)
	dir := filepath.Join(t.TempDir(), "g1")
	writeWithBackend(t, dir, record, server.backend(), "g1", "a")
	if err := x.Destroy(t.Context(), dir, credentials()); err != nil {
		t.Errorf("never applied: %v", err)
	}
	err := x.Destroy(t.Context(), dir, terraform.Providers{})
	var failed *terraform.ApplyError
	if !errors.As(err, &failed) || cluster.KindOf(err) != cluster.Provisioning {
		t.Errorf("without the password: %v", err)
	}
	server.Close()
	if err := x.Destroy(t.Context(), dir, credentials()); cluster.KindOf(err) != cluster.Provisioning {
		t.Errorf("without a server: %v", err)
	}
}

// A destroy whose context has ended has not destroyed anything, and says so.
func TestBackendCancelled(t *testing.T) {
	server, record := newStateServer(t), filepath.Join(t.TempDir(), "record")
	x := newExec(t, nil)
	dir := filepath.Join(t.TempDir(), "g1")
	writeWithBackend(t, dir, record, server.backend(), "g1", "a")
	if _, err := x.Apply(t.Context(), dir, credentials()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.Destroy(ctx, dir, credentials()); !errors.Is(err, context.Canceled) || cluster.KindOf(err) != cluster.Interrupted {
		t.Errorf("error: %v", err)
	}
	if err := x.Destroy(t.Context(), dir, credentials()); err != nil {
		t.Error(err)
	}
	if got, want := lines(t, record), []string{"+a", "-a"}; !slices.Equal(got, want) {
		t.Errorf("created and destroyed: %v, want %v", got, want)
	}
}

// What Terraform could not write to the server is kept beside the root, and
// neither lost nor created a second time.
func TestErroredState(t *testing.T) {
	for _, c := range []struct {
		name  string
		again bool // apply once more before destroy
		want  []string
	}{
		{"destroyed", false, []string{"+a", "-a"}},
		{"applied again", true, []string{"+a", "-a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, record := newStateServer(t), filepath.Join(t.TempDir(), "record")
			x := newExec(t, nil)
			dir := filepath.Join(t.TempDir(), "g1")
			writeWithBackend(t, dir, record, server.backend(), "g1", "a")
			server.set(true)
			if _, err := x.Apply(t.Context(), dir, credentials()); cluster.KindOf(err) != cluster.Provisioning {
				t.Fatalf("apply without a place for the state: %v", err)
			}
			if left, err := x.Resources(t.Context(), dir, credentials()); err != nil || len(left) != 1 {
				t.Errorf("resources: %v %v", left, err)
			}
			// As long as the state cannot be put back nothing is created.
			if _, err := x.Apply(t.Context(), dir, credentials()); err == nil || !strings.Contains(err.Error(), "state push") {
				t.Errorf("apply over a state that could not be put back: %v", err)
			}
			server.set(false)
			if c.again {
				if _, err := x.Apply(t.Context(), dir, credentials()); err != nil {
					t.Error(err)
				}
			}
			if err := x.Destroy(t.Context(), dir, credentials()); err != nil {
				t.Error(err)
			}
			if got := lines(t, record); !slices.Equal(got, c.want) {
				t.Errorf("created and destroyed: %v, want %v", got, c.want)
			}
		})
	}
}

// A local backend at another path is a backend like any other.
func TestLocalBackend(t *testing.T) {
	states, record := t.TempDir(), filepath.Join(t.TempDir(), "record")
	x := newExec(t, nil)
	dir := filepath.Join(t.TempDir(), "g1")
	writeWithBackend(t, dir, record, &terraform.Backend{Type: "local", Config: map[string]any{"path": states + "/${run}-${group}.tfstate"}}, "g1", "a")
	if _, err := x.Apply(t.Context(), dir, terraform.Providers{}); err != nil {
		t.Fatal(err)
	}
	if state := readFile(t, filepath.Join(states, "run-g1.tfstate")); !strings.Contains(state, "terraform_data") {
		t.Errorf("state: %s", state)
	}
	if err := x.Destroy(t.Context(), dir, terraform.Providers{}); err != nil {
		t.Error(err)
	}
	if got, want := lines(t, record), []string{"+a", "-a"}; !slices.Equal(got, want) {
		t.Errorf("created and destroyed: %v, want %v", got, want)
	}
}

func TestBackendRefuses(t *testing.T) {
	for name, b := range map[string]terraform.Backend{
		"one state for all groups":    {Type: "http", Config: map[string]any{"address": "https://state.example/${run}"}},
		"no settings":                 {Type: "s3"},
		"no type":                     {Config: map[string]any{"key": "${group}"}},
		"a credential":                {Type: "s3", Config: map[string]any{"key": "${group}", "secret_key": "x"}},
		"a password in a URL":         {Type: "http", Config: map[string]any{"address": "https://me:secret@state.example/${group}"}},
		"a password for a database":   {Type: "pg", Config: map[string]any{"schema_name": "${group}", "conn_str": "host=db password=secret"}},
		"a setting that is no name":   {Type: "s3", Config: map[string]any{"key": "${group}", "a b": 1}},
		"a value that is not written": {Type: "s3", Config: map[string]any{"key": "${group}", "x": func() {}}},
	} {
		root := sampleRoot()
		root.Backend = &b
		if _, err := root.Files(); err == nil || strings.Contains(err.Error(), "secret@") {
			t.Errorf("%s: %v", name, err)
		}
	}
	root := sampleRoot()
	root.Backend = &terraform.Backend{Type: "s3", Config: map[string]any{"key": "x", "tags": []any{map[string]any{"a": "${group}"}}}}
	files, err := root.Files()
	if err != nil || !strings.Contains(string(files["main.tf"]), `a = "demo-abc123-g1"`) {
		t.Errorf("a mark deep within: %v\n%s", err, files["main.tf"])
	}
}
