package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The test binary is the agent, too: what it starts as serve and supervise is
// itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	// Under the race detector a process would wait a second before it ends.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// machine is a test's machine: a folder for agents, and the agent in it.
type machine struct {
	t     testing.TB
	bin   string // of the agent
	home  string
	flags []string
	env   []string
	*client
}

// newMachine starts an agent in real processes. Everything is ended with the
// test, the hard way.
func newMachine(t testing.TB, flags ...string) *machine {
	t.Helper()
	m := newStopped(t, flags...)
	m.start()
	return m
}

func newStopped(t testing.TB, flags ...string) *machine {
	t.Helper()
	home, err := os.MkdirTemp("", "la") // short: socket paths are
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, bin: os.Args[0], home: home, flags: flags}
	m.client = newClient(t, m.layout().path(socketName))
	t.Cleanup(func() {
		m.killMarked()
		if err := removeAll(home); err != nil {
			t.Error(err)
		}
	})
	return m
}

func (m *machine) layout() layout {
	l, err := newLayout(m.home, "m")
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}

// killMarked ends every process that works for this machine.
func (m *machine) killMarked() {
	m.client.http.CloseIdleConnections()
	for _, pid := range m.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// processes gives the pids of all that have to do with the machine: by their
// arguments, their environment or the folder they are in.
func (m *machine) processes() []int {
	if runtime.GOOS != "linux" {
		out, _ := exec.Command("pgrep", "-f", m.home).Output()
		var pids []int
		for _, line := range strings.Fields(string(out)) {
			if pid, err := strconv.Atoi(line); err == nil {
				pids = append(pids, pid)
			}
		}
		return pids
	}
	var pids []int
	for _, pid := range allPIDs(m.t) {
		if pid == os.Getpid() || !alive(pid) {
			continue
		}
		proc := fmt.Sprintf("/proc/%d/", pid)
		args, _ := os.ReadFile(proc + "cmdline")
		environ, _ := os.ReadFile(proc + "environ")
		cwd, _ := os.Readlink(proc + "cwd")
		if bytes.Contains(args, []byte(m.home)) || bytes.Contains(environ, []byte(m.home)) || strings.HasPrefix(cwd, m.home) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func allPIDs(t testing.TB) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (m *machine) command(verb string, flags ...string) *exec.Cmd {
	cmd := exec.Command(m.bin, append([]string{verb, "--home", m.home, "--machine", "m"}, flags...)...)
	cmd.Env = append(os.Environ(), m.env...)
	return cmd
}

func (m *machine) start() Info {
	m.t.Helper()
	info, err := m.tryStart()
	if err != nil {
		m.t.Fatal(err)
	}
	return info
}

func (m *machine) tryStart() (info Info, err error) {
	flags := m.flags
	if len(flags) == 0 {
		flags = []string{"--lease", "5m"}
	}
	cmd := m.command("start", flags...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return info, fmt.Errorf("start: %w\n%s", err, stderr.String())
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return info, fmt.Errorf("start printed %q: %w", out, err)
	}
	return info, nil
}

// killServe kills the agent and waits until it is gone.
func (m *machine) killServe() {
	m.t.Helper()
	var info Info
	m.get("/v1/info", &info)
	m.client.http.CloseIdleConnections()
	kill(m.t, info.PID)
}

// kill kills a process that need not be a child and waits until it is gone.
func kill(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitGone(t, pid)
}

// eventually fails the test when cond does not come true.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Errorf("never: %s", what)
			runtime.Goexit()
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !bytes.Contains(state, []byte(") Z "))
}

func waitGone(t testing.TB, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d gone", pid), func() bool { return !alive(pid) })
}

// client speaks to an agent's socket.
type client struct {
	t    testing.TB
	http *http.Client
}

func newClient(t testing.TB, socket string) *client {
	return &client{t: t, http: &http.Client{Transport: &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

func (c *client) do(method, path string, body io.Reader, header ...string) (*http.Response, error) {
	req, err := http.NewRequest(method, "http://agent"+path, body)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil || resp.StatusCode/100 == 2 {
		return resp, err
	}
	defer resp.Body.Close()
	e := &Error{Status: resp.StatusCode}
	if err := json.NewDecoder(resp.Body).Decode(e); err != nil {
		return nil, fmt.Errorf("%s: %w", resp.Status, err)
	}
	return nil, e
}

// call sends a JSON body, if there is one, and decodes the answer, if wanted.
func (c *client) call(method, path string, body, answer any) error {
	var r io.Reader
	if raw, ok := body.(io.Reader); ok {
		r = raw
	} else if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(data)
	}
	resp, err := c.do(method, path, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if answer == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

func (c *client) get(path string, answer any) {
	c.t.Helper()
	if err := c.call("GET", path, nil, answer); err != nil {
		c.t.Fatalf("GET %s: %v", path, err)
	}
}

func (c *client) post(path string, body, answer any) {
	c.t.Helper()
	if err := c.call("POST", path, body, answer); err != nil {
		c.t.Fatalf("POST %s: %v", path, err)
	}
}

func (c *client) raw(path string) string {
	c.t.Helper()
	resp, err := c.do("GET", path, nil)
	if err != nil {
		c.t.Fatalf("GET %s: %v", path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("GET %s: %v", path, err)
	}
	return string(data)
}

// run starts an attempt and waits for its exit.
func (c *client) run(r StartRequest) Exit {
	c.t.Helper()
	c.startCall(r)
	return c.wait(r.ID)
}

func (c *client) startCall(r StartRequest) {
	c.t.Helper()
	c.post("/v1/calls", r, nil)
}

func (c *client) wait(id string) Exit {
	c.t.Helper()
	var status Status
	c.get("/v1/calls/"+id+"/wait", &status)
	if status.Exit == nil || status.Phase != PhaseExited {
		c.t.Fatalf("wait answered %+v", status)
	}
	return *status.Exit
}

func (c *client) log(id string) string {
	c.t.Helper()
	return c.raw("/v1/calls/" + id + "/log")
}

// tree is a folder's content for tests: path → content; "path/" is a folder,
// and a value of "→ target" a link.
type tree map[string]string

func (tr tree) entries() []Entry {
	var entries []Entry
	for p, content := range tr {
		e := Entry{Path: strings.TrimSuffix(p, "/"), Mode: 0o644}
		switch target, link := strings.CutPrefix(content, "→ "); {
		case strings.HasSuffix(p, "/"):
			e.Dir, e.Mode = true, 0o755
		case link:
			e.Link, e.Mode = target, 0o777
		default:
			e.Size, e.Digest = int64(len(content)), digestText(content)
		}
		entries = append(entries, e)
	}
	return entries
}

// sync ships a tree and gives the number of files that had to be sent.
func (c *client) sync(folder string, tr tree) int {
	c.t.Helper()
	sent, err := c.trySync(folder, tr.entries(), tr)
	if err != nil {
		c.t.Fatalf("sync: %v", err)
	}
	return sent
}

func (c *client) trySync(folder string, entries []Entry, tr tree) (int, error) {
	var known SameAnswer
	_ = c.call("POST", "/v1/sync/"+folder+"/same", SameRequest{Digest: ManifestDigest(entries)}, &known)
	var need SyncNeed
	if err := c.call("POST", "/v1/sync", SyncRequest{Folder: folder, Entries: entries}, &need); err != nil {
		return 0, err
	}
	if known.Same && len(need.Need) > 0 {
		return 0, fmt.Errorf("the same, and yet %d files are needed", len(need.Need))
	}
	if len(need.Need) > 0 {
		var body bytes.Buffer
		w, err := NewFrameWriter(&body)
		if err != nil {
			return 0, err
		}
		for _, n := range need.Need {
			e := entries[n.Index]
			if err := w.WriteFile(FileFrame{Digest: e.Digest, Size: e.Size, Offset: n.Offset}, strings.NewReader(tr[e.Path][n.Offset:])); err != nil {
				return 0, err
			}
		}
		if err := w.Close(); err != nil {
			return 0, err
		}
		if err := c.call("POST", "/v1/sync/"+folder+"/files", &body, nil); err != nil {
			return 0, err
		}
	}
	var done SyncDone
	if err := c.call("POST", "/v1/sync/"+folder+"/commit", nil, &done); err != nil {
		return 0, err
	}
	if want := ManifestDigest(entries); done.Digest != want {
		return 0, fmt.Errorf("digest of the folder %s, want %s", done.Digest, want)
	}
	return len(need.Need), nil
}

// readTree gives what lies in a folder.
func readTree(t testing.TB, dir string) tree {
	t.Helper()
	tr := tree{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		switch {
		case d.IsDir():
			tr[rel+"/"] = ""
		case d.Type()&os.ModeSymlink != 0:
			target, _ := os.Readlink(p)
			tr[rel] = "→ " + target
		default:
			data, _ := os.ReadFile(p)
			tr[rel] = string(data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}
