package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/sqlite"
	"github.com/levinrun/levin/provision/cloudtest/emulator"
	"github.com/levinrun/levin/terraform"
)

// sky is an emulated AWS and GCP, and a person who is set up to use them.
type sky struct {
	*person
	*emulator.Emulator
}

// newSky starts the clouds. more is put at the end of the settings.
func newSky(t *testing.T, edit func(*emulator.Config), more string) *sky {
	t.Helper()
	u := newUser(t)
	e := emulator.Start(t, func(cfg *emulator.Config) {
		cfg.Agent = filepath.Join(filepath.Dir(built.levin), "levin-agent")
		if edit != nil {
			edit(cfg)
		}
	})
	u.env = append(u.env, e.Env()...)
	u.settings(fmt.Sprintf(`
cloud: aws,gcp
ingress: [127.0.0.1/32]
clouds:
  aws: {endpoint: %q, regions: [us-east-1, us-west-2]}
  gcp: {endpoint: %q, regions: [us-central1, us-west1]}
%s`, e.Endpoint("aws"), e.Endpoint("gcp"), more))
	return &sky{u, e}
}

// checkGone is checkClean, and nothing is left in the clouds.
func (s *sky) checkGone() {
	s.t.Helper()
	for _, thing := range s.Left() {
		s.t.Errorf("left in the cloud: %s %s %s (%s) %v", thing.Cloud, thing.Kind, thing.ID, thing.State, thing.Tags)
	}
	s.checkClean()
}

// checkNoSecret looks for what must be in no file: credentials of the clouds.
func (s *sky) checkNoSecret() {
	s.t.Helper()
	var words []string
	for _, kv := range s.Env() {
		if name, value, _ := strings.Cut(kv, "="); value != "" && (strings.Contains(name, "SECRET") || strings.Contains(name, "TOKEN")) {
			words = append(words, value)
		}
	}
	if len(words) == 0 {
		s.t.Fatal("the emulated clouds have no credentials to look for")
	}
	filepath.WalkDir(s.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			s.t.Error(err)
		}
		for _, word := range words {
			if strings.Contains(string(data), word) {
				s.t.Errorf("%s holds a credential", path)
			}
		}
		return nil
	})
}

// alive lists instances that are not on their way out.
func (s *sky) alive() []emulator.Thing {
	var up []emulator.Thing
	for _, thing := range append(s.Things("aws", "aws_instance"), s.Things("gcp", "google_compute_instance")...) {
		if thing.State != emulator.Terminated {
			up = append(up, thing)
		}
	}
	return up
}

// running lists instances that run, or are about to.
func (s *sky) running() []emulator.Thing {
	return slices.DeleteFunc(s.alive(), func(thing emulator.Thing) bool { return thing.State == emulator.Stopped })
}

// killAgents kills -9 the agents on all instances.
func (s *sky) killAgents() {
	s.t.Helper()
	killed := 0
	for _, p := range processesWith("LEVIN_MACHINE_PID=") {
		environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		for _, thing := range s.alive() {
			if strings.Contains(p.cmdline, " serve ") && strings.Contains(string(environ), thing.Machine.Name) {
				syscall.Kill(p.pid, syscall.SIGKILL)
				killed++
			}
		}
	}
	if killed == 0 {
		s.t.Error("there was no agent to kill")
	}
}

const twoClouds = `
name: two
components:
  train:
    resources: {gpu: T4, cloud: aws}
    run: echo weights > model; echo '{"loss":0.5}' > "$LEVIN_RESULT"
    outputs: [model]
  report:
    needs: [train]
    resources: {cpus: 2.., cloud: gcp}
    run: 'echo "loss ${train.result.loss}"; cat inputs/train/model'
`

// TestClouds runs one app over both clouds, by real Terraform over the real
// modules: the machines that the plan said, at their prices, and nothing left.
func TestClouds(t *testing.T) {
	t.Parallel()
	s := newSky(t, nil, "")
	o := s.run(0, s.app(twoClouds, nil))
	if got := o.logs("report"); got != "loss 0.5\nweights" {
		t.Errorf("report printed %q", got)
	}
	clouds := map[string]string{}
	for _, e := range o.find(cluster.EventMachineReady) {
		clouds[e.Component] = e.Cloud
		if e.PricePerHour <= 0 {
			t.Errorf("machine %s costs nothing", e.Machine)
		}
	}
	if clouds["train"] != "aws" || clouds["report"] != "gcp" {
		t.Errorf("machines were on %v", clouds)
	}
	for _, w := range o.find(cluster.EventWarning) {
		t.Errorf("warning: %s %s", w.Message, w.Error)
	}
	s.checkGone()
	s.checkNoSecret()
	s.checkRotated()
}

// checkRotated: no machine that became ready was reached to the end by the host
// key that went through the cloud's hands.
func (s *sky) checkRotated() {
	s.t.Helper()
	store, err := sqlite.Open(s.t.Context(), filepath.Join(s.home, "levin.db"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer store.Close()
	runs, err := store.Runs(s.t.Context(), cluster.RunFilter{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, run := range runs {
		machines, err := store.Machines(s.t.Context(), run.ID)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, m := range machines {
			inputs, err := terraform.ReadMachines(filepath.Join(s.home, "runs", run.ID, "groups", m.Group))
			if err != nil {
				s.t.Fatal(err)
			}
			first, _ := inputs[m.Name].Extra["host_key_public"].(string)
			if first == "" || m.HostKey == "" || strings.Contains(m.HostKey, first) || strings.Contains(m.HostKey, "\n") {
				s.t.Errorf("machine %s was given %q and ended with %q", m.Name, first, m.HostKey)
			}
		}
	}
}

// one is an app of one component whose work takes a while, with a deadline for
// its machine.
func one(cloud, startTimeout string) string {
	return fmt.Sprintf(`
name: one
components:
  work:
    resources: {gpu: T4, cloud: %s}
    start_timeout: %s
    run: echo started; echo result > model
    outputs: [model]
`, cloud, startTimeout)
}

// TestCloudFaults lets the cloud go wrong in each way that it can. What can be
// had elsewhere is; what cannot be had fails in the cloud's own words; nothing is
// left either way.
func TestCloudFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		faults []emulator.Fault
		start  string   // start_timeout, default 1m
		codes  []int    // exit codes that are right
		says   []string // in the last event's error
	}{
		{"no capacity in a zone", []emulator.Fault{{Kind: emulator.FaultCapacity, Zone: "ZONE"}}, "", []int{0}, nil},
		{"no capacity in a region", []emulator.Fault{{Kind: emulator.FaultCapacity, Region: "REGION"}}, "", []int{0}, nil},
		{"quota in a region", []emulator.Fault{{Kind: emulator.FaultQuota, Region: "REGION"}}, "", []int{0}, nil},
		{"no capacity anywhere", []emulator.Fault{{Kind: emulator.FaultCapacity}}, "", []int{3}, []string{"TYPE", "ZONE"}},
		{"credentials have expired", []emulator.Fault{{Kind: emulator.FaultExpired}}, "", []int{3}, []string{"no machine could be created"}},
		{"not allowed", []emulator.Fault{{Kind: emulator.FaultDenied}}, "", []int{3}, []string{"permission"}},
		{"throttled for a while", []emulator.Fault{{Kind: emulator.FaultThrottled, Times: 2}}, "", []int{0}, nil},
		{"created, and the provider dies", []emulator.Fault{{Kind: emulator.FaultLost, Times: 1}}, "", []int{0, 3}, nil},
		{"never boots", []emulator.Fault{{Kind: emulator.FaultNoBoot}}, "10s", []int{3}, []string{"cannot be reached"}},
		{"the create hangs", []emulator.Fault{{Kind: emulator.FaultHang}}, "5s", []int{3}, nil},
		{"terminate is throttled", []emulator.Fault{{Kind: emulator.FaultThrottled, Op: "terminate", Times: 3}}, "", []int{0}, nil},
		{"terminate is not answered", []emulator.Fault{{Kind: emulator.FaultUnsaid, Op: "terminate", Times: 1}}, "", []int{0}, nil},
		{"terminate and search are refused for a while", []emulator.Fault{
			{Kind: emulator.FaultExpired, Op: "terminate", Times: 1}, {Kind: emulator.FaultExpired, Op: "describe", Times: 1},
		}, "", []int{0, 3}, nil},
	} {
		for _, at := range places() {
			t.Run(tt.name+"/"+at.cloud, func(t *testing.T) {
				t.Parallel()
				s := newSky(t, nil, "")
				for _, f := range tt.faults {
					f.Region, f.Zone = at.fill(f.Region), at.fill(f.Zone)
					s.Inject(f)
				}
				start := tt.start
				if start == "" {
					start = "1m"
				}
				o := s.levin("run", s.app(one(at.cloud, start), nil), "--json")
				if !slices.Contains(tt.codes, o.code) {
					t.Errorf("exit %d, want one of %v\n%s%s", o.code, tt.codes, o.stdout, o.stderr)
				}
				finished := o.find(cluster.EventRunFinished)
				if len(finished) != 1 {
					t.Fatalf("the run did not finish\n%s%s", o.stdout, o.stderr)
				}
				for _, word := range tt.says {
					if !strings.Contains(finished[0].Error, at.fill(word)) {
						t.Errorf("the error does not speak of %q:\n%s", at.fill(word), finished[0].Error)
					}
				}
				s.checkGone()
				s.checkNoSecret()
			})
		}
	}
}

// place is where the cheapest machine with a T4 is in a cloud.
type place struct{ cloud, region, zone, typ, instances string }

func places() []place {
	return []place{
		{"aws", "us-east-1", "use1-az1", "g4dn.xlarge", "aws_instance"},
		{"gcp", "us-central1", "us-central1-a", "n1-standard-4", "google_compute_instance"},
	}
}

func (p place) fill(text string) string {
	return strings.NewReplacer("REGION", p.region, "ZONE", p.zone, "TYPE", p.typ).Replace(text)
}

// TestCloudKilledController kills -9 at each step; `levin gc` alone removes what
// that has left in the cloud, and `levin down` brings the books up to date.
func TestCloudKilledController(t *testing.T) {
	t.Parallel()
	app := `
name: one
components:
  work: {resources: {gpu: T4, cloud: CLOUD}, run: "echo started; sleep 3; echo done"}
`
	for _, at := range []cluster.EventType{
		cluster.EventMachineRequested, "creating", cluster.EventMachineReady, cluster.EventCallShipped,
		cluster.EventCallRunning, cluster.EventCallLog, cluster.EventMachineStopRequested, cluster.EventMachineGone,
	} {
		for _, where := range places() {
			t.Run(string(at)+"/"+where.cloud, func(t *testing.T) {
				t.Parallel()
				s := newSky(t, func(cfg *emulator.Config) { cfg.Boot = 300 * time.Millisecond }, "")
				p := s.start("run", s.app(strings.Replace(app, "CLOUD", where.cloud, 1), nil), "--json")
				if at == "creating" {
					waitUntil(t, "an instance is created", func() bool { return len(s.Things(where.cloud, where.instances)) > 0 })
				} else {
					p.untilType(at)
				}
				p.signal(syscall.SIGKILL)
				p.wait()
				if show := s.levin("gc", "--dry-run"); show.code != 0 {
					t.Errorf("gc --dry-run: %d\n%s%s", show.code, show.stdout, show.stderr)
				}
				gc := s.levin("gc", "--dry-run=false")
				if gc.code != 0 {
					t.Fatalf("gc: %d\n%s%s", gc.code, gc.stdout, gc.stderr)
				}
				for _, thing := range s.Left() {
					t.Errorf("gc left %s %s %s (%s)", thing.Cloud, thing.Kind, thing.ID, thing.State)
				}
				if down := s.levin("down", "--all"); down.code != 0 {
					t.Errorf("down: %d\n%s%s", down.code, down.stdout, down.stderr)
				}
				s.checkGone()
			})
		}
	}
}

// TestCloudForgotten kills -9 the controller at each step and never runs levin
// again: the agent's lease, or else the machine's own timer, ends every machine. On
// AWS that terminates it; on GCP what does not run any more still has its disk, which
// is for `levin gc`.
func TestCloudForgotten(t *testing.T) {
	t.Parallel()
	app := `
name: one
ttl: 30m
components:
  work: {resources: {gpu: T4, cloud: CLOUD}, start_timeout: 15m, run: "echo started; sleep 1"}
`
	for _, at := range []string{"creating", "machine.ready", "call.log", "call.log, and the agent is killed too"} {
		for _, where := range places() {
			t.Run(at+"/"+where.cloud, func(t *testing.T) {
				t.Parallel()
				at, agentToo := strings.CutSuffix(at, ", and the agent is killed too")
				// The ttl takes 9 seconds, and a machine that nobody reaches has 5.
				second, app := 5*time.Millisecond, strings.Replace(app, "CLOUD", where.cloud, 1)
				if agentToo { // once the agent has moved it, the timer goes by our time
					second, app = time.Second, strings.Replace(app, "ttl: 30m", "ttl: 1m", 1)
				}
				s := newSky(t, func(cfg *emulator.Config) { cfg.Second = second }, "lease: 5s\n")
				p := s.start("run", s.app(app, nil), "--json")
				if at == "creating" {
					waitUntil(t, "an instance is created", func() bool { return len(s.Things(where.cloud, where.instances)) > 0 })
				} else {
					p.untilType(cluster.EventType(at))
				}
				p.signal(syscall.SIGKILL)
				p.wait()
				if agentToo {
					s.killAgents()
				}
				waitUntil(t, "every machine ends itself", func() bool { return len(s.running()) == 0 })
				if up := s.alive(); where.cloud == "aws" && len(up) > 0 {
					t.Errorf("powered off and not terminated: %v", up)
				}
				if down := s.levin("down", "--all"); down.code != 0 {
					t.Errorf("down: %d\n%s%s", down.code, down.stdout, down.stderr)
				}
				s.checkGone()
			})
		}
	}
}

// TestSpotTakenBack: a spot machine is taken back while its work runs. What the
// work has saved comes back in the time of the notice, and goes on on another
// machine; the other machine of the group is not touched.
func TestSpotTakenBack(t *testing.T) {
	t.Parallel()
	s := newSky(t, nil, "")
	app := `
name: spot
components:
  train:
    for_each: [first, second]
    resources: {gpu: T4, spot: only}
    checkpoint: [ckpt/]
    run: |
      mkdir -p ckpt
      from=$(cat ckpt/step 2>/dev/null || echo 0)
      echo "${each} from $from"
      trap 'echo 7 > ckpt/step; echo "saved"; exit 1' TERM
      if [ ${each} = first ] && [ $from = 0 ]; then
        echo "waiting"; while :; do sleep 0.1; done
      fi
      [ ${each} = first ] || sleep 4
      echo "done from $from" > model
    outputs: [model]
`
	p := s.start("run", s.app(app, nil), "--json")
	e := p.until("the first one waits", func(e cluster.Event) bool { return e.Type == cluster.EventCallLog && e.Line == "waiting" })
	running := p.events
	machine := ""
	for _, started := range running {
		if started.Type == cluster.EventCallRunning && started.Call == e.Call {
			machine = started.Machine
		}
	}
	for _, thing := range s.alive() {
		if thing.Name == machine {
			if err := s.Preempt("aws", thing.ID, 20*time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}
	o := p.wait()
	if o.code != 0 {
		t.Fatalf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	if logs := o.logs("train"); !strings.Contains(logs, "first from 7") || strings.Contains(logs, "second from 7") {
		t.Errorf("logs:\n%s", logs)
	}
	if n := len(o.find(cluster.EventMachinePreempted)); n != 1 {
		t.Errorf("%d machines were taken back", n)
	}
	if n := len(o.find(cluster.EventMachineRequested)); n != 3 {
		t.Errorf("%d machines were asked for, want 3: only one is replaced", n)
	}
	for _, e := range o.find(cluster.EventMachineReady) {
		if !e.Spot {
			t.Errorf("machine %s is no spot machine", e.Machine)
		}
	}
	s.checkGone()
}

// TestCloudDoctor: what a run would need is looked at, and the firewall that it
// would make is planned by Terraform and read.
func TestCloudDoctor(t *testing.T) {
	t.Parallel()
	s := newSky(t, nil, "")
	app := s.app(twoClouds, nil)
	o := s.levin("doctor", app, "--cloud", "aws,gcp")
	if o.code != 0 || !strings.Contains(o.stdout, "port 22 from 127.0.0.1/32") || strings.Contains(o.stdout, "0.0.0.0/0") {
		t.Errorf("doctor: %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	big := s.levin("doctor", s.app(strings.Replace(twoClouds, "gpu: T4", "gpu: A100:8", 1), nil), "--cloud", "aws,gcp")
	if big.code != 3 || !strings.Contains(big.stdout, "On-Demand P instances") {
		t.Errorf("doctor of an app that the quotas have no room for: %d\n%s%s", big.code, big.stdout, big.stderr)
	}
	s.Inject(emulator.Fault{Kind: emulator.FaultExpired, Op: "describe"})
	if o := s.levin("doctor", "--cloud", "aws"); o.code != 3 || !strings.Contains(o.stdout, "expired") {
		t.Errorf("doctor with expired credentials: %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	if left := s.Left(); len(left) > 0 {
		t.Errorf("doctor left %v", left)
	}
}

// TestEject: an app's plan as plain Terraform, which creates the machines
// and removes them without levin; a run's machines as plain Terraform.
func TestEject(t *testing.T) {
	t.Parallel()
	s := newSky(t, nil, "")
	app := s.app(twoClouds, nil)
	dir := filepath.Join(t.TempDir(), "out")
	if o := s.levin("eject", app, dir); o.code != 0 {
		t.Fatalf("eject: %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	if o := s.levin("eject", app, dir); o.code != 2 {
		t.Errorf("eject into a folder with something in it: %d\n%s", o.code, o.stderr)
	}
	o := s.run(0, app)
	of := filepath.Join(t.TempDir(), "run")
	if o := s.levin("eject", o.events[0].Run, of); o.code != 0 {
		t.Fatalf("eject of a run: %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	key := filepath.Join(t.TempDir(), "id")
	writeKey(t, key)
	pub, err := exec.Command("ssh-keygen", "-y", "-f", key).Output()
	if err != nil {
		t.Skipf("ssh-keygen is not here: %v", err)
	}
	if err := os.WriteFile(key+".pub", pub, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{dir, of} {
		tf := func(args ...string) {
			t.Helper()
			cmd := exec.Command("terraform", args...)
			cmd.Dir = dir
			cmd.Env = append(s.env, "TF_VAR_ssh_public_key_file="+key+".pub", `TF_VAR_ingress_cidrs=["127.0.0.1/32"]`)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("terraform %v: %v\n%s", args, err, out)
			}
		}
		tf("fmt", "-check", "-recursive")
		tf("init", "-no-color")
		tf("validate", "-no-color")
		if dir == of {
			continue
		}
		tf("apply", "-no-color", "-auto-approve")
		if n := len(s.alive()); n != 2 {
			t.Errorf("%d machines are up, want 2", n)
		}
		tf("destroy", "-no-color", "-auto-approve")
	}
	s.checkGone()
}

// TestCloudReuse: the next component takes a machine over that is up and is what
// it would get.
func TestCloudReuse(t *testing.T) {
	t.Parallel()
	s := newSky(t, nil, "")
	o := s.run(0, s.app(`
name: chain
components:
  first: {resources: {cpus: 2..}, run: echo one > out, outputs: [out]}
  second: {needs: [first], resources: {cpus: 2..}, run: cat inputs/first/out}
`, nil))
	if got := o.logs("second"); got != "one" {
		t.Errorf("second printed %q", got)
	}
	if n := len(o.find(cluster.EventMachineRequested)); n != 1 {
		t.Errorf("%d machines for two components that run one after the other", n)
	}
	s.checkGone()
}

// TestRemoteState keeps the states of a run's roots behind HTTP, with locks and a
// password that comes from the environment.
func TestRemoteState(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	states, locks, seen := map[string][]byte{}, map[string]bool{}, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if _, password, _ := r.BasicAuth(); password != "open-sesame" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, _ := io.ReadAll(r.Body)
		switch r.Method {
		case "LOCK":
			if locks[r.URL.Path] {
				w.WriteHeader(http.StatusLocked)
			}
			locks[r.URL.Path] = true
		case "UNLOCK":
			delete(locks, r.URL.Path)
		case http.MethodPost:
			states[r.URL.Path] = body
			seen++
		case http.MethodDelete:
			delete(states, r.URL.Path)
		default:
			if states[r.URL.Path] == nil {
				w.WriteHeader(http.StatusNotFound)
			}
			w.Write(states[r.URL.Path])
		}
	}))
	defer server.Close()
	s := newSky(t, nil, fmt.Sprintf(`
state:
  backend: http
  config: {address: "%[1]s/${group}", lock_address: "%[1]s/${group}", unlock_address: "%[1]s/${group}", username: levin}
  env: [TF_HTTP_PASSWORD]
`, server.URL))
	s.env = append(s.env, "TF_HTTP_PASSWORD=open-sesame")
	s.run(0, s.app(twoClouds, nil))
	if seen == 0 || len(locks) > 0 {
		t.Errorf("%d states were written, locks left: %v", seen, locks)
	}
	for path, state := range states {
		var content struct{ Resources []any }
		if err := json.Unmarshal(state, &content); err != nil || len(content.Resources) > 0 {
			t.Errorf("state %s still has %v (%v)", path, content.Resources, err)
		}
	}
	s.checkGone()
	filepath.WalkDir(s.home, func(path string, d fs.DirEntry, err error) error {
		if data, readErr := os.ReadFile(path); err == nil && readErr == nil && strings.Contains(string(data), "open-sesame") {
			t.Errorf("%s holds the password", path)
		}
		return nil
	})
}

// TestOwnModule runs the worked example of a cloud of one's own.
func TestOwnModule(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/usr/sbin/sshd"); err != nil {
		t.Skip("there is no OpenSSH server here (Debian: openssh-server)")
	}
	u := newUser(t)
	u.env = append(u.env, "LEVIN_CONFIG="+absolute(t, "../../examples/own-cloud/settings.yaml"))
	o := u.run(0, absolute(t, "../../examples/own-cloud"))
	finished := o.find(cluster.EventRunFinished)
	if len(finished) != 1 || *finished[0].Leaked != 0 || *finished[0].Cost <= 0 {
		t.Errorf("finished: %+v", finished)
	}
	u.checkClean()
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}
