package launcher_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher"
	"github.com/levinrun/levin/launcher/agent"
	"github.com/levinrun/levin/launcher/agentbin"
	"github.com/levinrun/levin/launcher/sshtest"
)

// agentSource finds the real agent; the first call builds it. TestMain removes
// what it built.
var agentDir = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "levin-launcher-test-")
	if err != nil {
		panic(err)
	}
	return dir
})

var agentSource = sync.OnceValue(func() launcher.AgentSource {
	return (&agentbin.Finder{Cache: agentDir()}).Find
})

func config(t *testing.T) launcher.Config {
	return launcher.Config{Agent: agentSource(), Lease: time.Minute, LostAfter: 30 * time.Second, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
}

// place puts the agent where it would be on a machine that was used before.
func place(t testing.TB, home string) {
	t.Helper()
	bin, err := agentSource()(t.Context(), goos, goarch)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(bin.Path)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(home, ".levin-agent", "bin", strings.TrimPrefix(bin.Digest, "sha256:"))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Link(bin.Path, name) == nil {
		return
	}
	if err := os.WriteFile(name, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// connect gives a session that is shut down and closed with the test.
func connect(t testing.TB, cfg launcher.Config, target cluster.Target) *launcher.Session {
	t.Helper()
	s, err := launcher.Connect(t.Context(), cfg, "m-1", target)
	if err != nil {
		t.Fatalf("Connect: %v", err)
	}
	t.Cleanup(func() { shutdown(t, s) })
	return s
}

func shutdown(t testing.TB, s *launcher.Session) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil && !errors.Is(err, launcher.ErrLost) && !errors.Is(err, launcher.ErrClosed) {
		t.Errorf("Shutdown: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// tree makes a folder with these files.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(content, "→"); ok {
			if err := os.Symlink(target, p); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// collector is the log of an attempt as a caller of Wait sees it.
type collector struct {
	mu     sync.Mutex
	log    bytes.Buffer
	gap    bool
	phases []agent.Phase
	onLog  func()
}

func (c *collector) add(offset int64, p []byte) {
	c.mu.Lock()
	if offset != int64(c.log.Len()) {
		c.gap = true
	}
	c.log.Write(p)
	c.mu.Unlock()
	if c.onLog != nil {
		c.onLog()
	}
}

func (c *collector) phase(p agent.Phase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phases = append(c.phases, p)
}

func wait(t testing.TB, s *launcher.Session, id string) (agent.Exit, *collector) {
	t.Helper()
	c := &collector{}
	exit, err := s.Wait(t.Context(), id, launcher.Listener{Log: c.add, Phase: c.phase})
	if err != nil {
		t.Fatalf("Wait: %v", err)
	}
	if c.gap {
		t.Error("log chunks do not follow one another")
	}
	return exit, c
}

func TestSessionCarriesAnAttempt(t *testing.T) {
	srv := sshtest.New(t)
	s := connect(t, config(t), srv.Target())
	dir := tree(t, map[string]string{
		"a.txt": "alpha", "sub/b.txt": "beta", "link": "→sub/b.txt", ".gitignore": "*.o\n", "x.o": "object",
		".git/config": "not for machines",
	})
	if err := os.Chmod(filepath.Join(dir, "a.txt"), 0o750); err != nil {
		t.Fatal(err)
	}
	in := tree(t, map[string]string{"model": "weights"})
	trees := []launcher.Tree{{Root: dir, Ignore: true}, {Root: in, At: "inputs/train"}}
	shipped, err := s.Ship(t.Context(), "train", trees)
	if err != nil {
		t.Fatalf("Ship: %v", err)
	}
	if shipped.Files != 4 || shipped.SentBytes != int64(len("alpha"+"beta"+"*.o\n"+"weights")) {
		t.Errorf("shipped %+v", shipped)
	}
	err = s.Start(t.Context(), agent.StartRequest{
		ID: "call-a1", Folder: "train", Setup: "echo setting up", SetupKey: shipped.Digest,
		Shell:   `find . -mindepth 1 | sort; ls -l a.txt | cut -c1-10; cat link inputs/train/model; echo; echo "$GREETING $TOKEN"; mkdir out; printf result > out/r; ln -s r out/l; echo '{"n":1}' > "$LEVIN_RESULT"; exit 3`,
		Env:     []string{"GREETING=hello"},
		Secrets: map[string]string{"TOKEN": "hunter22"},
		Outputs: []string{"out"},
	})
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	exit, c := wait(t, s, "call-a1")
	want := "setting up\n./.gitignore\n./a.txt\n./inputs\n./inputs/train\n./inputs/train/model\n./link\n./sub\n./sub/b.txt\n-rwxr-x---\nbetaweights\nhello ***\n"
	if diff := cmp.Diff(want, c.log.String()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if exit.Code != 3 || exit.Phase != agent.PhaseRun || string(exit.Result) != `{"n":1}` && strings.TrimSpace(string(exit.Result)) != `{"n":1}` {
		t.Errorf("exit %+v", exit)
	}
	if n := len(c.phases); n < 2 || c.phases[n-2] != agent.PhaseRun || c.phases[n-1] != agent.PhaseExited {
		t.Errorf("phases %v", c.phases)
	}
	dst := filepath.Join(t.TempDir(), "artifacts")
	if err := s.Fetch(t.Context(), "call-a1", exit.Artifacts, dst); err != nil {
		t.Fatalf("Fetch: %v", err)
	}
	got := map[string]string{}
	for _, a := range exit.Artifacts {
		data, err := os.ReadFile(filepath.Join(dst, a.Path))
		if err != nil {
			t.Error(err)
		}
		got[a.Path] = a.Link + ":" + string(data)
	}
	if diff := cmp.Diff(map[string]string{"out/r": ":result", "out/l": "r:result"}, got); diff != "" {
		t.Errorf("artifacts (-want +got):\n%s", diff)
	}

	// Once more: nothing is sent, and the same folder has the same digest.
	again, err := s.Ship(t.Context(), "train", trees)
	if err != nil {
		t.Fatal(err)
	}
	if again.SentBytes != 0 || again.Digest != shipped.Digest {
		t.Errorf("shipping again sent %d bytes; digest %s, then %s", again.SentBytes, shipped.Digest, again.Digest)
	}
}

func TestStopWorkEndsTheWork(t *testing.T) {
	s := connect(t, config(t), sshtest.New(t).Target())
	if _, err := s.Ship(t.Context(), "f", []launcher.Tree{{Root: t.TempDir()}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context(), agent.StartRequest{ID: "c-a1", Folder: "f", Shell: "echo up; sleep 1000"}); err != nil {
		t.Fatal(err)
	}
	c := &collector{}
	var once sync.Once
	stopped := make(chan error, 1)
	c.onLog = func() { once.Do(func() { stopped <- s.StopWork(t.Context(), "c-a1") }) }
	exit, err := s.Wait(t.Context(), "c-a1", launcher.Listener{Log: c.add})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("StopWork: %v", err)
	}
	if !exit.Stopped || exit.Code != 128+15 {
		t.Errorf("exit %+v", exit)
	}
	if err := s.StopWork(t.Context(), "never-was"); err != nil {
		t.Errorf("stopping what never was: %v", err)
	}
}

func TestConnectIsOneExecWhenTheAgentIsThere(t *testing.T) {
	srv := sshtest.New(t)
	place(t, srv.Home)
	start := time.Now()
	s := connect(t, config(t), srv.Target())
	t.Logf("from dial to an agent that answers: %s", time.Since(start))
	if execs := srv.Execs(); len(execs) != 1 {
		t.Errorf("ran %d commands: %q", len(execs), execs)
	}
	if err := s.Renew(t.Context(), time.Minute); err != nil {
		t.Error(err)
	}
}

func TestConnectUploadsOnceAndTakesWhatIsThere(t *testing.T) {
	srv := sshtest.New(t)
	s := connect(t, config(t), srv.Target())
	if n := len(srv.Execs()); n != 3 { // start, upload, start
		t.Errorf("the first connect ran %d commands", n)
	}
	left, err := filepath.Glob(filepath.Join(srv.Home, ".levin-agent", "bin", ".new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("the upload left %v behind", left)
	}
	second := connect(t, config(t), srv.Target())
	if n := len(srv.Execs()); n != 4 {
		t.Errorf("the second connect ran %d commands", n-3)
	}
	_ = s
	_ = second
}

func TestShutdownRemovesTheFolder(t *testing.T) {
	srv := sshtest.New(t)
	s := connect(t, config(t), srv.Target())
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(srv.Home, ".levin-agent", "machines", "m-1")); !os.IsNotExist(err) {
		t.Errorf("the agent's folder is still there: %v", err)
	}
	if err := s.Start(t.Context(), agent.StartRequest{ID: "c", Folder: "f", Shell: "true"}); !errors.Is(err, launcher.ErrLost) {
		t.Errorf("Start after Shutdown gave %v", err)
	}
}

func TestRefusalsAreInTheAgentsWords(t *testing.T) {
	s := connect(t, config(t), sshtest.New(t).Target())
	err := s.Start(t.Context(), agent.StartRequest{ID: "Not A Label", Folder: "f", Shell: "true"})
	var f *cluster.Failure
	if !errors.As(err, &f) || f.Kind != cluster.BadRequest || !strings.Contains(f.Words, "DNS label") {
		t.Errorf("got %v", err)
	}
	if _, err := s.Wait(t.Context(), "never-was", launcher.Listener{}); cluster.KindOf(err) != cluster.BadRequest {
		t.Errorf("waiting for what never was: %v", err)
	}
}

func TestNamesThatReachAShellAreChecked(t *testing.T) {
	srv := sshtest.New(t)
	for _, bad := range []struct{ machine, home string }{
		{"m;reboot", ""}, {"M", ""}, {"", ""}, {"m", "../x"}, {"m", "a b"}, {"m", "/etc"}, {"m", `$(id)`}, {"m", "a/../../b"},
	} {
		target := srv.Target()
		target.Home = bad.home
		s, err := launcher.Connect(t.Context(), config(t), bad.machine, target)
		if err == nil {
			s.Close()
		}
		if cluster.KindOf(err) != cluster.BadInput {
			t.Errorf("machine %q, home %q: %v", bad.machine, bad.home, err)
		}
	}
	if execs := srv.Execs(); len(execs) > 0 {
		t.Errorf("ran %q", execs)
	}
}

func TestManySessionsAtOnce(t *testing.T) {
	srv := sshtest.New(t)
	place(t, srv.Home)
	dir := tree(t, map[string]string{"f": "content"})
	cfg := config(t)
	cfg.Digests = filepath.Join(t.TempDir(), "digests")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			s, err := launcher.Connect(t.Context(), cfg, fmt.Sprintf("m-%d", i), srv.Target())
			if err != nil {
				t.Error(err)
				return
			}
			defer shutdown(t, s)
			if _, err := s.Ship(t.Context(), "f", []launcher.Tree{{Root: dir}}); err != nil {
				t.Error(err)
				return
			}
			if err := s.Start(t.Context(), agent.StartRequest{ID: "c", Folder: "f", Shell: "cat f"}); err != nil {
				t.Error(err)
				return
			}
			if _, c := wait(t, s, "c"); c.log.String() != "content" {
				t.Errorf("log %q", c.log.String())
			}
		})
	}
	wg.Wait()
}
