package aws

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/cloudtest/emulator"
)

const home = "us-east-1"

// running puts an instance into the books and gives its machine.
func (b *books) running(n int) cluster.Machine {
	name := fmt.Sprintf("run-x-train-%d", n)
	id := b.add(emulator.Thing{Kind: "aws_instance", Name: name, Region: home, Zone: "use1-az1", Type: "t3.micro",
		Tags: tagsOf("run-x", name), State: emulator.Running})
	return cluster.Machine{Name: name, Run: "run-x", Cloud: "aws", Region: home, CloudID: id}
}

// fail lets every operation op fail with kind, times times; 0 is always.
func (b *books) fail(op string, kind emulator.FaultKind, times int) {
	left := times
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = func(is string) (emulator.FaultKind, bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if is != op || times > 0 && left == 0 {
			return "", false
		}
		left--
		return kind, true
	}
}

// until waits until something that other goroutines do is done.
func until(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("it never happens")
		}
	}
}

// The first thing that is asked of AWS is to terminate the machine.
func TestStopIsTheFirstRequest(t *testing.T) {
	b := newBooks(t)
	var mu sync.Mutex
	var asked []string
	b.arrived = func(action string) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, action)
	}
	c := newCloud(t, b.url, configs.CloudSettings{})
	if err := c.Stop(t.Context(), b.running(1)); err != nil {
		t.Fatal(err)
	}
	if asked[0] != "TerminateInstances" {
		t.Errorf("AWS was asked for %v", asked)
	}
}

// Machines that end together are few requests, and the first ones do not wait for
// the others.
func TestStopGathers(t *testing.T) {
	const machines = 100
	b := newBooks(t)
	b.linger = 3
	release := make(chan struct{})
	b.arrived = func(action string) {
		if action == "TerminateInstances" {
			<-release
		}
	}
	c := newCloud(t, b.url, configs.CloudSettings{})
	r, err := c.in(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for n := range machines {
		m := b.running(n)
		all.Go(func() {
			if err := c.Stop(t.Context(), m); err != nil {
				t.Error(err)
			}
		})
	}
	// Some are under way, though no answer has come yet, and all others wait.
	until(t, func() bool {
		r.ending.mu.Lock()
		defer r.ending.mu.Unlock()
		return b.named("TerminateInstances") > 0 && b.named("TerminateInstances")+len(r.ending.next) == machines
	})
	close(release)
	all.Wait()
	if n := b.called("TerminateInstances"); n > flights+1 {
		t.Errorf("%d machines were ended with %d requests", machines, n)
	}
	// Each look is three pages of the emulator at the most.
	if n := b.called("DescribeInstances"); n > 3*20 {
		t.Errorf("%d machines were looked at with %d requests", machines, n)
	}
	for _, thing := range b.Things(emulator.AWS, "aws_instance") {
		if thing.State != emulator.Terminated {
			t.Errorf("%s is %s", thing.Name, thing.State)
		}
	}
}

// A machine that is shutting down is not gone.
func TestStopWaitsForTheEnd(t *testing.T) {
	b := newBooks(t)
	b.linger = 1 << 30
	m := b.running(1)
	c := newCloud(t, b.url, configs.CloudSettings{})
	stopped := make(chan error, 1)
	go func() { stopped <- c.Stop(t.Context(), m) }()
	until(t, func() bool { return b.called("DescribeInstances") > 3 })
	select {
	case err := <-stopped:
		t.Fatalf("Stop returned while the machine was shutting down: %v", err)
	default:
	}
	b.set(m.CloudID, func(thing *emulator.Thing) { thing.State = emulator.Terminated })
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// EC2 may not know an instance yet that it has just created.
func TestStopOfANewMachine(t *testing.T) {
	for _, test := range []struct {
		name, action string
		machine      cluster.Machine
	}{
		{"by id", "TerminateInstances", cluster.Machine{CloudID: "i-0123456789abcdef0", CreatingAt: time.Now(), ReadyAt: time.Now()}},
		{"by name, create interrupted", "DescribeInstances", cluster.Machine{CreatingAt: time.Now().Add(-time.Hour), StopRequestedAt: time.Now()}},
		{"by name, stop not written", "DescribeInstances", cluster.Machine{CreatingAt: time.Now()}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBooks(t)
			c := newCloud(t, b.url, configs.CloudSettings{})
			c.settle = time.Hour
			m := test.machine
			m.Name, m.Run, m.Region = "run-x-train-1", "run-x", home
			var asked atomic.Int32
			b.arrived = func(action string) {
				if action == test.action && asked.Add(1) == 3 {
					b.add(emulator.Thing{ID: "i-0123456789abcdef0", Kind: "aws_instance", Name: m.Name, Region: home, Type: "t3.micro",
						Tags: tagsOf(m.Run, m.Name), State: emulator.Running})
				}
			}
			if err := c.Stop(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			if all := b.Things(emulator.AWS, "aws_instance"); len(all) != 1 || all[0].State != emulator.Terminated {
				t.Errorf("the machine that came late is %+v", all)
			}
		})
	}
}

// One that was never even asked for is not waited for.
func TestStopOfAMachineThatWasNeverAskedFor(t *testing.T) {
	b := newBooks(t)
	c := newCloud(t, b.url, configs.CloudSettings{})
	c.settle = time.Hour
	if err := c.Stop(t.Context(), cluster.Machine{Name: "n", Run: "r", Region: home, StopRequestedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
}

func TestStopWithFaults(t *testing.T) {
	for _, test := range []struct {
		name   string
		op     string
		fault  emulator.FaultKind
		times  int
		kind   cluster.FailureKind // of the error; "" is none
		words  string
		ended  bool
		action string
	}{
		{"throttled for a moment", "terminate", emulator.FaultThrottled, 2, "", "", true, ""},
		{"the answer is lost", "terminate", emulator.FaultUnsaid, 1, "", "", true, ""},
		{"not allowed", "terminate", emulator.FaultDenied, 0, cluster.Auth, "UnauthorizedOperation: ", false, ""},
		{"signed out", "terminate", emulator.FaultExpired, 0, cluster.Auth, "RequestExpired: Request has expired.", false, ""},
		{"signed out while it ends", "describe", emulator.FaultExpired, 0, cluster.Auth, "RequestExpired", true, ""},
		{"throttled while it ends", "describe", emulator.FaultThrottled, 2, "", "", true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBooks(t)
			b.linger = 3
			b.fail(test.op, test.fault, test.times)
			c := newCloud(t, b.url, configs.CloudSettings{})
			err := c.Stop(t.Context(), b.running(1))
			if cluster.KindOf(err) != test.kind || (err == nil) != (test.kind == "") {
				t.Fatalf("Stop gave %v", err)
			}
			if err != nil && (!strings.Contains(err.Error(), test.words) || !strings.Contains(err.Error(), "run-x-train-1") || strings.Count(err.Error(), "\n") != 1) {
				t.Errorf("the error is %q", err)
			}
			if is := b.Things(emulator.AWS, "aws_instance")[0].State != emulator.Running; is != test.ended {
				t.Errorf("it was ended: %v, want %v", is, test.ended)
			}
		})
	}
}

func TestStopGivesUpWithItsContext(t *testing.T) {
	for _, op := range []string{"terminate", "describe"} {
		t.Run(op, func(t *testing.T) {
			b := newBooks(t)
			b.fail(op, emulator.FaultHang, 0)
			action := map[string]string{"terminate": "TerminateInstances", "describe": "DescribeInstances"}[op]
			c := newCloud(t, b.url, configs.CloudSettings{})
			ctx, cancel := context.WithCancel(t.Context())
			stopped := make(chan error, 1)
			go func() { stopped <- c.Stop(ctx, b.running(1)) }()
			until(t, func() bool { return b.called(action) > 0 })
			cancel()
			if err := <-stopped; !errors.Is(err, context.Canceled) {
				t.Errorf("Stop gave %v", err)
			}
			c.Close() // before the server, which waits for its requests
		})
	}
}

// A closed cloud says so, and nobody waits for it for ever.
func TestStopOfAClosedCloud(t *testing.T) {
	b := newBooks(t)
	b.linger = 1 << 30
	c := newCloud(t, b.url, configs.CloudSettings{})
	m := b.running(1)
	stopped := make(chan error, 1)
	go func() { stopped <- c.Stop(t.Context(), m) }()
	until(t, func() bool { return b.called("DescribeInstances") > 0 })
	c.Close()
	if err := <-stopped; err == nil {
		t.Error("Stop gave no error though the machine was not gone")
	}
	if err := c.Stop(t.Context(), m); !errors.Is(err, errClosed) {
		t.Errorf("Stop after Close gave %v", err)
	}
}

// What EC2 refuses for the sake of one instance is done for the others.
func TestTerminateSparesTheOthers(t *testing.T) {
	b := newBooks(t)
	c := newCloud(t, b.url, configs.CloudSettings{})
	r, err := c.in(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	one, two := b.running(1).CloudID, b.running(2).CloudID
	unknown, alsoUnknown, malformed := "i-0fedcba9876543210", "i-0fedcba9876543211", "not-an-id"
	got := r.terminate(t.Context(), []string{one, unknown, malformed, alsoUnknown, two})
	for _, id := range []string{one, two} {
		if o := got[id]; o.err != nil || o.value.never {
			t.Errorf("%s: %+v", id, o)
		}
	}
	for _, id := range []string{unknown, alsoUnknown} {
		if o := got[id]; o.err != nil || !o.value.never {
			t.Errorf("%s: %+v", id, o)
		}
	}
	if got[malformed].err == nil {
		t.Error("an id that is none was taken for an instance that is gone")
	}
}

// All pages are read.
func TestDescribePages(t *testing.T) {
	b := newBooks(t)
	var ids []string
	for n := range 250 {
		ids = append(ids, b.running(n).CloudID)
	}
	c := newCloud(t, b.url, configs.CloudSettings{})
	r, err := c.in(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	found, err := r.instances(t.Context(), ids)
	if err != nil || len(found) != len(ids) {
		t.Errorf("%d of %d instances were found, error %v", len(found), len(ids), err)
	}
}

func TestStatusOfAPreemptedMachine(t *testing.T) {
	b := newBooks(t)
	m := b.running(1)
	c := newCloud(t, b.url, configs.CloudSettings{})
	for _, test := range []struct {
		state  emulator.State
		reason string
		want   provision.Status
	}{
		{emulator.Pending, "", provision.StatusBooting},
		{emulator.Running, "", provision.StatusRunning},
		{emulator.Stopped, "Client.UserInitiatedShutdown: User initiated shutdown", provision.StatusStopped},
		{emulator.Terminated, "Server.SpotInstanceTermination: Spot instance termination", provision.StatusPreempted},
		{emulator.Terminated, "Client.InstanceInitiatedShutdown: Instance initiated shutdown", provision.StatusGone},
	} {
		b.set(m.CloudID, func(thing *emulator.Thing) { thing.State, thing.Reason = test.state, test.reason })
		if s, words, err := c.Status(t.Context(), m); s != test.want || err != nil || words != test.reason {
			t.Errorf("status of %s (%s) is %s (%s), error %v", test.state, test.reason, s, words, err)
		}
	}
}

// source gives credentials that last for an hour.
type source struct{ asked atomic.Int32 }

func (s *source) Retrieve(context.Context) (awssdk.Credentials, error) {
	n := s.asked.Add(1)
	if n == 3 {
		return awssdk.Credentials{}, errors.New("the sign-in service is away for a moment")
	}
	return awssdk.Credentials{AccessKeyID: fmt.Sprint("key-", n), SecretAccessKey: "secret", CanExpire: true, Expires: time.Now().Add(time.Hour)}, nil
}

// Credentials are replaced before they expire, whether or not somebody asks.
func TestCredentialsAreKeptFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		f := &freshCredentials{source: awssdk.NewCredentialsCache(s)}
		ctx, cancel := context.WithCancel(t.Context())
		kept := make(chan error, 1)
		go func() { kept <- f.keepFresh(ctx) }()
		began := time.Now()
		for step, want := range []struct {
			after time.Duration
			key   string
		}{
			{time.Second, "key-1"}, {54 * time.Minute, "key-1"}, {56 * time.Minute, "key-2"},
			{110*time.Minute + 30*time.Second, "key-2"}, // the sign-in service was away
			{112 * time.Minute, "key-4"},
		} {
			time.Sleep(time.Until(began.Add(want.after)))
			synctest.Wait()
			asked := s.asked.Load()
			got, err := f.Retrieve(ctx)
			if err != nil || got.AccessKeyID != want.key || s.asked.Load() != asked {
				t.Errorf("step %d: credentials are %s, error %v, asked %d times more", step, got.AccessKeyID, err, s.asked.Load()-asked)
			}
		}
		cancel()
		if err := <-kept; !errors.Is(err, context.Canceled) {
			t.Errorf("keepFresh ended with %v", err)
		}
	})
}
