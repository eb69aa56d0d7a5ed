package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
)

func TestWorkRuns(t *testing.T) {
	m := newStopped(t)
	m.env = []string{"AGENT_OWN=x", "SSH_CONNECTION=y"}
	m.start()
	m.sync("w", tree{"hello.sh": "#!/bin/sh\necho hello $1 $GREETING; pwd; echo err >&2; exit 3\n"})
	tests := []struct {
		name string
		req  StartRequest
		code int
		log  string
		err  string
	}{
		{"shell line", StartRequest{Shell: "sh hello.sh you", Env: []string{"GREETING=hi"}}, 3, "hello you hi\n" + m.layout().work("w") + "\nerr\n", ""},
		{"arguments see no shell", StartRequest{Args: []string{"echo", "$HOME", "a b", ";"}}, 0, "$HOME a b ;\n", ""},
		{"variable in shell", StartRequest{Shell: `printf '%s' "$LEVIN_VAR_1"`, Env: []string{"LEVIN_VAR_1=$(boom) '\""}}, 0, "$(boom) '\"", ""},
		{"relative program", StartRequest{Args: []string{"./hello.sh"}}, 126, "", "permission denied"},
		{"no such program", StartRequest{Args: []string{"no-such-program"}}, 127, "", "not on PATH"},
		{"signal", StartRequest{Shell: "kill -9 $$"}, 137, "", ""},
		{"no environment of the agent", StartRequest{Shell: `echo "$AGENT_OWN$SSH_CONNECTION"; test -n "$PATH"`}, 0, "\n", ""},
		{"attempt and mark", StartRequest{Shell: `echo $LEVIN_ATTEMPT; basename $LEVIN_RESULT`}, 0, "c7-a1\nresult.json\n", ""},
		{"stdin is empty", StartRequest{Shell: `cat; echo end`}, 0, "end\n", ""},
		{"last entry wins", StartRequest{Shell: `echo $A`, Env: []string{"A=1", "A=2"}}, 0, "2\n", ""},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.req.ID, tt.req.Folder = fmt.Sprintf("c%d-a1", i), "w"
			exit := m.run(tt.req)
			if exit.Code != tt.code || !strings.Contains(exit.Error, tt.err) || (tt.err == "" && exit.Error != "") {
				t.Errorf("exit %+v, want code %d and error %q", exit, tt.code, tt.err)
			}
			if exit.Phase != PhaseRun || time.Since(exit.At).Abs() > time.Minute {
				t.Errorf("exit %+v", exit)
			}
			if got := m.log(tt.req.ID); got != tt.log {
				t.Errorf("log %q, want %q", got, tt.log)
			}
		})
	}
}

func TestStartIsRefused(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{})
	ok := StartRequest{ID: "c-a1", Folder: "w", Shell: "true"}
	for name, change := range map[string]func(*StartRequest){
		"no id":             func(r *StartRequest) { r.ID = "" },
		"id is a path":      func(r *StartRequest) { r.ID = "../x" },
		"folder is a path":  func(r *StartRequest) { r.Folder = "a/b" },
		"nothing to run":    func(r *StartRequest) { r.Shell = "" },
		"two things to run": func(r *StartRequest) { r.Args = []string{"true"} },
		"empty program":     func(r *StartRequest) { r.Shell, r.Args = "", []string{""} },
		"zero byte":         func(r *StartRequest) { r.Shell = "a\x00b" },
		"env without =":     func(r *StartRequest) { r.Env = []string{"A"} },
		"secret with =":     func(r *StartRequest) { r.Secrets = map[string]string{"A=B": "x"} },
		"output outside":    func(r *StartRequest) { r.Outputs = []string{"../x"} },
		"output absolute":   func(r *StartRequest) { r.Outputs = []string{"/etc/passwd"} },
		"output malformed":  func(r *StartRequest) { r.Outputs = []string{"a[b"} },
		"negative timeout":  func(r *StartRequest) { r.Timeout = -1 },
	} {
		r := ok
		change(&r)
		var e *Error
		if err := m.call("POST", "/v1/calls", r, nil); !errors.As(err, &e) || e.Kind != KindBadRequest || e.Status != 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
	var e *Error
	if err := m.call("POST", "/v1/calls", StartRequest{ID: "c", Folder: "other", Shell: "true"}, nil); !errors.As(err, &e) || e.Kind != KindNotFound {
		t.Errorf("unknown folder: %v", err)
	}
	if err := m.call("GET", "/v1/calls/none", nil, nil); !errors.As(err, &e) || e.Kind != KindNotFound {
		t.Errorf("unknown call: %v", err)
	}
	if err := m.call("POST", "/v1/calls", strings.NewReader(`{"id":"x","unknown":1}`), nil); !errors.As(err, &e) || e.Kind != KindBadRequest {
		t.Errorf("unknown field: %v", err)
	}
}

func TestStartTwiceIsOnce(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{})
	r := StartRequest{ID: "c-a1", Folder: "w", Shell: "echo once >> ran; echo ready; exec sleep 600"}
	m.startCall(r)
	awaitLog(t, m, "c-a1", "ready")
	m.startCall(r)
	var e *Error
	other := StartRequest{ID: "c-a2", Folder: "w", Shell: "true"}
	if err := m.call("POST", "/v1/calls", other, nil); !errors.As(err, &e) || e.Kind != KindConflict {
		t.Errorf("a second attempt in the folder: %v", err)
	}
	if _, err := m.trySync("w", tree{}.entries(), nil); !errors.As(err, &e) || e.Kind != KindConflict {
		t.Errorf("a sync under running work: %v", err)
	}
	m.post("/v1/calls/c-a1/stop", nil, nil)
	if exit := m.wait("c-a1"); exit.Code != 143 || !exit.Stopped || exit.TimedOut {
		t.Errorf("exit %+v", exit)
	}
	m.startCall(r) // also when it is over
	m.post("/v1/calls/c-a1/stop", nil, nil)
	if got, _ := os.ReadFile(filepath.Join(m.layout().work("w"), "ran")); string(got) != "once\n" {
		t.Errorf("ran %q", got)
	}
}

func TestResultAndOutputs(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{"data.csv": "shipped", "sub/keep.txt": "kept"})
	exit := m.run(StartRequest{ID: "a", Folder: "w", Outputs: []string{"model.bin", "out", "**/*.csv", "none*", "evil", "pipe", "sub/../model.bin"},
		Shell: `printf '{"accuracy": 0.5}' > "$LEVIN_RESULT"
printf model > model.bin; chmod 755 model.bin
mkdir -p out/deep; printf 1 > out/deep/a.csv; printf 2 > out/b.txt; ln -s b.txt out/in; ln -s ../data.csv out/up
ln -s /etc/passwd evil; ln -s /etc out/etc; ln -s ../../../../etc/passwd out/evil2; mkfifo pipe`})
	if exit.Code != 0 || exit.Error != "" {
		t.Fatalf("exit %+v", exit)
	}
	if string(exit.Result) != `{"accuracy":0.5}` {
		t.Errorf("result %s", exit.Result)
	}
	file := func(path, content string, mode uint32) cluster.Artifact {
		return cluster.Artifact{Path: path, Digest: digestText(content), Size: int64(len(content)), Mode: mode}
	}
	link := func(path, target string) cluster.Artifact {
		a := file(path, target, 0o777)
		a.Link = target
		return a
	}
	want := []cluster.Artifact{file("data.csv", "shipped", 0o644), file("model.bin", "model", 0o755), file("out/b.txt", "2", 0o644),
		file("out/deep/a.csv", "1", 0o644), link("out/in", "b.txt"), link("out/up", "../data.csv")}
	if diff := cmp.Diff(want, exit.Artifacts); diff != "" {
		t.Errorf("artifacts: %s", diff)
	}
	if diff := cmp.Diff([]string{"none*", "evil", "pipe"}, exit.Missing); diff != "" {
		t.Errorf("missing: %s", diff)
	}
	var listed []cluster.Artifact
	if m.get("/v1/calls/a/outputs", &listed); !cmp.Equal(listed, want) {
		t.Errorf("listed: %s", cmp.Diff(want, listed))
	}
	if got := m.raw("/v1/calls/a/outputs/out/deep/a.csv"); got != "1" {
		t.Errorf("content %q", got)
	}
	if got := m.raw("/v1/calls/a/outputs/model.bin?offset=2"); got != "del" {
		t.Errorf("content from 2: %q", got)
	}
	resp, err := m.do("GET", "/v1/calls/a/outputs/model.bin?offset=1", nil, "Accept-Encoding", "zstd")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	zr, err := newZstdReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	defer zr.Close()
	if got, err := io.ReadAll(zr); string(got) != "odel" || err != nil || resp.Header.Get("Content-Encoding") != "zstd" {
		t.Errorf("compressed content %q, %v", got, err)
	}
	for _, path := range []string{"evil", "sub/keep.txt", "../../calls/a/log", "%2e%2e/x", "/etc/passwd", "out"} {
		resp, err := m.do("GET", "/v1/calls/a/outputs/"+path, nil)
		if err == nil {
			resp.Body.Close()
			t.Errorf("output %s was given", path)
		}
	}
	// Another start clears what the outputs match, and nothing that was shipped.
	exit = m.run(StartRequest{ID: "b", Folder: "w", Outputs: []string{"model.bin", "out", "**/*.csv", "evil", "pipe"}, Shell: "true"})
	if diff := cmp.Diff(tree{"data.csv": "shipped", "sub/": "", "sub/keep.txt": "kept"}, readTree(t, m.layout().work("w"))); diff != "" {
		t.Errorf("folder after clearing: %s", diff)
	}
	if len(exit.Artifacts) != 1 || len(exit.Missing) != 4 {
		t.Errorf("exit %+v", exit)
	}
}

func TestInputsAreCleared(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{"inputs/train/model": "m"})
	m.run(StartRequest{ID: "a", Folder: "w", Shell: "mkdir inputs/old && touch inputs/old/x inputs/train/y keep"})
	if exit := m.run(StartRequest{ID: "b", Folder: "w", Shell: "find . -type f | sort"}); exit.Code != 0 {
		t.Errorf("exit %+v", exit)
	}
	if got := m.log("b"); got != "./inputs/train/model\n./keep\n" {
		t.Errorf("files %q", got)
	}
}

func TestBadResults(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{})
	for id, tt := range map[string]struct{ shell, want string }{
		"none":  {"true", ""},
		"empty": {": > $LEVIN_RESULT", ""},
		"text":  {"echo accuracy=1 > $LEVIN_RESULT", "the result is not JSON"},
		"two":   {"echo '1 2' > $LEVIN_RESULT", "the result is not JSON"},
		"large": {"head -c 1048577 /dev/zero | tr '\\0' 1 > $LEVIN_RESULT", "the result is larger than 1 MiB"},
		"link":  {"ln -s /etc/passwd $LEVIN_RESULT", "result"},
		"fifo":  {"mkfifo $LEVIN_RESULT", "the result is not a regular file"},
	} {
		exit := m.run(StartRequest{ID: id, Folder: "w", Shell: tt.shell})
		if exit.Code != 0 || exit.Result != nil || !strings.Contains(exit.Error, tt.want) || (tt.want == "" && exit.Error != "") {
			t.Errorf("%s: exit %+v, want error %q", id, exit, tt.want)
		}
	}
}

func TestSecretsStayInMemory(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{})
	secret := "hunter22-very-secret"
	exit := m.run(StartRequest{ID: "a", Folder: "w", Secrets: map[string]string{"TOKEN": secret}, Setup: "echo in setup: $TOKEN",
		Shell: `echo "token $TOKEN!"; printf hunter22-; printf very-secret; tr '\0' ' ' < /proc/$PPID/cmdline; echo; ls /proc/$PPID/fd | wc -l`})
	if exit.Code != 0 {
		t.Fatalf("exit %+v", exit)
	}
	if got := m.log("a"); !strings.HasPrefix(got, "in setup: ***\ntoken ***!\n***") {
		t.Errorf("log %q", got)
	}
	err := filepath.WalkDir(m.home, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if data, _ := os.ReadFile(p); bytes.Contains(data, []byte(secret)) {
				t.Errorf("the secret is in %s", p)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSetupRunsOnce(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{})
	run := func(id, key, setup string) Exit {
		return m.run(StartRequest{ID: id, Folder: "w", Setup: setup, SetupKey: key, Shell: "echo run", Outputs: []string{"x"}})
	}
	if exit := run("a", "k1", "echo no; exit 4"); exit.Code != 4 || exit.Phase != PhaseSetup || exit.Missing != nil {
		t.Errorf("failed setup: %+v", exit)
	}
	for _, step := range []struct{ id, key, setup, log string }{
		{"b", "k1", "echo setup", "setup\nrun\n"}, // the failed one does not count
		{"c", "k1", "echo setup", "run\n"},
		{"d", "k2", "echo setup", "setup\nrun\n"},
		{"e", "k1", "echo setup", "setup\nrun\n"}, // k2's has changed what k1's had made
		{"f", "", "echo setup", "setup\nrun\n"},
	} {
		if exit := run(step.id, step.key, step.setup); exit.Code != 0 || exit.Phase != PhaseRun {
			t.Errorf("%s: %+v", step.id, exit)
		}
		if got := m.log(step.id); got != step.log {
			t.Errorf("%s: log %q, want %q", step.id, got, step.log)
		}
	}
}

// Whoever waits for the end of the setup hears of it when it comes, from an
// agent that has taken the attempt over, too.
func TestWaitAfterSetup(t *testing.T) {
	for _, tt := range []struct {
		name, setup, run string
		killed           bool // the agent, during the setup
		want             Phase
	}{
		{"no setup", "", "exec sleep 600", false, PhaseRun},
		{"setup", "while [ ! -e go ]; do sleep 0.01; done", "exec sleep 600", false, PhaseRun},
		{"failed setup", "while [ ! -e go ]; do sleep 0.01; done; exit 4", "true", false, PhaseExited},
		{"taken over", "while [ ! -e go ]; do sleep 0.01; done", "exec sleep 600", true, PhaseRun},
		{"taken over, failed setup", "while [ ! -e go ]; do sleep 0.01; done; exit 4", "true", true, PhaseExited},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			m.sync("w", tree{})
			m.startCall(StartRequest{ID: "a", Folder: "w", Setup: tt.setup, Shell: tt.run})
			if tt.killed {
				eventually(t, "the setup has begun", func() bool { _, err := os.Lstat(m.layout().call("a").started()); return err == nil })
				m.killServe()
				m.start()
			}
			answers := make(chan Status, 1)
			go func() {
				var status Status
				if err := m.call("GET", "/v1/calls/a/wait?after=setup", nil, &status); err != nil {
					t.Error(err)
				}
				answers <- status
			}()
			if tt.setup != "" {
				var status Status
				if m.get("/v1/calls/a", &status); status.Phase != PhaseSetup {
					t.Errorf("status %+v", status)
				}
				if err := os.WriteFile(filepath.Join(m.work(), "go"), nil, 0o600); err != nil {
					t.Error(err)
				}
			}
			status := <-answers
			if status.Phase != tt.want || (status.Exit != nil) != (tt.want == PhaseExited) {
				t.Errorf("answered %+v, want phase %s", status, tt.want)
			}
			m.post("/v1/calls/a/stop", nil, nil)
			m.wait("a")
			if m.get("/v1/calls/a/wait?after=setup", &status); status.Phase != PhaseExited {
				t.Errorf("after the exit: %+v", status)
			}
			wantKind(t, "a phase that there is not", m.call("GET", "/v1/calls/a/wait?after=x", nil, nil), KindBadRequest)
		})
	}
}

// spread is work that is hard to get rid of: children in their own sessions and
// groups, orphans, without the mark, deaf to TERM. Each writes its pid.
const spread = `
trap '' TERM HUP INT
note='echo $$ >> pids; exec sleep 600'
sh -c "$note" &
setsid sh -c "$note" &
env -i PATH=$PATH setsid sh -c "trap '' TERM; $note" &
(setsid sh -c "(setsid sh -c '$note' &) ; exit 0" &)
echo $$ >> pids
while [ $(wc -l < pids) -lt 5 ]; do sleep 0.01; done
`

func pids(t *testing.T, m *machine) []int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(m.layout().work("w"), "pids"))
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, line := range strings.Fields(string(data)) {
		pid, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pid)
	}
	if len(all) != 5 {
		t.Fatalf("%d processes, want 5", len(all))
	}
	return all
}

func TestWholeTreeIsKilled(t *testing.T) {
	if !treeIsComplete {
		t.Skip("this system has no subreaper")
	}
	tests := []struct {
		name  string
		tail  string
		req   StartRequest
		stop  bool
		check func(Exit) bool
	}{
		{"left behind", "exit 5", StartRequest{}, false, func(e Exit) bool { return e.Code == 5 && !e.Stopped && !e.TimedOut && e.Error == "" }},
		{"stopped", "echo ready; while :; do sleep 0.1; done", StartRequest{Grace: 50 * time.Millisecond}, true,
			func(e Exit) bool { return e.Code == 137 && e.Stopped && !e.TimedOut }},
		{"timed out", "while :; do sleep 0.1; done", StartRequest{Timeout: 300 * time.Millisecond, Grace: 50 * time.Millisecond}, false,
			func(e Exit) bool { return e.Code == 137 && e.TimedOut && !e.Stopped }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			m.sync("w", tree{})
			tt.req.ID, tt.req.Folder, tt.req.Shell = "a", "w", spread+tt.tail
			m.startCall(tt.req)
			if tt.stop {
				awaitLog(t, m, "a", "ready")
				m.post("/v1/calls/a/stop", nil, nil)
			}
			exit := m.wait("a")
			if !tt.check(exit) {
				t.Errorf("exit %+v", exit)
			}
			for _, pid := range pids(t, m) {
				if alive(pid) { // no waiting: at the exit they are gone
					t.Errorf("process %d is alive", pid)
				}
			}
		})
	}
}

// awaitLog waits until the log holds text.
func awaitLog(t *testing.T, m *machine, id, text string) {
	t.Helper()
	resp, err := m.do("GET", "/v1/calls/"+id+"/log", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got []byte
	buf := make([]byte, 1024)
	for !bytes.Contains(got, []byte(text)) {
		n, err := resp.Body.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			t.Fatalf("log ended with %q: %v", got, err)
		}
	}
}

func TestGracefulStopIsHeard(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{})
	// The shell dies of TERM at once; its child needs a moment to save.
	m.startCall(StartRequest{ID: "a", Folder: "w", Outputs: []string{"saved"}, Grace: 20 * time.Second,
		Shell: `sh -c 'trap "sleep 0.2; echo state > saved; echo saved; exit 0" TERM; echo ready; while :; do sleep 0.01; done'; true`})
	awaitLog(t, m, "a", "ready")
	m.post("/v1/calls/a/stop", nil, nil)
	exit := m.wait("a")
	if !exit.Stopped || len(exit.Artifacts) != 1 || !strings.HasSuffix(m.log("a"), "saved\n") {
		t.Errorf("exit %+v, log %q", exit, m.log("a"))
	}
}

func TestBackgroundWriterMayFinish(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{})
	exit := m.run(StartRequest{ID: "a", Folder: "w", Shell: `echo first; (echo last words) &`})
	if exit.Code != 0 || m.log("a") != "first\nlast words\n" {
		t.Errorf("exit %+v, log %q", exit, m.log("a"))
	}
}

func TestLogFollowsFromAnyOffset(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{})
	const lines = 2000
	m.startCall(StartRequest{ID: "a", Folder: "w",
		Shell: fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); done", lines)})
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	offsets := []int{0, 1, 7, 4096, want.Len() - 1, want.Len()}
	got := make([]chan string, len(offsets))
	for i, offset := range offsets {
		got[i] = make(chan string, 1)
		go func() {
			resp, err := m.do("GET", fmt.Sprintf("/v1/calls/a/log?offset=%d", offset), nil)
			if err != nil {
				got[i] <- err.Error()
				return
			}
			defer resp.Body.Close()
			data, err := io.ReadAll(resp.Body)
			if err != nil {
				data = append(data, err.Error()...)
			}
			got[i] <- string(data)
		}()
	}
	for i, offset := range offsets {
		if diff := cmp.Diff(want.String()[offset:], <-got[i]); diff != "" {
			t.Errorf("from %d: %s", offset, diff)
		}
	}
	var status Status
	if m.get("/v1/calls/a", &status); status.LogSize != int64(want.Len()) || status.Phase != PhaseExited || status.StartedAt.IsZero() {
		t.Errorf("status %+v", status)
	}
	for _, bad := range []string{"-1", "x"} {
		if err := m.call("GET", "/v1/calls/a/log?offset="+bad, nil, nil); err == nil {
			t.Errorf("offset %s was taken", bad)
		}
	}
}

func TestSupervisorKilled(t *testing.T) {
	if !treeIsComplete {
		t.Skip("this system cannot find processes by their environment")
	}
	m := newMachine(t)
	m.sync("w", tree{})
	m.startCall(StartRequest{ID: "a", Folder: "w", Shell: `(setsid sh -c 'echo $$ > orphan; exec sleep 600' &)
while [ ! -s orphan ]; do sleep 0.01; done; echo $PPID; exec sleep 600`})
	awaitLog(t, m, "a", "\n")
	data, err := os.ReadFile(filepath.Join(m.layout().work("w"), "orphan"))
	if err != nil {
		t.Fatal(err)
	}
	supervisor, err1 := strconv.Atoi(firstLine(m.layout().call("a").log()))
	orphan, err2 := strconv.Atoi(strings.TrimSpace(string(data)))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit := m.wait("a"); exit.Code != 137 || !strings.Contains(exit.Error, "supervisor") {
		t.Errorf("exit %+v", exit)
	}
	waitGone(t, orphan)
	if exit := m.run(StartRequest{ID: "b", Folder: "w", Shell: "true"}); exit.Code != 0 {
		t.Errorf("the folder is not usable any more: %+v", exit)
	}
}

func firstLine(path string) string {
	data, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

func TestExitIsWholeJSON(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{})
	m.run(StartRequest{ID: "a", Folder: "w", Shell: "echo '[1]' > $LEVIN_RESULT"})
	var exit Exit
	data, err := os.ReadFile(m.layout().call("a").exit())
	if err = errors.Join(err, json.Unmarshal(data, &exit)); err != nil || string(exit.Result) != "[1]" {
		t.Errorf("exit.json %s: %v", data, err)
	}
}
