package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision/cloudtest/emulator"
)

// terminateTime is stopTime in a cloud of VMs: what ends a machine is a request to
// the cloud, and it counts when it arrives there.
func terminateTime(ctx context.Context, r *rig) ([]row, error) {
	const what = "work exit → TerminateInstances arrives at the cloud (emulated AWS), p99"
	if why := missingForClouds(); why != "" {
		return []row{skipped(what, why)}, nil
	}
	if err := r.build(ctx); err != nil {
		return nil, err
	}
	p, err := r.newPlace("terminate")
	if err != nil {
		return nil, err
	}
	cloud, err := startEmulatedAWS(r, p)
	if err != nil {
		return nil, err
	}
	samples, err := cloud.terminations(ctx, r, p)
	if err := errors.Join(err, cloud.close()); err != nil {
		return nil, err
	}
	arrived := column(samples, func(s termination) time.Duration { return s.arrived.Sub(s.exited) })
	asked := column(samples, func(s termination) time.Duration { return s.requested.Sub(s.exited) })
	sent := column(samples, func(s termination) time.Duration { return s.arrived.Sub(s.requested) })
	return []row{measured(what, milliseconds(percentile(arrived, 99)), 200, "ms", false,
		"median %.1f ms, p90 %.1f ms, slowest %.1f ms; %d samples, %d machines at a time, each terminated after one call, real Terraform over the real module. "+
			"From `exited_at` until the whole request has arrived at a proxy before the emulated EC2, on loopback and without TLS: what a way to a real region adds is not in it. "+
			"Of it, until `machine.stop_requested`: median %.1f ms, p99 %.1f ms; from there until it arrives: median %.1f ms, p99 %.1f ms; %d requests for %d machines",
		milliseconds(median(arrived)), milliseconds(percentile(arrived, 90)), milliseconds(percentile(arrived, 100)), len(arrived), stopWidth,
		milliseconds(median(asked)), milliseconds(percentile(asked, 99)), milliseconds(median(sent)), milliseconds(percentile(sent, 99)),
		cloud.terminate.requests, len(samples))}, nil
}

// missingForClouds says why there can be no emulated clouds here, "" when there
// can.
func missingForClouds() string {
	l, err := net.Listen("tcp", "127.7.7.7:22")
	if err != nil {
		return "instances need port 22 of loopback addresses (run as root, or sysctl net.ipv4.ip_unprivileged_port_start=22): " + err.Error()
	}
	l.Close()
	return ""
}

// emulatedAWS is a cloud in this process, and what a levin process sees of it: all
// its requests pass a proxy that notes when the end of an instance is asked for.
type emulatedAWS struct {
	*emulator.Emulator
	proxy     *httptest.Server
	terminate *terminateStamps
}

// startEmulatedAWS starts one and sets up a place to use it.
func startEmulatedAWS(r *rig, p *place) (*emulatedAWS, error) {
	e, err := emulator.New(emulator.Config{Dir: p.path("cloud"), Agent: r.agent})
	if err != nil {
		return nil, err
	}
	c := &emulatedAWS{Emulator: e, terminate: &terminateStamps{first: map[string]time.Time{}}}
	behind, err := url.Parse(e.Endpoint(emulator.AWS))
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	forward := &httputil.ReverseProxy{Rewrite: func(pr *httputil.ProxyRequest) { pr.SetURL(behind) }}
	c.proxy = httptest.NewServer(c.terminate.noting(forward))
	p.env = append(p.env, e.Env()...)
	settings := fmt.Sprintf("cloud: aws\ningress: [127.0.0.1/32]\nclouds:\n  aws: {endpoint: %q, regions: [us-east-1]}\n", c.proxy.URL)
	if err := os.WriteFile(p.path("config", "levin", "settings.yaml"), []byte(settings), 0o600); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// close fails when something is left in the cloud.
func (c *emulatedAWS) close() error {
	var errs []error
	for _, thing := range c.Left() {
		errs = append(errs, fmt.Errorf("%s %s (%s) was left in the emulated cloud", thing.Kind, thing.ID, thing.State))
	}
	c.proxy.Close()
	return errors.Join(append(errs, c.Emulator.Close())...)
}

// termination is how the work and the machine of one call ended.
type termination struct{ exited, requested, arrived time.Time }

// terminations runs calls, each on an instance of its own. Stages take turns with
// two sizes of machines, since a stage would take over those of the one before if
// they were the same.
func (c *emulatedAWS) terminations(ctx context.Context, r *rig, p *place) ([]termination, error) {
	app, err := p.app(stopApp(r.samples, "cpus: 2..", "cpus: 4.."))
	if err != nil {
		return nil, err
	}
	done, err := p.run(ctx, r.levin, app)
	if err != nil {
		return nil, err
	}
	ends := map[string]*termination{}
	for _, e := range done.events {
		switch e.Type {
		case cluster.EventCallExited:
			ends[e.Machine] = &termination{exited: *e.ExitedAt}
		case cluster.EventMachineStopRequested:
			if end := ends[e.Machine]; end != nil {
				end.requested = e.Time
			}
		}
	}
	var samples []termination
	for _, instance := range c.Things(emulator.AWS, "aws_instance") {
		end, at := ends[instance.Name], c.terminate.of(instance.ID)
		if end == nil || end.requested.IsZero() || at.IsZero() {
			return nil, fmt.Errorf("instance %s (%s) did no work, or nobody asked for its end", instance.ID, instance.Name)
		}
		end.arrived = at
		samples = append(samples, *end)
	}
	if len(samples) != r.samples {
		return nil, fmt.Errorf("there were %d instances for %d calls", len(samples), r.samples)
	}
	return samples, nil
}

// terminateStamps are the moments at which the end of instances was first asked
// for.
type terminateStamps struct {
	mu       sync.Mutex
	first    map[string]time.Time // by instance id
	requests int
}

func (s *terminateStamps) of(instance string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first[instance]
}

// noting notes what arrives and passes it on.
func (s *terminateStamps) noting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // whoever asked is gone
		}
		s.note(time.Now(), string(body))
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

// note reads a request of EC2's query protocol: InstanceId.1, InstanceId.2, …
func (s *terminateStamps) note(at time.Time, body string) {
	form, err := url.ParseQuery(body)
	if err != nil || form.Get("Action") != "TerminateInstances" || form.Get("DryRun") == "true" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	for key, values := range form {
		if !strings.HasPrefix(key, "InstanceId.") {
			continue
		}
		for _, id := range values {
			if s.first[id].IsZero() {
				s.first[id] = at
			}
		}
	}
}
