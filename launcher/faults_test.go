package launcher_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher"
	"github.com/levinrun/levin/launcher/agent"
	"github.com/levinrun/levin/launcher/dialertest"
	"github.com/levinrun/levin/launcher/sshtest"
)

// noise is content that does not compress, the same in every run.
func noise(n int) []byte {
	p := make([]byte, n)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(p)
	return p
}

// bigAttempt moves about 2 MB in each direction, and checks every byte.
func bigAttempt(t *testing.T, s *launcher.Session) {
	t.Helper()
	content := noise(1 << 20)
	files := map[string]string{"big": string(content)}
	for i := range 20 {
		files[fmt.Sprintf("small/%d", i)] = strings.Repeat(fmt.Sprint(i), 100)
	}
	if _, err := s.Ship(t.Context(), "f", []launcher.Tree{{Root: tree(t, files)}}); err != nil {
		t.Fatalf("Ship: %v", err)
	}
	const lines = 60_000
	err := s.Start(t.Context(), agent.StartRequest{ID: "c-a1", Folder: "f",
		Shell: fmt.Sprintf("seq 1 %d; cat small/19; cp big out", lines), Outputs: []string{"out"}})
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	exit, c := wait(t, s, "c-a1")
	var want bytes.Buffer
	for i := range lines {
		fmt.Fprintln(&want, i+1)
	}
	want.WriteString(files["small/19"])
	if exit.Code != 0 || !bytes.Equal(c.log.Bytes(), want.Bytes()) {
		t.Errorf("exit %+v; log of %d bytes, want %d", exit, c.log.Len(), want.Len())
	}
	dst := t.TempDir()
	if err := s.Fetch(t.Context(), "c-a1", exit.Artifacts, dst); err != nil {
		t.Fatalf("Fetch: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(dst, "out")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("what came back differs (%v)", err)
	}
	left, err := os.ReadDir(dst)
	if err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v", left)
	}
}

func TestBrokenConnections(t *testing.T) {
	once := func(f dialertest.Faults) func(int) dialertest.Faults {
		return func(n int) dialertest.Faults {
			if n == 0 {
				return f
			}
			return dialertest.Faults{}
		}
	}
	always := func(f dialertest.Faults) func(int) dialertest.Faults {
		return func(int) dialertest.Faults { return f }
	}
	type fault struct {
		name string
		plan func(int) dialertest.Faults
		min  int // connections that it must have taken
	}
	var faults []fault
	for _, at := range []int64{1, 900, 3_000, 4_500, 6_000, 10_000, 500_000,
		1_060_000, 1_070_000, 1_100_000, 1_400_000, 2_000_000} {
		faults = append(faults, fault{fmt.Sprintf("cut at %d", at), once(dialertest.Faults{Cut: at}), 2})
	}
	for _, at := range []int64{2_500, 300_000, 1_350_000, 2_000_000} {
		faults = append(faults, fault{fmt.Sprintf("silent from %d on", at), once(dialertest.Faults{Stall: at}), 2})
	}
	faults = append(faults,
		fault{"each cut at 300000", always(dialertest.Faults{Cut: 300_000}), 6},
		fault{"a bit turned over", once(dialertest.Faults{Corrupt: 50_000}), 2},
		fault{"slow", always(dialertest.Faults{Delay: 500 * time.Microsecond}), 1},
	)
	srv := sshtest.New(t)
	place(t, srv.Home)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			d := &dialertest.Faulty{Dialer: launcher.NetDialer{}, Plan: f.plan}
			cfg := config(t)
			cfg.Dialer, cfg.KeepAlive = d, 150*time.Millisecond
			bigAttempt(t, connect(t, cfg, srv.Target()))
			if d.Dials() < f.min {
				t.Errorf("only %d connections: the fault did not happen", d.Dials())
			}
		})
	}
}

// killAgents kills the agents that serve machines in this home folder, the way a
// machine that is out of memory does.
func killAgents(t *testing.T, home string) {
	t.Helper()
	out, err := exec.Command("pgrep", "-f", "levin-agent serve .*"+home).Output()
	if err != nil {
		t.Errorf("no agent runs: %v", err)
		return
	}
	if err := exec.Command("kill", append([]string{"-9"}, strings.Fields(string(out))...)...).Run(); err != nil {
		t.Error(err)
	}
}

func TestKilledAgentIsStartedAgainAndFindsItsWork(t *testing.T) {
	srv := sshtest.New(t)
	s := connect(t, config(t), srv.Target())
	dir := t.TempDir()
	if _, err := s.Ship(t.Context(), "f", []launcher.Tree{{Root: dir}}); err != nil {
		t.Fatal(err)
	}
	gate := filepath.Join(dir, "gate")
	err := s.Start(t.Context(), agent.StartRequest{ID: "c", Folder: "f",
		Shell: fmt.Sprintf("echo first; while [ ! -e '%s' ]; do sleep 0.01; done; echo second", gate)})
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	c := &collector{onLog: func() {
		once.Do(func() {
			killAgents(t, srv.Home)
			if err := os.WriteFile(gate, nil, 0o644); err != nil {
				t.Error(err)
			}
		})
	}}
	exit, err := s.Wait(t.Context(), "c", launcher.Listener{Log: c.add, Phase: c.phase})
	if err != nil {
		t.Fatal(err)
	}
	if exit.Code != 0 || c.log.String() != "first\nsecond\n" || c.gap {
		t.Errorf("exit %+v, log %q", exit, c.log.String())
	}
}

// Each phase is told when it begins, whatever breaks during the setup: the work
// goes on only when its phase was told.
func TestPhasesAreTold(t *testing.T) {
	all := []agent.Phase{agent.PhaseSetup, agent.PhaseRun, agent.PhaseExited}
	for _, tt := range []struct {
		name   string
		during func(*testing.T, *sshtest.Server)
		code   int // of the setup
		want   []agent.Phase
	}{
		{"setup", func(*testing.T, *sshtest.Server) {}, 0, all},
		{"setup that fails", func(*testing.T, *sshtest.Server) {}, 4, []agent.Phase{agent.PhaseSetup, agent.PhaseExited}},
		{"connection drops during setup", func(_ *testing.T, srv *sshtest.Server) { srv.DropAll() }, 0, all},
		{"agent is killed during setup", func(t *testing.T, srv *sshtest.Server) { killAgents(t, srv.Home) }, 0, all},
		{"agent is killed during setup that fails", func(t *testing.T, srv *sshtest.Server) { killAgents(t, srv.Home) }, 5,
			[]agent.Phase{agent.PhaseSetup, agent.PhaseExited}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := sshtest.New(t)
			place(t, srv.Home)
			s := connect(t, config(t), srv.Target())
			dir := t.TempDir()
			if _, err := s.Ship(t.Context(), "f", []launcher.Tree{{Root: dir}}); err != nil {
				t.Fatal(err)
			}
			gate := func(p agent.Phase) string { return filepath.Join(dir, string(p)) }
			pass := func(p agent.Phase) string { return fmt.Sprintf("while [ ! -e '%s' ]; do sleep 0.01; done", gate(p)) }
			err := s.Start(t.Context(), agent.StartRequest{ID: "c", Folder: "f",
				Setup: fmt.Sprintf("%s; echo set up; exit %d", pass(agent.PhaseSetup), tt.code), Shell: pass(agent.PhaseRun) + "; echo ran"})
			if err != nil {
				t.Fatal(err)
			}
			c := &collector{}
			exit, err := s.Wait(t.Context(), "c", launcher.Listener{Log: c.add, Phase: func(p agent.Phase) {
				c.phase(p)
				if p == agent.PhaseSetup {
					tt.during(t, srv)
				}
				if err := os.WriteFile(gate(p), nil, 0o644); err != nil {
					t.Error(err)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			log := "set up\n"
			if tt.code == 0 {
				log += "ran\n"
			}
			if exit.Code != tt.code || c.log.String() != log || c.gap || !slices.Equal(c.phases, tt.want) {
				t.Errorf("exit %+v, log %q, phases %v", exit, c.log.String(), c.phases)
			}
		})
	}
}

func TestAgentThatIsGoneIsALostMachine(t *testing.T) {
	srv := sshtest.New(t)
	s := connect(t, config(t), srv.Target())
	if err := os.RemoveAll(filepath.Join(srv.Home, ".levin-agent", "machines", "m-1")); err != nil {
		t.Fatal(err)
	}
	killAgents(t, srv.Home)
	err := s.Renew(t.Context(), time.Minute)
	if !errors.Is(err, launcher.ErrLost) || cluster.KindOf(err) != cluster.Transient || !strings.Contains(err.Error(), "gone") {
		t.Errorf("got %v", err)
	}
	if err2 := s.StopWork(t.Context(), "c"); !errors.Is(err2, launcher.ErrLost) {
		t.Errorf("then %v", err2)
	}
}

func TestMachineThatDoesNotComeBackIsLost(t *testing.T) {
	t.Parallel()
	srv := sshtest.New(t)
	place(t, srv.Home)
	refuse := make(chan struct{})
	cfg := config(t)
	cfg.LostAfter = 2 * time.Second
	cfg.Dialer = dialFunc(func(ctx context.Context, target cluster.Target) (net.Conn, error) {
		select {
		case <-refuse:
			return nil, errors.New("no route to host")
		default:
			return launcher.NetDialer{}.Dial(ctx, target)
		}
	})
	s := connect(t, cfg, srv.Target())
	close(refuse)
	srv.DropAll()
	err := s.Renew(t.Context(), time.Minute)
	if !errors.Is(err, launcher.ErrLost) || !strings.Contains(err.Error(), "no route to host") {
		t.Errorf("got %v", err)
	}
	killAgents(t, srv.Home) // nobody else can tell it
}

type dialFunc func(context.Context, cluster.Target) (net.Conn, error)

func (f dialFunc) Dial(ctx context.Context, t cluster.Target) (net.Conn, error) { return f(ctx, t) }

func TestAChangedHostKeyIsNotReconnectedTo(t *testing.T) {
	first, second := sshtest.New(t), sshtest.New(t)
	var moved sync.Map
	cfg := config(t)
	cfg.Dialer = dialFunc(func(ctx context.Context, target cluster.Target) (net.Conn, error) {
		if _, yes := moved.Load("yes"); yes {
			target = second.Target()
		}
		return launcher.NetDialer{}.Dial(ctx, target)
	})
	s := connect(t, cfg, first.Target())
	moved.Store("yes", true)
	first.DropAll()
	if err := s.Renew(t.Context(), time.Minute); cluster.KindOf(err) != cluster.Untrusted {
		t.Errorf("got %v", err)
	}
	killAgents(t, first.Home)
	// Shutdown in clean-up gives the same failure, which is not one of the two it expects.
	_ = s.Close()
}

// silentServer accepts connections and says nothing.
func silentServer(t *testing.T) cluster.Target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	addr := l.Addr().(*net.TCPAddr)
	key, public := sshtest.NewKey(t)
	return cluster.Target{Address: addr.IP.String(), Port: addr.Port, User: "u", KeyFiles: []string{key}, HostKeys: []string{sshtest.AuthorizedKey(public)}}
}

func TestConnectEndsWithContext(t *testing.T) {
	t.Parallel()
	silent := silentServer(t)
	nobody := silent
	nobody.Port = 1
	nobody.PowerOff = true
	for name, target := range map[string]cluster.Target{"a server that says nothing": silent, "nobody": nobody} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err := launcher.Connect(ctx, config(t), "m", target)
			if ctx.Err() == nil || cluster.KindOf(err) != cluster.Transient || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		if _, err := launcher.Connect(ctx, config(t), "m", silent); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestConnectWaitsForAServerThatBoots(t *testing.T) {
	srv := sshtest.New(t)
	place(t, srv.Home)
	cfg := config(t)
	tries := 0
	cfg.Dialer = dialFunc(func(ctx context.Context, target cluster.Target) (net.Conn, error) {
		if tries++; tries <= 3 {
			return nil, errors.New("connection refused")
		}
		return launcher.NetDialer{}.Dial(ctx, target)
	})
	connect(t, cfg, srv.Target())
	if tries != 4 {
		t.Errorf("dialed %d times", tries)
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	srv := sshtest.New(t)
	s := connect(t, config(t), srv.Target())
	other := connect(t, config(t), srv.Target()) // shuts the agent down in the end
	_ = other
	if _, err := s.Ship(t.Context(), "f", []launcher.Tree{{Root: t.TempDir()}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context(), agent.StartRequest{ID: "c", Folder: "f", Shell: "echo up; exec sleep 1000"}); err != nil {
		t.Fatal(err)
	}
	up := make(chan struct{})
	var once sync.Once
	done := make(chan error, 1)
	go func() {
		_, err := s.Wait(t.Context(), "c", launcher.Listener{Log: func(int64, []byte) { once.Do(func() { close(up) }) }})
		done <- err
	}()
	<-up
	s.Close()
	if err := <-done; !errors.Is(err, launcher.ErrClosed) {
		t.Errorf("Wait gave %v", err)
	}
}

// TestRequestsWhileTheConnectionEnds opens channels at the very moment at which
// the connection breaks, many times.
func TestRequestsWhileTheConnectionEnds(t *testing.T) {
	t.Parallel()
	srv := sshtest.New(t)
	place(t, srv.Home)
	s := connect(t, config(t), srv.Target())
	for range 25 {
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if err := s.Renew(t.Context(), time.Minute); err != nil {
					t.Errorf("Renew: %v", err)
				}
			})
		}
		srv.DropAll()
		wg.Wait()
	}
}
