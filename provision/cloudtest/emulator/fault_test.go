package emulator

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
)

const spotAWS = `  instance_market_options { market_type = "spot" }
`

// Each fault comes through real Terraform in the words of the real providers, and
// without it the same root succeeds.
func TestFaultsInTheCloudsWords(t *testing.T) {
	client, host := newKey(t), newKey(t)
	yes := true
	aws, awsSpot := awsRoot(client, host, ""), awsRoot(client, host, spotAWS)
	gcp, gcpSpot := gcpRoot(client, host, false, "null", ""), gcpRoot(client, host, true, `"DELETE"`, "")
	type fault struct {
		fault  Fault
		config string
		want   string // * stands for anything
	}
	for cloud, faults := range map[string][]fault{
		AWS: {
			{Fault{Kind: FaultDenied, Times: 1}, aws, "(levin-run-1): operation error EC2: * api error UnauthorizedOperation: You are not authorized * is not authorized to perform: ec2:"},
			{Fault{Kind: FaultCapacity, Zone: "use1-az2"}, aws,
				"creating EC2 Instance: operation error EC2: RunInstances, https response error StatusCode: 500, RequestID: * api error InsufficientInstanceCapacity: We currently do not have sufficient t3.micro capacity in the Availability Zone you requested (" + zoneName("use1-az2") + ")."},
			{Fault{Kind: FaultSpot, Spot: &yes}, awsSpot, "api error InsufficientInstanceCapacity: There is no Spot capacity available that matches your request."},
			{Fault{Kind: FaultQuota}, awsSpot, "api error MaxSpotInstanceCountExceeded: Max spot instance count exceeded"},
			{Fault{Kind: FaultQuota, Region: "us-east-1"}, aws, "StatusCode: 400, * api error VcpuLimitExceeded: You have requested more vCPU capacity than your current vCPU limit of 0"},
			{Fault{Kind: FaultThrottled, Type: "t3.micro"}, aws, "StatusCode: 503, * api error RequestLimitExceeded: Request limit exceeded."},
			{Fault{Kind: FaultExpired, Cloud: AWS}, aws, "validating provider credentials: retrieving caller identity from STS: * api error ExpiredToken: The security token included in the request is expired"},
			{Fault{Kind: FaultDenied, Type: "t3.micro"}, aws, "StatusCode: 403, * api error UnauthorizedOperation: You are not authorized to perform this operation."},
		},
		GCP: {
			{Fault{Kind: FaultCapacity, Zone: "us-central1-b"}, gcp,
				"Error creating instance: googleapi: Error 503: The zone 'projects/levin-emulated/zones/us-central1-b' does not have enough resources available to fulfill the request.*Try a different zone, or try again later., ZONE_RESOURCE_POOL_EXHAUSTED"},
			{Fault{Kind: FaultSpot}, gcpSpot, "Error waiting for instance to create: The zone 'projects/levin-emulated/zones/us-central1-b' does not have enough resources"},
			{Fault{Kind: FaultQuota, Cloud: GCP}, gcp, "Quota 'GPUS_ALL_REGIONS' exceeded.*Limit: 0.0 globally."},
			{Fault{Kind: FaultThrottled}, gcp, "googleapi: Error 403: Quota exceeded for quota metric 'Queries' * rateLimitExceeded"},
			{Fault{Kind: FaultExpired}, gcp, `oauth2: "invalid_grant" "Token has been expired or revoked."`},
			{Fault{Kind: FaultDenied, Type: "e2-small"}, gcp, "googleapi: Error 403: Required 'compute.instances.create' permission for * forbidden"},
		},
	} {
		t.Run(cloud, func(t *testing.T) {
			e := start(t, nil)
			r := newRoot(t, e, "")
			for _, tt := range faults {
				r.write(tt.config)
				remove := e.Inject(tt.fault)
				words := r.applyFails()
				rest, ok := words, true
				for part := range strings.SplitSeq(tt.want, "*") {
					if _, rest, ok = strings.Cut(rest, strings.TrimSpace(part)); !ok {
						t.Errorf("%+v:\ngot  %s\nwant %s", tt.fault, words, tt.want)
						break
					}
				}
				for _, thing := range e.Left() {
					if thing.instance() {
						t.Errorf("%+v: there is an instance: %+v", tt.fault, thing)
					}
				}
				remove()
			}
			r.apply()
			r.destroy()
			if left := e.Left(); len(left) > 0 {
				t.Errorf("left: %+v", left)
			}
		})
	}
}

// A fault of another zone, type, region or way to buy hits nothing, and one that
// has happened often enough is over.
func TestFaultsMatch(t *testing.T) {
	e := start(t, nil)
	yes, no := true, false
	ask := func(spot bool) bool {
		_, hit := e.Check(t.Context(), AWS, "create", "us-east-1", "use1-az1", "t3.micro", spot)
		return hit
	}
	for _, f := range []Fault{
		{Kind: FaultCapacity, Cloud: GCP}, {Kind: FaultCapacity, Op: "terminate"}, {Kind: FaultCapacity, Region: "us-east-2"},
		{Kind: FaultCapacity, Zone: "use1-az2"}, {Kind: FaultCapacity, Type: "t3.small"}, {Kind: FaultCapacity, Spot: &yes}, {Kind: FaultSpot},
	} {
		remove := e.Inject(f)
		if ask(false) {
			t.Errorf("%+v hits", f)
		}
		remove()
	}
	defer e.Inject(Fault{Kind: FaultCapacity, Times: 2, Spot: &no})()
	if !ask(false) || ask(true) || !ask(false) || ask(false) {
		t.Error("a fault that happens twice does not happen twice")
	}
}

// An instance whose provider died is in the cloud and not in Terraform's state.
func TestLost(t *testing.T) {
	client, host := newKey(t), newKey(t)
	for cloud, config := range map[string]string{AWS: awsRoot(client, host, ""), GCP: gcpRoot(client, host, false, "null", "")} {
		t.Run(cloud, func(t *testing.T) {
			e := start(t, nil)
			e.Inject(Fault{Kind: FaultLost, Times: 1})
			r := newRoot(t, e, config)
			t.Log(r.applyFails())
			if strings.Contains(r.state(), `"instance_state"`) || strings.Contains(r.state(), `"current_status"`) {
				t.Error("it is in the state")
			}
			var lost *Thing
			for _, thing := range e.Left() {
				if thing.instance() {
					lost = &thing
				}
			}
			if lost == nil {
				t.Fatal("there is no instance")
			}
			wait(t, e, "running", func() bool { return e.instanceState(lost.ID) == Running })
			if err := e.Terminate(cloud, lost.ID, "swept"); err != nil {
				t.Fatal(err)
			}
			wait(t, e, "the end", func() bool { return e.instanceState(lost.ID) == Terminated })
			r.destroy()
			if left := e.Left(); len(left) > 0 {
				t.Errorf("left: %+v", left)
			}
		})
	}
}

// instanceState is the state of the instance with that id in either cloud.
func (e *Emulator) instanceState(id string) State {
	for _, thing := range append(e.Things(AWS, "aws_instance"), e.Things(GCP, "google_compute_instance")...) {
		if thing.ID == id {
			return thing.State
		}
	}
	return ""
}

// A request that hangs ends with whoever asked, and nothing is left of it.
func TestHang(t *testing.T) {
	e := start(t, nil)
	e.Inject(Fault{Kind: FaultHang, Times: 1})
	r := newRoot(t, e, awsRoot(newKey(t), newKey(t), ""))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.runner.Apply(ctx, r.dir, r.with)
		done <- err
	}()
	wait(t, e, "the fault", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.faults[0].left == 0
	})
	cancel()
	if err := <-done; cluster.KindOf(err) != cluster.Interrupted {
		t.Errorf("%v", err)
	}
	r.destroy()
	if left := e.Left(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

// An instance that never boots counts as running, and its port 22 stays closed.
func TestNeverBoots(t *testing.T) {
	e := start(t, nil)
	defer e.Inject(Fault{Kind: FaultNoBoot})()
	client, host := newKey(t), newKey(t)
	r := newRoot(t, e, awsRoot(client, host, ""))
	m := r.awsMachine()
	if m.State != "running" {
		t.Errorf("it is %s", m.State)
	}
	if _, err := dial(m.PublicIP, client, host); err == nil {
		t.Error("its SSH server answers")
	}
	r.destroy()
	if left := e.Left(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

// An instance whose SSH server takes a while is running before that.
func TestBootTakesTime(t *testing.T) {
	client, host := newKey(t), newKey(t)
	late := start(t, func(c *Config) { c.Boot = time.Hour })
	r := newRoot(t, late, awsRoot(client, host, ""))
	if _, err := dial(r.awsMachine().PublicIP, client, host); err == nil {
		t.Error("its SSH server answers at once")
	}
	r.destroy()

	soon := start(t, func(c *Config) { c.Boot = 10 * time.Millisecond })
	r = newRoot(t, soon, awsRoot(client, host, ""))
	m := r.awsMachine()
	wait(t, soon, "the SSH server", func() bool { return soon.Things(AWS, "aws_instance")[0].Machine.Port == 22 })
	say(t, m.PublicIP, client, host, "true")
	r.destroy()
}
