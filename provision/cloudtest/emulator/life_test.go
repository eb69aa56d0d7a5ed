package emulator

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// only gives the one instance there is.
func (e *Emulator) only(t testing.TB) Thing {
	t.Helper()
	all := append(e.Things(AWS, "aws_instance"), e.Things(GCP, "google_compute_instance")...)
	if len(all) != 1 {
		t.Fatalf("%d instances: %+v", len(all), all)
	}
	return all[0]
}

func waitState(t testing.TB, e *Emulator, want State) Thing {
	t.Helper()
	wait(t, e, string(want), func() bool { return e.only(t).State == want })
	return e.only(t)
}

// What becomes of an instance that powers itself off is for the cloud and its
// shutdown behavior to say.
func TestPowerOff(t *testing.T) {
	client, host := newKey(t), newKey(t)
	aws := awsRoot(client, host, "")
	stops := strings.Replace(aws, `behavior = "terminate"`, `behavior = "stop"`, 1)
	gcp := gcpRoot(client, host, false, "null", "")
	for _, tt := range []struct {
		name, config string
		want         State
		reason       string
		kept         string // what is left of the disk
	}{
		{"aws terminate", aws, Terminated, "Client.InstanceInitiatedShutdown: Instance initiated shutdown", ""},
		{"aws stop", stops, Stopped, "Client.InstanceInitiatedShutdown: Instance initiated shutdown", "aws_ebs_volume"},
		{"gcp", gcp, Stopped, "compute.instances.guestTerminate", "google_compute_disk"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := start(t, nil)
			r := newRoot(t, e, tt.config)
			r.apply()
			m := e.only(t)
			c, err := dial(m.Machine.Address, client, host)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := c.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			_ = s.Run("kill $LEVIN_MACHINE_PID") // the connection dies with the machine
			off := waitState(t, e, tt.want)
			if off.Reason != tt.reason {
				t.Errorf("the reason is %q", off.Reason)
			}
			disks := append(e.Things(AWS, "aws_ebs_volume"), e.Things(GCP, "google_compute_disk")...)
			if (len(disks) == 1) != (tt.kept != "") {
				t.Errorf("disks: %+v", disks)
			}
			r.destroy()
			if left := e.Left(); len(left) > 0 {
				t.Errorf("left: %+v", left)
			}
		})
	}
}

// The timer of the user data ends an instance, in the cloud's own seconds.
func TestExpiry(t *testing.T) {
	e := start(t, func(c *Config) { c.Second = 100 * time.Microsecond })
	r := newRoot(t, e, awsRoot(newKey(t), newKey(t), ""))
	r.apply()
	end := waitState(t, e, Terminated)
	if want := end.CreatedAt.Add(360 * time.Millisecond); end.ExpiresAt.Before(want) {
		t.Errorf("it expired at %s, not after %s", end.ExpiresAt, want)
	}
	r.destroy()
}

// The agent moves the timer by a file in the machine's folder, later and earlier.
func TestExpiryIsMoved(t *testing.T) {
	e := start(t, nil)
	client, host := newKey(t), newKey(t)
	r := newRoot(t, e, awsRoot(client, host, ""))
	m := r.awsMachine()
	move := func(at time.Time) {
		t.Helper()
		say(t, m.PublicIP, client, host, "echo "+at.Format(time.RFC3339)+" > $LEVIN_MACHINE_DIR/new && mv $LEVIN_MACHINE_DIR/new $LEVIN_MACHINE_DIR/expiry")
	}
	later := time.Now().Add(5 * time.Hour).Truncate(time.Second)
	move(later)
	wait(t, e, "another expiry", func() bool { return e.only(t).ExpiresAt.Equal(later) })
	if e.only(t).State != Running {
		t.Errorf("it is %s", e.only(t).State)
	}
	move(time.Now().Add(-time.Second))
	waitState(t, e, Terminated)
	r.destroy()
}

// GCP ends an instance after max_run_duration, whatever the machine does.
func TestMaxRunDuration(t *testing.T) {
	const limit = "max_run_duration { seconds = 3000 }"
	for _, tt := range []struct {
		action string
		want   State
	}{{"DELETE", Terminated}, {"STOP", Stopped}} {
		t.Run(tt.action, func(t *testing.T) {
			e := start(t, func(c *Config) { c.Second = 100 * time.Microsecond })
			r := newRoot(t, e, gcpRoot(newKey(t), newKey(t), false, fmt.Sprintf("%q", tt.action), limit))
			r.apply()
			end := waitState(t, e, tt.want)
			if !strings.Contains(end.Reason, "maxRunDuration") || !end.ExpiresAt.Equal(end.CreatedAt.Add(300*time.Millisecond)) {
				t.Errorf("%+v", end)
			}
			r.destroy()
			if left := e.Left(); len(left) > 0 {
				t.Errorf("left: %+v", left)
			}
		})
	}
}

func ask(t testing.TB, method, url string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// A spot instance on AWS is told by its metadata service, and then terminated with
// the reason that EC2 gives.
func TestPreemptAWS(t *testing.T) {
	e := start(t, func(c *Config) { c.Second = 10 * time.Millisecond })
	client, host := newKey(t), newKey(t)
	r := newRoot(t, e, awsRoot(client, host, spotAWS))
	m := r.awsMachine()
	if m.Lifecycle != "spot" {
		t.Errorf("the lifecycle is %q", m.Lifecycle)
	}
	service := say(t, m.PublicIP, client, host, "echo $AWS_EC2_METADATA_SERVICE_ENDPOINT")
	const ttl, token = "X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token"
	if code, _ := ask(t, "GET", service+"/latest/meta-data/instance-id"); code != 401 {
		t.Errorf("without a token: %d", code)
	}
	if code, _ := ask(t, "PUT", service+"/latest/api/token"); code != 400 {
		t.Errorf("a token without a time to live: %d", code)
	}
	_, got := ask(t, "PUT", service+"/latest/api/token", ttl, "60")
	if code, id := ask(t, "GET", service+"/latest/meta-data/instance-id", token, got); code != 200 || id != m.ID {
		t.Errorf("instance-id: %d %q", code, id)
	}
	if code, _ := ask(t, "GET", service+"/latest/meta-data/spot/instance-action", token, got); code != 404 {
		t.Errorf("before it is taken back: %d", code)
	}
	if err := e.Preempt(AWS, m.ID, 120*time.Second); err != nil {
		t.Fatal(err)
	}
	code, action := ask(t, "GET", service+"/latest/meta-data/spot/instance-action", token, got)
	if code != 200 || !strings.HasPrefix(action, `{"action":"terminate","time":"20`) {
		t.Errorf("when it is taken back: %d %q", code, action)
	}
	if code, at := ask(t, "GET", service+"/latest/meta-data/spot/termination-time", token, got); code != 200 || !strings.Contains(action, at) {
		t.Errorf("termination-time: %d %q", code, at)
	}
	if end := waitState(t, e, Terminated); end.Reason != "Server.SpotInstanceTermination: Spot instance termination" {
		t.Errorf("the reason is %q", end.Reason)
	}
	if err := e.Preempt(AWS, m.ID, 0); err == nil {
		t.Error("what is gone can be taken back")
	}
	r.destroy()
}

// A spot instance on GCP is told through a request that waits.
func TestPreemptGCP(t *testing.T) {
	for _, tt := range []struct {
		action string
		want   State
	}{{"DELETE", Terminated}, {"STOP", Stopped}} {
		t.Run(tt.action, func(t *testing.T) {
			e := start(t, func(c *Config) { c.Second = 10 * time.Millisecond })
			client, host := newKey(t), newKey(t)
			r := newRoot(t, e, gcpRoot(client, host, true, fmt.Sprintf("%q", tt.action), ""))
			m := r.gcpMachine()
			service := "http://" + say(t, m.address(), client, host, "echo $GCE_METADATA_HOST") + "/computeMetadata/v1/instance/"
			if code, _ := ask(t, "GET", service+"id"); code != 403 {
				t.Errorf("without the header: %d", code)
			}
			flavor := []string{"Metadata-Flavor", "Google"}
			if _, id := ask(t, "GET", service+"id", flavor...); id != m.InstanceID {
				t.Errorf("the id is %q, not %q", id, m.InstanceID)
			}
			if _, is := ask(t, "GET", service+"preempted", flavor...); is != "FALSE" {
				t.Errorf("it is preempted: %q", is)
			}
			if tt.want == Terminated {
				if _, is := ask(t, "GET", service+"preempted?wait_for_change=true&timeout_sec=1", flavor...); is != "FALSE" {
					t.Errorf("it is preempted: %q", is)
				}
			}
			told := make(chan string)
			go func() {
				// Without the tag of what is known, a change that was just before is missed.
				_, is := ask(t, "GET", service+"preempted?wait_for_change=true&last_etag="+etag("FALSE"), flavor...)
				told <- is
			}()
			if err := e.Preempt(GCP, "m-1", time.Second); err != nil {
				t.Fatal(err)
			}
			if is := <-told; is != "TRUE" {
				t.Errorf("it is told %q", is)
			}
			if end := waitState(t, e, tt.want); end.Reason != "compute.instances.preempted" {
				t.Errorf("the reason is %q", end.Reason)
			}
			r.destroy()
			if left := e.Left(); len(left) > 0 {
				t.Errorf("left: %+v", left)
			}
		})
	}
}

// Only spot instances are taken back.
func TestPreemptOnDemand(t *testing.T) {
	e := start(t, nil)
	r := newRoot(t, e, awsRoot(newKey(t), newKey(t), ""))
	m := r.awsMachine()
	if err := e.Preempt(AWS, m.ID, 0); err == nil {
		t.Error("an instance on demand is taken back")
	}
	if err := e.Terminate(AWS, "i-0", ""); err == nil {
		t.Error("an instance that never was is terminated")
	}
	if err := e.Terminate(AWS, m.ID, "Client.UserInitiatedShutdown: User initiated shutdown"); err != nil {
		t.Fatal(err)
	}
	waitState(t, e, Terminated)
	if err := e.Terminate(AWS, m.ID, "again"); err != nil {
		t.Error(err)
	}
	r.destroy()
}

// Close ends what Terraform has left.
func TestCloseEndsInstances(t *testing.T) {
	e := start(t, nil)
	client, host := newKey(t), newKey(t)
	r := newRoot(t, e, awsRoot(client, host, ""))
	m := r.awsMachine()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(m.PublicIP, client, host); err == nil {
		t.Error("the instance lives")
	}
}
