package aws

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/catalog"
	"github.com/levinrun/levin/provision/cloudtest/emulator"
)

func TestMain(m *testing.M) {
	// What the machine that runs the tests is signed in to is none of their business.
	for _, kv := range os.Environ() {
		if k, _, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "AWS_") {
			os.Unsetenv(k)
		}
	}
	for k, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIATESTING", "AWS_SECRET_ACCESS_KEY": "testing",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		os.Setenv(k, v)
	}
	goleak.VerifyTestMain(m)
}

// world is a cloud at some endpoint that the suite can put things into.
type world interface {
	endpoint() string
	// instance makes a running one and gives its id.
	instance(t *testing.T, region, typ string, spot bool, tags map[string]string) string
	// litter makes a key, a security group, a placement group and a disk that are in
	// nobody's use, and one security group that the instance uses until it is gone,
	// where that can be.
	litter(t *testing.T, region, instance string, tags map[string]string)
	// tags gives the tags of an instance.
	tags(t *testing.T, region, id string) map[string]string
	// state gives the state of an instance as EC2 names it, "" for one that is not
	// there.
	state(t *testing.T, region, id string) string
}

func newCloud(t *testing.T, endpoint string, settings configs.CloudSettings) *Cloud {
	t.Helper()
	settings.Endpoint = endpoint
	c, err := New(Config{Settings: settings, CacheDir: t.TempDir(), Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	c.poll, c.settle = 2*time.Millisecond, 20*time.Millisecond
	t.Cleanup(func() { c.Close() })
	return c
}

func tagsOf(run, name string) map[string]string {
	return map[string]string{tagRun: run, tagName: name, tagComponent: "train", tagOwner: "ann", tagExpires: "1800000000"}
}

// suite is what must hold whatever stands at the endpoint.
func suite(t *testing.T, w world) {
	const region = "us-east-2"
	two := configs.CloudSettings{Regions: []string{region, "eu-west-1"}}
	long := time.Now().Add(-time.Hour)
	machine := func(id, run, name string) cluster.Machine {
		return cluster.Machine{Name: name, Run: run, Component: "train", Cloud: "aws", Region: region, CloudID: id,
			CreatingAt: long, ReadyAt: long, StopRequestedAt: long}
	}

	t.Run("StopByID", func(t *testing.T) {
		c := newCloud(t, w.endpoint(), two)
		id := w.instance(t, region, "t3.micro", false, tagsOf("run-a", "run-a-train-1"))
		other := w.instance(t, region, "t3.micro", false, tagsOf("run-a", "run-a-train-2"))
		for range 2 { // the second time it is gone already
			if err := c.Stop(t.Context(), machine(id, "run-a", "run-a-train-1")); err != nil {
				t.Fatal(err)
			}
			if s := w.state(t, region, id); s != "terminated" {
				t.Errorf("the machine is %q after Stop", s)
			}
		}
		if s := w.state(t, region, other); s != "running" {
			t.Errorf("another machine is %q", s)
		}
	})

	t.Run("StopByName", func(t *testing.T) {
		c := newCloud(t, w.endpoint(), two)
		id := w.instance(t, region, "t3.micro", false, tagsOf("run-b", "run-b-train-1"))
		other := w.instance(t, region, "t3.micro", false, tagsOf("run-c", "run-b-train-1"))
		m := machine("", "run-b", "run-b-train-1")
		if err := c.Stop(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if s := w.state(t, region, id); s != "terminated" {
			t.Errorf("the machine is %q after Stop", s)
		}
		if s := w.state(t, region, other); s != "running" {
			t.Errorf("the machine of another run is %q", s)
		}
		m.Region = "" // as little as can be known
		if err := c.Stop(t.Context(), m); err != nil {
			t.Error(err)
		}
	})

	t.Run("StopOfNothing", func(t *testing.T) {
		c := newCloud(t, w.endpoint(), two)
		for _, m := range []cluster.Machine{
			machine("i-0123456789abcdef0", "run-d", "run-d-train-1"), machine("", "run-d", "run-d-train-1"),
			{Name: "run-d-train-1", Run: "run-d", Region: region, CreatingAt: time.Now(), ReadyAt: time.Now()},
		} {
			if err := c.Stop(t.Context(), m); err != nil {
				t.Errorf("Stop(%+v): %v", m, err)
			}
		}
	})

	t.Run("StopMany", func(t *testing.T) {
		c := newCloud(t, w.endpoint(), two)
		var all sync.WaitGroup
		for n := range 20 {
			name := fmt.Sprintf("run-e-train-%d", n)
			id := w.instance(t, region, "t3.micro", false, tagsOf("run-e", name))
			if n == 7 { // one that EC2 has forgotten does not keep the others
				all.Go(func() {
					if err := c.Stop(t.Context(), machine("i-0fedcba9876543210", "run-e", "x")); err != nil {
						t.Error(err)
					}
				})
			}
			all.Go(func() {
				if err := c.Stop(t.Context(), machine(id, "run-e", name)); err != nil {
					t.Error(err)
				}
				if s := w.state(t, region, id); s != "terminated" {
					t.Errorf("machine %d is %q after Stop", n, s)
				}
			})
		}
		all.Wait()
	})

	t.Run("Status", func(t *testing.T) {
		c := newCloud(t, w.endpoint(), two)
		id := w.instance(t, region, "t3.micro", false, tagsOf("run-f", "run-f-train-1"))
		for _, m := range []cluster.Machine{machine(id, "run-f", "run-f-train-1"), machine("", "run-f", "run-f-train-1")} {
			if s, words, err := c.Status(t.Context(), m); s != provision.StatusRunning || words != "" || err != nil {
				t.Errorf("status is %q (%s), error %v", s, words, err)
			}
		}
		m := machine(id, "run-f", "run-f-train-1")
		if err := c.Stop(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if s, words, err := c.Status(t.Context(), m); s != provision.StatusGone || !strings.HasPrefix(words, "Client.UserInitiatedShutdown") || err != nil {
			t.Errorf("status is %q (%s), error %v", s, words, err)
		}
		if s, _, err := c.Status(t.Context(), machine("i-0123456789abcdef0", "run-f", "x")); s != provision.StatusGone || err != nil {
			t.Errorf("status of none is %q, error %v", s, err)
		}
	})

	t.Run("Extend", func(t *testing.T) {
		c := newCloud(t, w.endpoint(), two)
		id := w.instance(t, region, "t3.micro", false, tagsOf("run-g", "run-g-train-1"))
		for n, m := range []cluster.Machine{machine(id, "run-g", "run-g-train-1"), machine("", "run-g", "run-g-train-1")} {
			until := time.Unix(1900000000+int64(n), 0)
			if err := c.Extend(t.Context(), m, until); err != nil {
				t.Fatal(err)
			}
			want := tagsOf("run-g", "run-g-train-1")
			want[tagExpires] = fmt.Sprint(until.Unix())
			if got := w.tags(t, region, id); !slices.Equal(pairs(got), pairs(want)) {
				t.Errorf("tags are %v, want %v", got, want)
			}
		}
		if err := c.Extend(t.Context(), machine("", "run-g", "none"), time.Now()); err == nil {
			t.Error("a machine that is not there was extended")
		}
	})

	t.Run("Sweep", func(t *testing.T) { testSweep(t, w) })

	t.Run("Preflight", func(t *testing.T) {
		c := newCloud(t, w.endpoint(), configs.CloudSettings{})
		findings := c.Preflight(t.Context(), []provision.Offer{
			{Region: region, Type: "g4dn.xlarge", CPUs: 4}, {Region: region, Type: "t3.micro", CPUs: 2, Spot: true},
			{Region: "eu-west-1", Type: "t3.micro", CPUs: 2},
		})
		for check, times := range map[string]int{"credentials": 1, "network": 2, "permissions": 2, "quota": 3} {
			for _, f := range findings {
				if f.Check == check {
					times--
					if !f.OK {
						t.Errorf("%s: %s", f.Check, f.Text)
					}
				}
			}
			if times != 0 {
				t.Errorf("findings about %s are off by %d: %+v", check, times, findings)
			}
		}
	})

	t.Run("Refresh", func(t *testing.T) {
		c := newCloud(t, w.endpoint(), two)
		var lines []string
		if err := c.Refresh(t.Context(), func(line string) { lines = append(lines, line) }); err != nil {
			t.Fatal(err)
		}
		if len(lines) < 2 {
			t.Errorf("progress is %q", lines)
		}
		cat, err := catalog.Load(kind, c.cfg.CacheDir)
		if err != nil {
			t.Fatal(err)
		}
		if cat.Days(time.Now()) > 1 {
			t.Errorf("the catalog is of %v", cat.AsOf)
		}
		for _, region := range two.Regions {
			for _, spot := range []bool{false, true} {
				if p, ok := cat.Price("t3.micro", region, spot); !ok || p <= 0 || p > 1 {
					t.Errorf("t3.micro in %s (spot %v) costs %v", region, spot, p)
				}
			}
		}
		offers, err := c.Offers(t.Context(), configs.Resources{GPU: &configs.GPU{Models: []string{"T4"}, Count: 1}})
		if err != nil || len(offers) == 0 {
			t.Errorf("no T4 after the refresh: %v", err)
		}
	})
}

func pairs(m map[string]string) []string {
	var all []string
	for k, v := range m {
		all = append(all, k+"="+v)
	}
	slices.Sort(all)
	return all
}

func testSweep(t *testing.T, w world) {
	const region, elsewhere = "us-east-2", "eu-west-1"
	c := newCloud(t, w.endpoint(), configs.CloudSettings{Regions: []string{region, elsewhere}})
	one := w.instance(t, region, "t3.micro", false, tagsOf("run-s", "run-s-train-1"))
	two := w.instance(t, elsewhere, "g4dn.xlarge", true, tagsOf("run-s", "run-s-train-2"))
	others := w.instance(t, region, "t3.micro", false, tagsOf("run-t", "run-t-train-1"))
	ended := w.instance(t, region, "t3.micro", false, tagsOf("run-s", "run-s-train-3"))
	unknown := w.instance(t, region, "t3.micro", false, map[string]string{tagName: "somebody's"})
	if err := c.Stop(t.Context(), cluster.Machine{Name: "run-s-train-3", Run: "run-s", Region: region, CloudID: ended}); err != nil {
		t.Fatal(err)
	}
	w.litter(t, region, one, tagsOf("run-s", ""))

	found, err := c.Find(t.Context(), "run-s")
	if err != nil {
		t.Fatal(err)
	}
	machines := map[string]provision.Found{}
	kinds := map[string]int{}
	for _, f := range found {
		kinds[f.Kind]++
		if f.Run != "run-s" || f.Owner != "ann" || f.Component != "train" || f.Cloud != "aws" || !f.ExpiresAt.Equal(time.Unix(1800000000, 0)) {
			t.Errorf("found %+v", f)
		}
		if f.Kind == kindMachine {
			machines[f.ID] = f
		}
	}
	if kinds[kindMachine] != 2 || kinds[kindKey] != 1 || kinds[kindFirewall] != 2 || kinds[kindPlacement] != 1 || kinds[kindDisk] != 1 {
		t.Errorf("found %v: %+v", kinds, found)
	}
	spot := machines[two]
	if spot.Name != "run-s-train-2" || !spot.Spot || spot.Type != "g4dn.xlarge" || spot.Region != elsewhere || spot.Status != provision.StatusRunning ||
		spot.Zone == "" || spot.PricePerHour <= 0 || spot.PricePerHour > 1 || spot.CreatedAt.IsZero() {
		t.Errorf("the spot machine is %+v", spot)
	}
	if f := machines[one]; f.Spot || f.PricePerHour <= 0 || f.PricePerHour > 0.1 {
		t.Errorf("the other machine is %+v", f)
	}
	all, err := c.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(f provision.Found) bool { return f.ID == others && f.Run == "run-t" }) {
		t.Error("the machine of another run is not among all")
	}
	if slices.ContainsFunc(all, func(f provision.Found) bool { return f.ID == unknown || f.ID == ended }) {
		t.Error("found what is not Levin's, or is gone")
	}

	for range 2 { // the second time everything is gone already
		if err := c.Remove(t.Context(), found); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := c.Find(t.Context(), "run-s"); err != nil || len(left) > 0 {
		t.Errorf("left are %+v, error %v", left, err)
	}
	if s := w.state(t, region, others); s != "running" {
		t.Errorf("the machine of another run is %q", s)
	}
}

// inBooks is the world of the emulator's APIs.
type inBooks struct{ *books }

func (w inBooks) endpoint() string { return w.url }

func (w inBooks) instance(_ *testing.T, region, typ string, spot bool, tags map[string]string) string {
	return w.add(emulator.Thing{Kind: "aws_instance", Name: tags[tagName], Region: region, Zone: emulator.Zones(emulator.AWS, region)[0],
		Type: typ, Spot: spot, Tags: tags, State: emulator.Running})
}

func (w inBooks) litter(_ *testing.T, region, instance string, tags map[string]string) {
	delete(tags, tagName)
	for _, kind := range []string{"aws_key_pair", "aws_placement_group"} {
		w.add(emulator.Thing{Kind: kind, ID: "levin-" + kind, Region: region, Tags: tags})
	}
	w.add(emulator.Thing{Kind: "aws_security_group", Region: region, Tags: tags})
	w.add(emulator.Thing{Kind: "aws_ebs_volume", Region: region, Tags: tags})
	used := w.add(emulator.Thing{Kind: "aws_security_group", Region: region, Tags: tags})
	w.set(instance, func(t *emulator.Thing) { t.Uses = []string{used} })
}

func (w inBooks) tags(t *testing.T, _, id string) map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.find(id).Tags
}

func (w inBooks) state(t *testing.T, _, id string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	thing := w.find(id)
	if thing == nil {
		return ""
	}
	return map[emulator.State]string{emulator.Running: "running", emulator.Terminated: "terminated", emulator.Terminating: "shutting-down"}[thing.State]
}

func TestAgainstEmulator(t *testing.T) {
	b := newBooks(t)
	b.linger = 2
	suite(t, inBooks{b})
}
