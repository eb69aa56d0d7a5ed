package launcher_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher"
	"github.com/levinrun/levin/launcher/agent"
	"github.com/levinrun/levin/launcher/sshtest"
)

// sleeper is a process that takes no notice of hangups.
func sleeper(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "trap '' HUP; exec sleep 600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

// spotMachine is a machine that AWS takes back when take is called.
func spotMachine(t *testing.T) (srv *sshtest.Server, target cluster.Target, take func(left time.Duration)) {
	t.Helper()
	var action atomic.Pointer[string]
	imds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch text := action.Load(); {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
			fmt.Fprint(w, "token")
		case r.URL.Path != "/latest/meta-data/spot/instance-action" || r.Header.Get("X-aws-ec2-metadata-token") != "token":
			w.WriteHeader(http.StatusUnauthorized)
		case text == nil:
			http.NotFound(w, r)
		default:
			fmt.Fprint(w, *text)
		}
	}))
	t.Cleanup(imds.Close)
	srv = sshtest.New(t, "AWS_EC2_METADATA_SERVICE_ENDPOINT="+imds.URL)
	place(t, srv.Home)
	target = srv.Target()
	target.Notice, target.PowerOff = "aws", false
	return srv, target, func(left time.Duration) {
		action.Store(new(fmt.Sprintf(`{"action": "terminate", "time": %q}`, time.Now().Add(left).UTC().Format(time.RFC3339Nano))))
	}
}

// saver is work that counts, and saves how far it has come when it is told to end.
const saver = `n=$(cat ckpt/n 2>/dev/null || echo 0); echo from $n; trap 'mkdir -p ckpt; echo $((n+1)) > ckpt/n; exit 0' TERM
test $n -ge 1 && { echo done > out; exit 0; }
echo up; while :; do sleep 0.02; done`

// An attempt is taken back, saves what it has, and another one on another machine
// goes on from there.
func TestPreemptedWorkGoesOnElsewhere(t *testing.T) {
	_, target, take := spotMachine(t)
	s := connect(t, config(t), target)
	saved := filepath.Join(t.TempDir(), "checkpoints", "c")
	own := tree(t, map[string]string{"ckpt/n": "0", "code": "x"}) // the component ships a file of that name, too
	trees := func() []launcher.Tree {
		all := []launcher.Tree{{Root: own}}
		if tree, ok := launcher.CheckpointTree(saved); ok {
			all = append(all, tree)
		}
		return all
	}
	req := agent.StartRequest{ID: "c-a1", Folder: "f", Shell: saver, Outputs: []string{"out"}, Checkpoint: []string{"ckpt"}}
	begin := func(s *launcher.Session) {
		t.Helper()
		if _, err := s.Ship(t.Context(), "f", trees()); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	begin(s)
	c := &collector{}
	c.onLog = func() { take(time.Minute) }
	var notices []agent.Notice
	exit, err := s.Wait(t.Context(), "c-a1", launcher.Listener{Log: c.add, Phase: c.phase, Notice: func(n agent.Notice) { notices = append(notices, n) }})
	if err != nil || !exit.Preempted || exit.Code != 0 || len(exit.Artifacts) > 0 {
		t.Fatalf("%+v, %v", exit, err)
	}
	if len(notices) != 1 || !strings.Contains(notices[0].Words, "terminate") || time.Until(notices[0].At) < 30*time.Second {
		t.Errorf("notices %+v", notices)
	}
	if err := s.FetchCheckpoint(t.Context(), "c-a1", exit.Checkpoint, saved); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ship(t.Context(), "f", trees()); cluster.KindOf(err) != cluster.Preempted {
		t.Errorf("shipping to a machine that is taken back: %v", err)
	}
	req.ID = "c-a2"
	if err := s.Start(t.Context(), req); cluster.KindOf(err) != cluster.Preempted {
		t.Errorf("starting on a machine that is taken back: %v", err)
	}

	_, target, _ = spotMachine(t)
	second := connect(t, config(t), target)
	begin(second)
	exit, c = wait(t, second, "c-a2")
	if exit.Code != 0 || exit.Preempted || len(exit.Artifacts) != 1 || c.log.String() != "from 1\n" {
		t.Errorf("%+v, log %q", exit, c.log.String())
	}
}

// cloudSays is a Status that gives an answer once the machine is off.
type cloudSays struct {
	off   atomic.Bool
	asked atomic.Int64
	says  launcher.Condition
}

func (c *cloudSays) status(_ context.Context, machine string) (launcher.Condition, error) {
	if n := c.asked.Add(1); n == 1 {
		return launcher.Condition{}, errors.New("throttled") // asked again
	}
	if machine != "m-1" || !c.off.Load() {
		return launcher.Condition{}, nil
	}
	return c.says, nil
}

// dial refuses, or lets wait for ever, once the machine is off.
func (c *cloudSays) dial(silent bool) dialFunc {
	return func(ctx context.Context, target cluster.Target) (net.Conn, error) {
		switch {
		case !c.off.Load():
			return launcher.NetDialer{}.Dial(ctx, target)
		case silent:
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		return nil, errors.New("no route to host")
	}
}

func TestCloudSaysThatTheMachineIsGone(t *testing.T) {
	for _, tt := range []struct {
		name   string
		silent bool
		says   launcher.Condition
		kind   cluster.FailureKind
		words  string
	}{
		{"taken back", false, launcher.Condition{Gone: true, Preempted: true, Words: "Server.SpotInstanceTermination"}, cluster.Preempted, "Server.SpotInstanceTermination"},
		{"about to be taken back", false, launcher.Condition{Preempted: true}, cluster.Preempted, "taken it back"},
		{"terminated, and packets get lost", true, launcher.Condition{Gone: true, Words: "Client.UserInitiatedShutdown"}, cluster.Transient, "Client.UserInitiatedShutdown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := sshtest.New(t)
			place(t, srv.Home)
			cloud := &cloudSays{says: tt.says}
			cfg := config(t)
			cfg.LostAfter = time.Hour // it is the cloud that ends the wait
			cfg.Dialer, cfg.Status = cloud.dial(tt.silent), cloud.status
			s := connect(t, cfg, srv.Target())
			if cloud.asked.Load() > 0 {
				t.Error("the cloud was asked about a machine that answers")
			}
			cloud.off.Store(true)
			srv.DropAll()
			err := s.Renew(t.Context(), time.Minute)
			if !errors.Is(err, launcher.ErrLost) || cluster.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("got %v (%s)", err, cluster.KindOf(err))
			}
			if n := cloud.asked.Load(); n != 2 {
				t.Errorf("the cloud was asked %d times", n)
			}
			killAgents(t, srv.Home)
		})
	}
}

// A machine that is gone before it was ever reached is not waited for; one answer
// alone is not believed, for clouds learn slowly of a machine that is new.
func TestCloudSaysThatTheMachineNeverCame(t *testing.T) {
	t.Parallel()
	cloud := &cloudSays{says: launcher.Condition{Gone: true, Words: "it has been preempted", Preempted: true}}
	cloud.off.Store(true)
	cfg := config(t)
	cfg.Dialer, cfg.Status = cloud.dial(false), cloud.status
	target := sshtest.New(t).Target()
	target.PowerOff = true
	if s, err := launcher.Connect(t.Context(), cfg, "m-1", target); cluster.KindOf(err) != cluster.Preempted || !strings.Contains(err.Error(), "it has been preempted") {
		t.Errorf("got %v", err)
		if err == nil {
			s.Close()
		}
	}
	if n := cloud.asked.Load(); n != 3 {
		t.Errorf("the cloud was asked %d times", n)
	}
}

// A machine that ends after its notice, before its exit has come, was taken back
// even if nobody can ask the cloud; and it is not waited for longer than that.
func TestMachineEndsInItsWindow(t *testing.T) {
	t.Parallel()
	srv, target, take := spotMachine(t)
	cloud := &cloudSays{}
	cfg := config(t)
	cfg.LostAfter = time.Hour
	cfg.Dialer = cloud.dial(false)
	s := connect(t, cfg, target)
	if _, err := s.Ship(t.Context(), "f", []launcher.Tree{{Root: t.TempDir()}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context(), agent.StartRequest{ID: "c-a1", Folder: "f", Shell: "trap '' TERM; while :; do sleep 1; done"}); err != nil {
		t.Fatal(err)
	}
	take(4 * time.Second)
	_, err := s.Wait(t.Context(), "c-a1", launcher.Listener{Notice: func(agent.Notice) {
		cloud.off.Store(true)
		killAgents(t, srv.Home)
		srv.DropAll()
	}})
	if !errors.Is(err, launcher.ErrLost) || cluster.KindOf(err) != cluster.Preempted || !strings.Contains(err.Error(), "instance-action") {
		t.Errorf("got %v", err)
	}
}

func TestFetchCheckpoint(t *testing.T) {
	type files = map[string]string
	for _, tt := range []struct {
		name   string
		before files // below the checkpoint's parent: c/ is the checkpoint
		saves  string
		dies   bool // the machine, while its second file comes
		want   files
	}{
		{"the first one", files{}, "echo new > ckpt/a; echo new > ckpt/b", false, files{"c/ckpt/a": "new\n", "c/ckpt/b": "new\n"}},
		{"the next one", files{"c/ckpt/a": "old", "c/ckpt/gone": "old"}, "echo new > ckpt/a", false, files{"c/ckpt/a": "new\n"}},
		{"nothing was saved", files{"c/ckpt/a": "old"}, "true", false, files{"c/ckpt/a": "old"}},
		{"nothing was saved, ever", files{}, "true", false, files{}},
		{"after one that was cut short", files{"c.part/ckpt/a": "torn"}, "echo new > ckpt/a", false, files{"c/ckpt/a": "new\n"}},
		{"after an exchange that was cut short", files{"c.old/ckpt/a": "old", "c.part/ckpt/a": "new"}, "true", false, files{"c/ckpt/a": "old", "c.part/ckpt/a": "new"}},
		{"the machine dies", files{}, "echo new > ckpt/a; head -c 4000000 /dev/urandom > ckpt/big", true, files{"c/ckpt/a": "new\n"}},
		{"the machine dies, and there is one", files{"c/ckpt/a": "old"}, "echo new > ckpt/a; head -c 4000000 /dev/urandom > ckpt/big", true, files{"c/ckpt/a": "old"}},
		{"the machine dies before anything has come", files{}, "head -c 4000000 /dev/urandom > ckpt/big", true, files{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := sshtest.New(t)
			place(t, srv.Home)
			cloud := &cloudSays{says: launcher.Condition{Gone: true, Preempted: true}}
			cfg := config(t)
			cfg.Status = cloud.status
			var left atomic.Int64 // bytes that may still come
			left.Store(1 << 40)
			dial := cloud.dial(false)
			cfg.Dialer = dialFunc(func(ctx context.Context, target cluster.Target) (net.Conn, error) {
				conn, err := dial(ctx, target)
				return &dyingConn{Conn: conn, left: &left, died: func() { cloud.off.Store(true); srv.DropAll() }}, err
			})
			s := connect(t, cfg, srv.Target())
			if _, err := s.Ship(t.Context(), "f", []launcher.Tree{{Root: t.TempDir()}}); err != nil {
				t.Fatal(err)
			}
			// As if it had been taken back: the agent gives outputs as it does checkpoints.
			if err := s.Start(t.Context(), agent.StartRequest{ID: "c-a1", Folder: "f", Shell: "mkdir ckpt; " + tt.saves, Outputs: []string{"ckpt"}}); err != nil {
				t.Fatal(err)
			}
			exit, _ := wait(t, s, "c-a1")
			parent := tree(t, tt.before)
			if tt.dies {
				left.Store(1 << 20)
			}
			err := s.FetchCheckpoint(t.Context(), "c-a1", exit.Artifacts, filepath.Join(parent, "c"))
			if (err != nil) != tt.dies || tt.dies && cluster.KindOf(err) != cluster.Preempted {
				t.Errorf("got %v", err)
			}
			if diff := cmp.Diff(tt.want, readFiles(t, parent)); diff != "" {
				t.Error(diff)
			}
			if tt.dies {
				killAgents(t, srv.Home)
			}
		})
	}
}

// dyingConn ends, and the machine with it, when so many bytes have come.
type dyingConn struct {
	net.Conn
	left *atomic.Int64
	died func()
}

func (c *dyingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.left.Add(int64(-n)) < 0 {
		c.died()
		return 0, errors.New("the machine has died")
	}
	return n, err
}

func readFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var data []byte
			data, err = os.ReadFile(p)
			name, _ := filepath.Rel(dir, p)
			found[filepath.ToSlash(name)] = string(data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestNoticeNeedsAServiceThatIsKnown(t *testing.T) {
	srv := sshtest.New(t)
	target := srv.Target()
	target.Notice = "aws; rm -rf /"
	if _, err := launcher.Connect(t.Context(), config(t), "m-1", target); cluster.KindOf(err) != cluster.BadInput {
		t.Errorf("got %v", err)
	}
	if execs := srv.Execs(); slices.ContainsFunc(execs, func(line string) bool { return strings.Contains(line, "rm -rf") }) {
		t.Errorf("%q", execs)
	}
}
