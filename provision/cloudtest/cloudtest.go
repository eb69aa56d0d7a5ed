// Package cloudtest holds every provision.Cloud to its contract.
package cloudtest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/terraform"
)

// Config says what is tested and with what.
type Config struct {
	// New makes a cloud that offers at least one machine. A cloud that is an
	// io.Closer is closed by the suite.
	New func(t *testing.T) provision.Cloud
	// NewClaimer takes the place of New for a cloud that counts its claims in a
	// store: that of the journal, under which the suite creates machines.
	NewClaimer func(t *testing.T, journal *cluster.Journal) provision.Cloud
	// Requests are resources to ask for beyond those that every cloud is asked for.
	Requests []configs.Resources

	// Runner, when there is one, lets the suite create and remove machines. PubKey
	// is the public key it gives them, in authorized_keys form.
	Runner terraform.Runner
	PubKey string
	// Machines is how many machines the suite creates at once; default 2. A cloud
	// that is a Claimer must have as many.
	Machines int
	// Alive says whether a machine that was ready is still there. It may be nil.
	Alive func(m cluster.Machine) bool
	// Words are messages that a Judge knows, and what they mean.
	Words map[string]provision.Verdict
}

// Run runs the suite.
func Run(t *testing.T, cfg Config) {
	t.Run("Offers", func(t *testing.T) { testOffers(t, cfg) })
	t.Run("OffersCancelled", func(t *testing.T) { testOffersCancelled(t, cfg) })
	t.Run("Input", func(t *testing.T) { testInput(t, cfg) })
	t.Run("Module", func(t *testing.T) { testModule(t, cfg) })
	t.Run("StopOfNothing", func(t *testing.T) { testStopOfNothing(t, cfg) })
	t.Run("StatusOfNothing", func(t *testing.T) { testStatusOfNothing(t, cfg) })
	t.Run("FindNothing", func(t *testing.T) { testFindNothing(t, cfg) })
	t.Run("Judge", func(t *testing.T) { testJudge(t, cfg) })
	if cfg.Runner == nil {
		return
	}
	t.Run("CreateAndStop", func(t *testing.T) { testLife(t, cfg, false) })
	t.Run("CreateAndDestroy", func(t *testing.T) { testLife(t, cfg, true) })
	t.Run("StopOfInterrupted", func(t *testing.T) { testStopOfInterrupted(t, cfg) })
	t.Run("Sweep", func(t *testing.T) { testSweep(t, cfg) })
}

func open(t *testing.T, cfg Config, journal *cluster.Journal) provision.Cloud {
	t.Helper()
	var cloud provision.Cloud
	if cfg.NewClaimer != nil {
		cloud = cfg.NewClaimer(t, journal)
	} else {
		cloud = cfg.New(t)
	}
	if c, ok := cloud.(io.Closer); ok {
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	return cloud
}

// requests are what every cloud is asked for: anything, small, big, impossible,
// and each restriction that the common rules know.
func requests(cloud provision.Cloud, cfg Config) []configs.Resources {
	all := []configs.Resources{
		{},
		{CPUs: configs.Range{Min: 1}},
		{CPUs: configs.Range{Min: 2, Max: 8}, Memory: configs.Range{Min: 1}},
		{Memory: configs.Range{Min: 1 << 40}},
		{Disk: configs.Range{Min: 10}},
		{GPU: &configs.GPU{Count: 1}},
		{GPU: &configs.GPU{Models: []string{"NO-SUCH-MODEL"}, Count: 4}},
		{Arch: "amd64"},
		{Arch: "arm64"},
		{Machine: "no-such-machine"},
		{Clouds: []string{cloud.Name()}},
		{Clouds: []string{"no-such-cloud"}},
		{Regions: []string{"no-such-region"}},
		{MaxPrice: 1e-9},
		{MaxPrice: 1e9},
	}
	return append(all, cfg.Requests...)
}

func testOffers(t *testing.T, cfg Config) {
	cloud := open(t, cfg, cluster.NewJournal(memory.New()))
	if cloud.Name() == "" {
		t.Error("the cloud has no name")
	}
	for _, r := range requests(cloud, cfg) {
		offers, err := cloud.Offers(t.Context(), r)
		if err != nil {
			t.Errorf("Offers(%+v): %v", r, err)
			continue
		}
		for _, o := range offers {
			if o.Cloud != cloud.Name() {
				t.Errorf("offer %s says cloud %q, want %q", o, o.Cloud, cloud.Name())
			}
			if o.Type == "" || o.OS == "" || o.Arch == "" {
				t.Errorf("offer %+v lacks its type, os or arch", o)
			}
			if o.PricePerHour < 0 {
				t.Errorf("offer %s costs $%g an hour", o, o.PricePerHour)
			}
			if lacks := provision.Unmet(o, r); len(lacks) > 0 {
				t.Errorf("Offers(%+v) gave %s, which does not satisfy it: %v", r, o, lacks)
			}
		}
		for i := 1; i < len(offers); i++ {
			if offers[i].PricePerHour < offers[i-1].PricePerHour {
				t.Errorf("Offers(%+v): %s is cheaper than %s and comes after it", r, offers[i], offers[i-1])
			}
		}
		again, err := cloud.Offers(t.Context(), r)
		if err != nil {
			t.Errorf("Offers(%+v), asked again: %v", r, err)
		}
		if diff := cmp.Diff(offers, again); diff != "" {
			t.Errorf("Offers(%+v) answers differently when asked again (-first +second):\n%s", r, diff)
		}
	}
	if offers, _ := cloud.Offers(t.Context(), configs.Resources{}); len(offers) == 0 {
		t.Error("a cloud under test must offer something for zero resources")
	}
}

func testOffersCancelled(t *testing.T, cfg Config) {
	cloud := open(t, cfg, cluster.NewJournal(memory.New()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// Either answer is fine, since offers need no network; hanging or another error
	// is not.
	if _, err := cloud.Offers(ctx, configs.Resources{}); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Offers with a cancelled context: %v", err)
	}
}

func testInput(t *testing.T, cfg Config) {
	cloud := open(t, cfg, cluster.NewJournal(memory.New()))
	for _, r := range requests(cloud, cfg) {
		offers, err := cloud.Offers(t.Context(), r)
		if err != nil {
			t.Fatalf("Offers(%+v): %v", r, err)
		}
		for _, o := range offers {
			in, err := cloud.Input(o, r)
			if err != nil {
				t.Errorf("Input(%s, %+v): %v", o, r, err)
				continue
			}
			again, err := cloud.Input(o, r)
			if err != nil {
				t.Errorf("Input(%s, %+v), asked again: %v", o, r, err)
			}
			if diff := cmp.Diff(in, again); diff != "" {
				t.Errorf("Input(%s) answers differently when asked again (-first +second):\n%s", o, diff)
			}
		}
	}
}

func testModule(t *testing.T, cfg Config) {
	cloud := open(t, cfg, cluster.NewJournal(memory.New()))
	for range 2 { // a second group of the same cloud asks again
		m, _, err := cloud.Module(t.Context(), "")
		if err != nil {
			t.Fatalf("Module: %v", err)
		}
		if m.Name == "" || m.Files == nil {
			t.Errorf("module %q has no name or no files", m.Name)
		}
	}
}

func testStopOfNothing(t *testing.T, cfg Config) {
	cloud := open(t, cfg, cluster.NewJournal(memory.New()))
	stopper, ok := cloud.(provision.Stopper)
	if !ok {
		t.Skip("no fast path")
	}
	if err := stopper.Stop(t.Context(), never(t, cloud)); err != nil {
		t.Errorf("Stop of a machine that never came to be: %v", err)
	}
}

// never is the row of a machine that never came to be.
func never(t *testing.T, cloud provision.Cloud) cluster.Machine {
	t.Helper()
	m := cluster.Machine{
		Name: "run-abc123-never-1", Run: "run-abc123", Component: "never",
		State: cluster.MachineStopping, Cloud: cloud.Name(),
	}
	offers, err := cloud.Offers(t.Context(), configs.Resources{})
	if err != nil || len(offers) == 0 {
		t.Fatalf("Offers: %v, %v", offers, err)
	}
	m.Region, m.Zone, m.Type = offers[0].Region, offers[0].Zone, offers[0].Type
	return m
}

func testStatusOfNothing(t *testing.T, cfg Config) {
	cloud := open(t, cfg, cluster.NewJournal(memory.New()))
	inspector, ok := cloud.(provision.Inspector)
	if !ok {
		t.Skip("no status")
	}
	status, words, err := inspector.Status(t.Context(), never(t, cloud))
	if err != nil || status != provision.StatusGone && status != provision.StatusUnknown {
		t.Errorf("Status of a machine that never came to be: %q, %q, %v", status, words, err)
	}
}

func testFindNothing(t *testing.T, cfg Config) {
	cloud := open(t, cfg, cluster.NewJournal(memory.New()))
	sweeper, ok := cloud.(provision.Sweeper)
	if !ok {
		t.Skip("cannot be searched")
	}
	if found, err := sweeper.Find(t.Context(), "run-abc123"); err != nil || len(found) > 0 {
		t.Errorf("Find of a run that never was: %v, %v", found, err)
	}
	if err := sweeper.Remove(t.Context(), nil); err != nil {
		t.Errorf("Remove of nothing: %v", err)
	}
}

func testJudge(t *testing.T, cfg Config) {
	cloud := open(t, cfg, cluster.NewJournal(memory.New()))
	judge, ok := cloud.(provision.Judge)
	if !ok {
		t.Skip("no table of words")
	}
	for _, words := range []string{
		"", " ", "\n", "\x00\xff", ":", "::::", "()", "a: b: c", "{\"error\":", strings.Repeat("x: ", 10_000), "no such words at all",
		"Reference to undeclared resource", "Invalid count argument: the number is not known",
	} {
		if v, ok := judge.Judge(words); ok {
			t.Errorf("Judge knows %.40q to mean %+v", words, v)
		}
	}
	for words, want := range cfg.Words {
		got, ok := judge.Judge(words)
		if !ok || got.Kind != want.Kind || got.Scope != want.Scope {
			t.Errorf("Judge(%q) = %+v, %v, want %+v", words, got, ok, want)
		}
		if again, _ := judge.Judge(words); again != got {
			t.Errorf("Judge(%q) answers differently when asked again", words)
		}
	}
}
