package provision

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
)

// What a module of a cloud of VMs is told.
func TestRootOfVMs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		asked := 0
		backend := &terraform.Backend{Type: "http"}
		b := newBench(t, func(c *Config) {
			c.TTL, c.Unreached = 24*time.Hour, 90*time.Second+1
			c.Backend, c.BackendEnv = backend, map[string]string{"TF_HTTP_PASSWORD": "x", "CLOUD": "not this"}
			c.Ingress = func(context.Context) ([]string, error) {
				asked++
				return []string{"192.0.2.1/32"}, nil
			}
		})
		start := time.Now()
		r := ask("train", 1, placed(vmSmall, "east", "east-a", "spot"))
		r.Ports = []int{8080}
		if _, err := b.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		b.mustCreate(1, "eval", vmSmall)
		if asked != 1 {
			t.Errorf("the address was asked for %d times", asked)
		}
		if want := map[string]string{"TF_HTTP_PASSWORD": "x", "CLOUD": "vm"}; !maps.Equal(b.world.env, want) {
			t.Errorf("the environment is %v, want %v", b.world.env, want)
		}
		keys := map[string]bool{}
		for _, root := range b.world.roots {
			if !slices.Equal(root.IngressCIDRs, []string{"192.0.2.1/32"}) || root.TTL != 86400 || root.Backend != backend {
				t.Errorf("the root has ingress %v, ttl %d, backend %v", root.IngressCIDRs, root.TTL, root.Backend)
			}
			if got := root.Tags["levin-expires"]; got < strconv.FormatInt(start.Unix()+86400, 10) || got > strconv.FormatInt(start.Unix()+86401, 10) {
				t.Errorf("levin-expires is %s", got)
			}
			for name, in := range root.Machines {
				if in.Extra["unreached_seconds"] != 91 || in.Extra["component"] == "" {
					t.Errorf("extra of %s is %v", name, in.Extra)
				}
				private, err := ssh.ParsePrivateKey([]byte(in.Extra["host_key"].(string)))
				if err != nil {
					t.Fatal(err)
				}
				public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(private.PublicKey())))
				if public != in.Extra["host_key_public"] || keys[public] || private.PublicKey().Type() != ssh.KeyAlgoED25519 {
					t.Errorf("the host key of %s is %s, its public half %s", name, public, in.Extra["host_key_public"])
				}
				keys[public] = true
			}
		}
		m := b.machine("app-abc123-train-1")
		if !m.Spot || m.ExpiresAt.Sub(m.CreatingAt) != 24*time.Hour {
			t.Errorf("the row is %+v", m)
		}
		for _, root := range b.world.roots {
			if in, ok := root.Machines[m.Name]; ok && !slices.Equal(in.Ports, []int{8080}) {
				t.Errorf("ports are %v", in.Ports)
			}
		}
		b.finish()
	})
}

// A module without host keys or firewall is asked for neither, and without a TTL
// nothing expires.
func TestRootOfPlainClouds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, func(c *Config) {
			c.Ingress = func(context.Context) ([]string, error) { return nil, errors.New("no internet") }
		})
		m := b.mustCreate(1, "a", fastSmall)[0]
		for _, root := range b.world.roots {
			in := root.Machines[m.Name]
			if len(in.Extra) != 1 || root.TTL != 0 || root.Tags["levin-expires"] != "" || root.IngressCIDRs != nil {
				t.Errorf("the root is %+v", root)
			}
		}
		if !m.ExpiresAt.IsZero() {
			t.Errorf("the machine expires at %v", m.ExpiresAt)
		}
		// With a firewall it matters.
		if _, err := b.Create(t.Context(), ask("b", 1, vmSmall)); err == nil || !strings.Contains(err.Error(), "no internet") {
			t.Errorf("error is %v", err)
		}
		b.finish()
	})
}

func TestHostKeysDiffer(t *testing.T) {
	keys, err := newHostKeys(3)
	if err != nil || keys[0] == keys[1] || keys[1] == keys[2] {
		t.Errorf("keys are %v, error %v", keys, err)
	}
	raw, err := ssh.ParseRawPrivateKey([]byte(keys[0].private))
	if _, ok := raw.(*ed25519.PrivateKey); !ok || err != nil {
		t.Errorf("the key is a %T, error %v", raw, err)
	}
}

func TestSetHostKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(t, nil)
		m := b.mustCreate(1, "a", vmSmall)[0]
		if err := b.SetHostKey(m.Name, "ssh-ed25519 BBBB\nssh-ed25519 AAAA"); err != nil {
			t.Fatal(err)
		}
		if got := b.machine(m.Name); got.HostKey != "ssh-ed25519 BBBB\nssh-ed25519 AAAA" || got.State != cluster.MachineReady {
			t.Errorf("the row is %+v", got)
		}
		if err := b.SetHostKey("nobody", "x"); err == nil {
			t.Error("a machine that is not there got a host key")
		}
		b.Stop(m.Name, "finished")
		b.finish()
		if got := b.machine(m.Name).HostKey; !strings.Contains(got, "BBBB") {
			t.Errorf("the host key is forgotten: %q", got)
		}
	})
}

// extender is a Config.Extend that writes down what it was asked.
type extender struct {
	mu    sync.Mutex
	asked map[string][]time.Time
	most  int // at the same time
	now   int
	fail  func(m cluster.Machine) error
}

func (e *extender) extend(_ context.Context, m cluster.Machine, until time.Time) error {
	e.mu.Lock()
	e.now++
	e.most = max(e.most, e.now)
	if e.asked == nil {
		e.asked = map[string][]time.Time{}
	}
	e.asked[m.Name] = append(e.asked[m.Name], time.Now())
	fail := e.fail
	e.mu.Unlock()
	time.Sleep(time.Millisecond)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now--
	if fail != nil {
		return fail(m)
	}
	return nil
}

// times gives when it was asked about a machine.
func (e *extender) times(name string) []time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.asked[name])
}

// The end of machines that work is put off before it comes, on the machine, in
// the cloud and in the store, for as long as they are wanted.
func TestEndIsPutOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		e := &extender{}
		b := newBench(t, func(c *Config) { c.TTL, c.Extend = 24*time.Hour, e.extend })
		const n = 40
		machines := b.mustCreate(n, "a", vmSmall)
		b.mustCreate(1, "plain", fastSmall)
		b.Stop(machines[0].Name, "finished")
		for range 10 {
			time.Sleep(10 * time.Hour)
			for _, m := range b.machines() {
				left := time.Until(m.ExpiresAt)
				b.world.mu.Lock()
				tagged := b.world.made[m.Name].ExpiresAt
				b.world.mu.Unlock()
				switch {
				case m.Name == machines[0].Name:
				case left < 6*time.Hour || left > 24*time.Hour:
					t.Errorf("%s has %v left", m.Name, left)
				case m.Cloud == "vm" && tagged.Sub(m.ExpiresAt).Abs() > time.Second:
					t.Errorf("%s expires at %v, its tag says %v", m.Name, m.ExpiresAt, tagged)
				}
			}
		}
		if got := len(e.times(machines[0].Name)); got != 0 {
			t.Errorf("the end of a machine that was stopped was put off %d times", got)
		}
		if got := len(e.times(machines[1].Name)); got < 8 || got > 9 {
			t.Errorf("the end was put off %d times in 100 hours, want every 12 hours", got)
		}
		e.mu.Lock()
		if e.most > extendParallel || e.most < 2 {
			t.Errorf("%d ends were put off at the same time", e.most)
		}
		e.mu.Unlock()
		if w := b.warnings(""); len(w) > 0 {
			t.Errorf("warnings: %+v", w)
		}
		b.finish()
	})
}

// What fails is warned of and tried again in time.
func TestPuttingOffIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var fails atomic.Int64
		fails.Store(3)
		e := &extender{}
		e.fail = func(cluster.Machine) error {
			if fails.Add(-1) >= 0 {
				return errors.New("no answer")
			}
			return nil
		}
		b := newBench(t, func(c *Config) { c.TTL, c.Extend = 24*time.Hour, e.extend })
		m := b.mustCreate(1, "a", vmSmall)[0]
		time.Sleep(18 * time.Hour)
		if left := time.Until(b.machine(m.Name).ExpiresAt); left < 17*time.Hour {
			t.Errorf("after three quarters of the TTL it has %v left", left)
		}
		if got := len(b.warnings("no answer")); got != 3 {
			t.Errorf("%d warnings, want 3", got)
		}
		// Failing for good ends with the machine's end.
		fails.Store(1 << 30)
		time.Sleep(100 * time.Hour)
		if got := len(b.warnings("no time to try again")); got != 1 {
			t.Errorf("%d warnings that it is over, want 1", got)
		}
		asked := len(e.times(m.Name))
		time.Sleep(100 * time.Hour)
		if len(e.times(m.Name)) != asked {
			t.Error("it is asked for a machine whose end has come")
		}
		b.finish()
	})
}

// An end that cannot be moved is announced an hour before it comes.
func TestFixedEnd(t *testing.T) {
	for _, how := range []string{"says so", "nobody can"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				e := &extender{fail: func(cluster.Machine) error { return fmt.Errorf("gcp: %w", ErrExpiryFixed) }}
				b := newBench(t, func(c *Config) {
					c.TTL = 24 * time.Hour
					if how == "says so" {
						c.Extend = e.extend
					}
				})
				m := b.mustCreate(1, "a", vmSmall)[0]
				time.Sleep(22*time.Hour + 59*time.Minute)
				if w := b.warnings(""); len(w) > 0 {
					t.Errorf("warned early: %+v", w)
				}
				time.Sleep(2 * time.Minute)
				if w := b.warnings("cannot be put off"); len(w) != 1 || w[0].Machine != m.Name {
					t.Errorf("warnings are %+v, want one", w)
				}
				time.Sleep(100 * time.Hour)
				if w := b.warnings(""); len(w) != 1 {
					t.Errorf("%d warnings, want one", len(w))
				}
				if len(e.times(m.Name)) > 1 {
					t.Errorf("asked %d times", len(e.times(m.Name)))
				}
				if got := b.world.asked("extend"); len(got) > 0 {
					t.Errorf("tags say what is not so: %v", got)
				}
				b.finish()
			})
		})
	}
}
