package agent

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestStartIsIdempotent(t *testing.T) {
	m := newStopped(t)
	infos := make(chan Info, 5)
	var starts sync.WaitGroup
	for range cap(infos) {
		starts.Go(func() {
			info, err := m.tryStart()
			if err != nil {
				t.Error(err)
			}
			infos <- info
		})
	}
	starts.Wait()
	close(infos)
	first := <-infos
	for info := range infos {
		if info.PID != first.PID {
			t.Errorf("two agents: %d and %d", first.PID, info.PID)
		}
	}
	if first.Protocol != ProtocolVersion || first.OS != runtime.GOOS || first.Arch != runtime.GOARCH || first.Now.IsZero() || first.Started.IsZero() {
		t.Errorf("info %+v", first)
	}
	out, err := exec.Command(os.Args[0], "digest").Output()
	if err != nil || strings.TrimSpace(string(out)) != first.Digest {
		t.Errorf("digest %q, info says %s: %v", out, first.Digest, err)
	}
	m.killServe() // the socket stays
	if again := m.start(); again.PID == first.PID {
		t.Error("the dead agent answered")
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"unknown"}, {"start"}, {"start", "--machine", "m"}, {"start", "--machine", "../m", "--lease", "1m"},
		{"start", "--machine", "m", "--lease", "-1m"}, {"connect"}, {"connect", "--machine", "m", "extra"}, {"connect", "--machine", "m", "--lease", "1m"}} {
		var stderr bytes.Buffer
		if code := Main(args, nil, io.Discard, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%v: exit code %d, %q", args, code, stderr.String())
		}
	}
	var stdout bytes.Buffer
	if code := Main([]string{"version"}, nil, &stdout, io.Discard); code != 0 || stdout.Len() < 2 {
		t.Errorf("version: %d, %q", code, stdout.String())
	}
}

func TestConnect(t *testing.T) {
	m := newStopped(t)
	cmd := m.command("connect")
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != ExitNoAgent {
		t.Errorf("without a folder: %v", err)
	}
	m.start()
	big := strings.Repeat("0123456789abcdef", 1<<16)
	m.sync("w", tree{"big": big})
	m.run(StartRequest{ID: "a", Folder: "w", Shell: "cp big out", Outputs: []string{"out"}})
	cmd = m.command("connect")
	cmd.Stdin = strings.NewReader("GET /v1/info HTTP/1.1\r\nHost: a\r\n\r\nGET /v1/calls/a/outputs/out HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	out, err := cmd.Output()
	if err != nil || bytes.Count(out, []byte("HTTP/1.1 200 OK")) != 2 || !bytes.HasSuffix(out, []byte(big)) {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	m.killServe()
	// While the kernel takes the killed process apart its socket still answers.
	eventually(t, "the stale socket is seen to be one", func() bool {
		cmd := m.command("connect")
		_ = cmd.Run() // its exit status is looked at
		return cmd.ProcessState.ExitCode() == ExitNoAgent
	})
}

func TestWorkSurvivesTheAgent(t *testing.T) {
	for name, meanwhile := range map[string]bool{"exits later": false, "exits meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.sync("w", tree{})
			r := StartRequest{ID: "a", Folder: "w", Outputs: []string{"out"},
				Shell: "echo before; while [ ! -e go ]; do sleep 0.01; done; echo after; echo 1 > out; echo 2 > $LEVIN_RESULT; exit 7"}
			m.startCall(r)
			awaitLog(t, m, "a", "before")
			m.killServe()
			finish := func() {
				if err := os.WriteFile(filepath.Join(m.work(), "go"), nil, 0o600); err != nil {
					t.Error(err)
				}
			}
			if meanwhile {
				finish()
				eventually(t, "the work is over", func() bool { _, err := os.Lstat(m.layout().call("a").exit()); return err == nil })
			}
			info := m.start()
			if len(info.Calls) != 1 || info.Calls[0] != "a" {
				t.Errorf("info %+v", info)
			}
			m.startCall(r) // is not started again
			if !meanwhile {
				var e *Error
				if err := m.call("POST", "/v1/calls", StartRequest{ID: "b", Folder: "w", Shell: "true"}, nil); !errors.As(err, &e) || e.Kind != KindConflict {
					t.Errorf("the folder is not busy: %v", err)
				}
				follow := make(chan string, 1)
				go func() { // follows what was adopted
					resp, err := m.do("GET", "/v1/calls/a/log", nil)
					if err != nil {
						follow <- err.Error()
						return
					}
					defer resp.Body.Close()
					data, _ := io.ReadAll(resp.Body)
					follow <- string(data)
				}()
				finish()
				if got := <-follow; got != "before\nafter\n" {
					t.Errorf("followed %q", got)
				}
			}
			exit := m.wait("a")
			if exit.Code != 7 || exit.Error != "" || string(exit.Result) != "2" || len(exit.Artifacts) != 1 {
				t.Errorf("exit %+v", exit)
			}
			if got := m.log("a"); got != "before\nafter\n" {
				t.Errorf("log %q", got)
			}
			if got := m.raw("/v1/calls/a/outputs/out"); got != "1\n" {
				t.Errorf("output %q", got)
			}
			if meanwhile {
				m.killServe()
				m.start() // a call that was over before is still known
				if exit := m.wait("a"); exit.Code != 7 {
					t.Errorf("exit %+v", exit)
				}
			}
		})
	}
}

func TestAdoptedWorkCanBeStopped(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{})
	m.startCall(StartRequest{ID: "a", Folder: "w", Shell: "echo ready; exec sleep 600"})
	awaitLog(t, m, "a", "ready")
	m.killServe()
	m.start()
	m.post("/v1/calls/a/stop", nil, nil)
	if exit := m.wait("a"); exit.Code != 143 || !exit.Stopped {
		t.Errorf("exit %+v", exit)
	}
}

func TestSupervisorKilledWhileNobodyServes(t *testing.T) {
	if !treeIsComplete {
		t.Skip("this system cannot find processes by their environment")
	}
	m := newMachine(t)
	m.sync("w", tree{})
	m.startCall(StartRequest{ID: "a", Folder: "w", Shell: "echo $PPID; exec sleep 600"})
	awaitLog(t, m, "a", "\n")
	m.killServe()
	supervisor, err := strconv.Atoi(firstLine(m.layout().call("a").log()))
	if err != nil {
		t.Fatal(err)
	}
	kill(t, supervisor)
	m.start()
	if exit := m.wait("a"); exit.Code != 137 || exit.Error == "" {
		t.Errorf("exit %+v", exit)
	}
	if left := m.processes(); len(left) != 1 {
		t.Errorf("processes %v, want only the agent", left)
	}
}

// An agent that was killed in the middle of starting an attempt has answered
// nobody: the attempt can be started.
func TestAttemptThatNeverBegan(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{})
	m.killServe()
	dir := m.layout().call("a")
	if err := errors.Join(os.MkdirAll(string(dir), 0o700), os.WriteFile(dir.file("call.json"), []byte(`{"fol`), 0o600)); err != nil {
		t.Fatal(err)
	}
	if info := m.start(); len(info.Calls) != 0 {
		t.Errorf("info %+v", info)
	}
	if exit := m.run(StartRequest{ID: "a", Folder: "w", Shell: "true"}); exit.Code != 0 {
		t.Errorf("exit %+v", exit)
	}
}

// However early or late an agent is killed, the next one goes on from there, and
// an attempt that is asked for again runs once.
func TestKilledAtAnyMoment(t *testing.T) {
	m := newMachine(t)
	pid := m.start().PID
	for i := range 12 {
		tr := tree{"same": "1", "new": strings.Repeat(fmt.Sprint(i), copyBuffer)}
		r := StartRequest{ID: fmt.Sprintf("a%d", i), Folder: "w", Env: []string{"T=" + m.home}, Shell: fmt.Sprintf(`echo ran >> "$T/ran%d"`, i)}
		var worker sync.WaitGroup
		worker.Go(func() { // until the agent is killed under it
			if _, err := m.trySync("w", tr.entries(), tr); err == nil {
				_ = m.call("POST", "/v1/calls", r, nil)
			}
		})
		time.Sleep(time.Duration(i) * 2 * time.Millisecond) // the moment
		kill(t, pid)
		worker.Wait()
		m.client.http.CloseIdleConnections()
		pid = m.start().PID
		if _, err := m.trySync("w", tr.entries(), tr); err != nil {
			wantKind(t, "sync", err, KindConflict) // the work runs already
		}
		if exit := m.run(r); exit.Code != 0 || exit.Error != "" {
			t.Errorf("killed at moment %d: %+v", i, exit)
		}
		if got, _ := os.ReadFile(filepath.Join(m.home, fmt.Sprintf("ran%d", i))); string(got) != "ran\n" {
			t.Errorf("killed at moment %d: ran %q", i, got)
		}
	}
}

// An agent that was killed while it removed its folder leaves parts of it.
func TestHalfRemovedFolder(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{"a": "1"})
	for _, id := range []string{"a", "b", "c"} {
		m.run(StartRequest{ID: id, Folder: "w", Shell: "true"})
	}
	m.killServe()
	for _, name := range []string{"calls/a/exit.json", "calls/a/events", "calls/a/call.json", "calls/b/exit.json", "calls/b/started.json",
		"calls/c/lock", "calls/c/log", "sync/w/index", "agent.log", "start.lock"} {
		if err := os.Remove(m.layout().path(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(m.layout().path("calls", "stray"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	if exit := m.wait("a"); exit.Code != 137 {
		t.Errorf("exit %+v", exit)
	}
	if sent := m.sync("w", tree{"a": "1", "b": "2"}); sent != 1 {
		t.Errorf("%d files sent, want 1", sent)
	}
	if exit := m.run(StartRequest{ID: "b", Folder: "w", Shell: "cat a b"}); exit.Code != 0 || m.log("b") != "12" {
		t.Errorf("exit %+v", exit)
	}
}

// Somebody who is not of the work's tree holds its output open.
func TestStrangerHoldingTheOutput(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	m := newMachine(t)
	m.sync("w", tree{})
	m.startCall(StartRequest{ID: "a", Folder: "w", Shell: "echo $$; while [ ! -e go ]; do sleep 0.01; done; echo end"})
	awaitLog(t, m, "a", "\n")
	pipe, err := os.OpenFile("/proc/"+firstLine(m.layout().call("a").log())+"/fd/1", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if err := os.WriteFile(filepath.Join(m.work(), "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if exit := m.wait("a"); exit.Code != 0 || exit.Error != "" || !strings.HasSuffix(m.log("a"), "\nend\n") {
		t.Errorf("exit %+v, log %q", exit, m.log("a"))
	}
}

func (m *machine) wantGone() {
	m.t.Helper()
	eventually(m.t, "the agent's folder is gone", func() bool { _, err := os.Lstat(m.layout().dir); return errors.Is(err, os.ErrNotExist) })
	eventually(m.t, "no process is left", func() bool { return len(m.processes()) == 0 })
}

func TestLeaseRunsOut(t *testing.T) {
	m := newMachine(t, "--lease", "100ms")
	m.wantGone()
	if _, err := os.Lstat(filepath.Join(m.home, "machines")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of all machines is left: %v", err)
	}
}

func TestLeaseRunsOutUnderWork(t *testing.T) {
	m := newMachine(t, "--lease", "5m")
	m.sync("w", tree{})
	fifo := filepath.Join(m.home, "go")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	m.startCall(StartRequest{ID: "a", Folder: "w", Env: []string{"T=" + m.home}, Shell: "echo ready; read x < $T/go; echo done > $T/done"})
	awaitLog(t, m, "a", "ready")
	m.post("/v1/lease", LeaseRequest{TTL: time.Millisecond}, nil)
	var e *Error
	if err := m.call("POST", "/v1/lease", LeaseRequest{}, nil); !errors.As(err, &e) || e.Kind != KindBadRequest {
		t.Errorf("a lease of nothing: %v", err)
	}
	var status Status
	if m.get("/v1/calls/a", &status); status.Exit != nil {
		t.Errorf("the work was ended: %+v", status.Exit)
	}
	f, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits for the work to read
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, "go")
	f.Close()
	m.wantGone()
	if got := firstLine(filepath.Join(m.home, "done")); got != "done" {
		t.Errorf("the work did not finish: %q", got)
	}
}

func TestLeaseIsRenewed(t *testing.T) {
	m := newMachine(t, "--lease", "5m")
	pid := m.start().PID
	m.post("/v1/lease", LeaseRequest{TTL: time.Hour}, nil)
	if !alive(pid) {
		t.Error("the agent has ended")
	}
	m.flags = []string{"--lease", "50ms"} // start renews, too
	m.start()
	m.wantGone()
}

func TestShutdownEndsEverything(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{"d/f": "x"})
	// What the work leaves may be hard to remove.
	m.startCall(StartRequest{ID: "a", Folder: "w", Grace: 50 * time.Millisecond, Shell: `mkdir -p ro/in; touch ro/in/f; chmod 500 ro/in ro
trap '' TERM; echo ready; while :; do sleep 1; done`})
	awaitLog(t, m, "a", "ready")
	waiting := make(chan error, 2)
	go func() { var s Status; waiting <- m.call("GET", "/v1/calls/a/wait", nil, &s) }()
	go func() { waiting <- m.call("GET", "/v1/calls/a/log", nil, nil) }()
	m.post("/v1/shutdown", nil, nil)
	for range 2 {
		if err := <-waiting; err != nil {
			t.Errorf("a waiting request: %v", err)
		}
	}
	m.wantGone()
	m.start() // and it can be had again
	if _, err := os.Lstat(m.layout().call("a").log()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something of before is left: %v", err)
	}
}

func TestPowerOffEndsTheMachine(t *testing.T) {
	for name, off := range map[string]bool{"machine of Levin": true, "own host": false} {
		t.Run(name, func(t *testing.T) {
			machine := exec.Command("sleep", "600")
			if err := machine.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { defer close(ended); _ = machine.Wait() }()
			defer func() { _ = machine.Process.Kill(); <-ended }()
			m := newStopped(t, "--lease", "5m")
			if off {
				m.flags = append(m.flags, "--power-off")
			}
			m.env = []string{"LEVIN_MACHINE_PID=" + strconv.Itoa(machine.Process.Pid)}
			m.start()
			m.post("/v1/shutdown", nil, nil)
			m.wantGone()
			if off {
				<-ended
			} else if !alive(machine.Process.Pid) {
				t.Error("the host was ended")
			}
		})
	}
}

func TestUnknownRoutes(t *testing.T) {
	m := newMachine(t)
	for _, path := range []string{"/", "/v1", "/v2/info", "/v1/calls/a/b"} {
		var e *Error
		if err := m.call("GET", path, nil, nil); !errors.As(err, &e) || e.Kind != KindNotFound || e.Status != http.StatusNotFound {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// buildAgent builds the agent as it is released.
func buildAgent(t testing.TB) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "levin-agent")
	cmd := exec.Command("go", append(append([]string{"build"}, BuildFlags()...), "-o", bin, "github.com/levinrun/levin/cmd/levin-agent")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the agent: %v\n%s", err, out)
	}
	return bin
}

func TestBinaryIsSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the agent")
	}
	bin := buildAgent(t)
	data, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 8e6 {
		t.Errorf("the agent has %d bytes, more than 8 MB", len(data))
	}
	var packed bytes.Buffer
	zw, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := zw.Write(data); errors.Join(err, zw.Close()) != nil {
		t.Fatal(err)
	}
	if packed.Len() > 3e6 {
		t.Errorf("the agent has %d bytes on the wire, more than 3 MB", packed.Len())
	}
}
