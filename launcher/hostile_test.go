package launcher_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher"
	"github.com/levinrun/levin/launcher/agent"
	"github.com/levinrun/levin/launcher/sshtest"
)

// fakeAgent is a session with an agent whose every answer is h's.
func fakeAgent(t *testing.T, h http.Handler) *launcher.Session {
	t.Helper()
	web := httptest.NewServer(h)
	t.Cleanup(web.Close)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/sh
d=sha256:$(sha256sum "$0" | cut -c1-64)
case "$1" in
start) echo "{\"protocol\":%d,\"digest\":\"$d\"}" ;;
connect) %s=%s exec '%s' ;;
digest) echo "$d" ;;
esac
`, agent.ProtocolVersion, asHelper, web.Listener.Addr(), self)
	file := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(file, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	bin := launcher.Binary{Path: file, Digest: digestOf(script)}
	cfg := config(t)
	cfg.Agent = func(context.Context, string, string) (launcher.Binary, error) { return bin, nil }
	cfg.LostAfter = 3 * time.Second
	srv := sshtest.New(t)
	// A machine whose folder is gone is lost; this one's is there.
	if err := os.MkdirAll(filepath.Join(srv.Home, ".levin-agent", "machines", "m-1"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := launcher.Connect(t.Context(), cfg, "m-1", srv.Target())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func digestOf(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// endless writes until nobody listens any more.
func endless(w io.Writer) {
	chunk := []byte(strings.Repeat("x", 64<<10))
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func TestHostileWait(t *testing.T) {
	t.Parallel()
	exit := &agent.Exit{Phase: agent.PhaseRun}
	for _, c := range []struct {
		name string
		wait func(http.ResponseWriter, *http.Request)
		log  func(http.ResponseWriter, *http.Request)
		kind cluster.FailureKind // "" for success
		text string              // of the log, on success
	}{
		{"exited, and does not say how",
			func(w http.ResponseWriter, _ *http.Request) { answer(w, agent.Status{Phase: agent.PhaseExited}) },
			func(http.ResponseWriter, *http.Request) {}, cluster.Untrusted, ""},
		{"answer that is no JSON",
			func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") },
			func(http.ResponseWriter, *http.Request) {}, cluster.Untrusted, ""},
		{"answer without end",
			func(w http.ResponseWriter, _ *http.Request) { endless(w) },
			func(http.ResponseWriter, *http.Request) {}, cluster.Untrusted, ""},
		{"log without end",
			func(w http.ResponseWriter, _ *http.Request) { answer(w, agent.Status{Exit: exit, LogSize: 5}) },
			func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "12345")
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}, "", "12345"},
		{"log that is shorter than it should be",
			func(w http.ResponseWriter, _ *http.Request) { answer(w, agent.Status{Exit: exit, LogSize: 5}) },
			func(w http.ResponseWriter, r *http.Request) {}, cluster.Transient, ""},
		{"refusal without end",
			func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusTeapot)
				endless(w)
			},
			func(http.ResponseWriter, *http.Request) {}, cluster.BadRequest, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("GET /v1/calls/c/wait", c.wait)
			mux.HandleFunc("GET /v1/calls/c/log", c.log)
			s := fakeAgent(t, mux)
			var log strings.Builder
			_, err := s.Wait(t.Context(), "c", launcher.Listener{Log: func(_ int64, p []byte) { log.Write(p) }})
			if cluster.KindOf(err) != c.kind || c.kind == "" && err != nil || c.kind == "" && log.String() != c.text {
				t.Errorf("log %q, error %v", log.String(), err)
			}
		})
	}
}

func TestHostileSync(t *testing.T) {
	for _, c := range []struct {
		name   string
		need   agent.SyncNeed
		digest string
		words  string
	}{
		{"an entry that is not there", agent.SyncNeed{Need: []agent.Need{{Index: 7}}}, "", "asks for"},
		{"an entry below 0", agent.SyncNeed{Need: []agent.Need{{Index: -1}}}, "", "asks for"},
		{"a byte beyond the end", agent.SyncNeed{Need: []agent.Need{{Index: 0, Offset: 99}}}, "", "asks for"},
		{"another folder than was asked for", agent.SyncNeed{}, digestOf("other"), "expected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("POST /v1/sync/f/same", func(w http.ResponseWriter, _ *http.Request) { answer(w, agent.SameAnswer{}) })
			mux.HandleFunc("POST /v1/sync", func(w http.ResponseWriter, _ *http.Request) { answer(w, c.need) })
			mux.HandleFunc("POST /v1/sync/f/commit", func(w http.ResponseWriter, _ *http.Request) { answer(w, agent.SyncDone{Digest: c.digest}) })
			_, err := fakeAgent(t, mux).Ship(t.Context(), "f", []launcher.Tree{{Root: tree(t, map[string]string{"a": "text"})}})
			if cluster.KindOf(err) != cluster.Untrusted || !strings.Contains(err.Error(), c.words) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestHostileFetch(t *testing.T) {
	t.Parallel()
	file := func(name, content string) cluster.Artifact {
		return cluster.Artifact{Path: name, Digest: digestOf(content), Size: int64(len(content)), Mode: 0o644}
	}
	link := func(name, target string) cluster.Artifact { return cluster.Artifact{Path: name, Link: target} }
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
	}
	for _, c := range []struct {
		name      string
		artifacts []cluster.Artifact
		content   http.HandlerFunc
	}{
		{"other content", []cluster.Artifact{file("a", "right")}, say("wrong")},
		{"less content", []cluster.Artifact{file("a", "right")}, say("rig")},
		{"more content", []cluster.Artifact{file("a", "right")}, say("right and more")},
		{"content without end", []cluster.Artifact{file("a", "right")}, func(w http.ResponseWriter, _ *http.Request) { endless(w) }},
		{"a path that climbs", []cluster.Artifact{file("../a", "x")}, say("x")},
		{"a path that climbs later", []cluster.Artifact{file("b/../../a", "x")}, say("x")},
		{"an absolute path", []cluster.Artifact{file("/tmp/levin-should-not-be-here", "x")}, say("x")},
		{"no path", []cluster.Artifact{file("", "x")}, say("x")},
		{"the folder itself", []cluster.Artifact{file(".", "x")}, say("x")},
		{"the same path twice", []cluster.Artifact{file("a", "x"), file("a", "x")}, say("x")},
		{"a link that climbs", []cluster.Artifact{link("a", "../../etc/passwd")}, say("")},
		{"an absolute link", []cluster.Artifact{link("a", "/etc/passwd")}, say("")},
		{"a link that climbs out of another", []cluster.Artifact{link("s", "d/e"), link("a", "s/../../../x")}, say("")},
		{"a path through a link", []cluster.Artifact{link("a", "b"), file("a/x", "x")}, say("x")},
		{"a size below 0", []cluster.Artifact{{Path: "a", Digest: digestOf(""), Size: -1}}, say("")},
	} {
		t.Run(c.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("GET /v1/calls/c/outputs/{path...}", c.content)
			top := t.TempDir()
			dst := filepath.Join(top, "b", "dst")
			err := fakeAgent(t, mux).Fetch(t.Context(), "c", c.artifacts, dst)
			if cluster.KindOf(err) != cluster.Untrusted {
				t.Errorf("got %v", err)
			}
			_ = filepath.WalkDir(top, func(p string, d os.DirEntry, err error) error {
				if err != nil || !d.IsDir() {
					t.Errorf("%s was left (%v)", p, err)
				}
				return nil
			})
		})
	}
}

func TestFetchDoesNotFollowLinksThatAreThere(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/calls/c/outputs/{path...}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") })
	s := fakeAgent(t, mux)
	dst, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dst, "d")); err != nil {
		t.Fatal(err)
	}
	err := s.Fetch(t.Context(), "c", []cluster.Artifact{{Path: "d/a", Digest: digestOf("x"), Size: 1}}, dst)
	if err == nil {
		t.Error("Fetch went through a link out of its folder")
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("wrote %v outside", left)
	}
}

func TestAgentThatBreaksEveryRequestIsALostMachine(t *testing.T) {
	t.Parallel()
	s := fakeAgent(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	if err := s.Renew(t.Context(), time.Minute); !errors.Is(err, launcher.ErrLost) {
		t.Errorf("got %v", err)
	}
}

func TestAgentOfAnotherVersion(t *testing.T) {
	script := "#!/bin/sh\necho '{\"protocol\":999,\"digest\":\"sha256:x\"}'\n"
	srv := sshtest.New(t)
	name := filepath.Join(srv.Home, ".levin-agent", "bin", strings.TrimPrefix(digestOf(script), "sha256:"))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	cfg.Agent = func(context.Context, string, string) (launcher.Binary, error) {
		return launcher.Binary{Path: name, Digest: digestOf(script)}, nil
	}
	if _, err := launcher.Connect(t.Context(), cfg, "m", srv.Target()); cluster.KindOf(err) != cluster.BadRequest || !strings.Contains(err.Error(), "protocol 999") {
		t.Errorf("got %v", err)
	}
}

func TestMachineWithoutAnAgentForIt(t *testing.T) {
	srv := sshtest.New(t)
	cfg := config(t)
	asked := ""
	cfg.Agent = func(_ context.Context, os, arch string) (launcher.Binary, error) {
		asked = os + "/" + arch
		return launcher.Binary{}, errors.New("none here")
	}
	if _, err := launcher.Connect(t.Context(), cfg, "m", srv.Target()); cluster.KindOf(err) != cluster.Provisioning || !strings.Contains(err.Error(), "none here") {
		t.Errorf("got %v", err)
	}
	if asked != goos+"/"+goarch {
		t.Errorf("asked for %q", asked)
	}
}

func TestNoiseOfTheLoginShellIsSkipped(t *testing.T) {
	srv := sshtest.New(t)
	noisy := filepath.Join(t.TempDir(), "noise")
	if err := os.WriteFile(noisy, []byte("echo welcome to this machine; echo {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	srv.Before = ". " + noisy + "; "
	smallAttempt(t, connect(t, config(t), srv.Target()))
}
