package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// The metadata services that tell a machine that it is taken back, by the names
// that --notice takes.
const (
	noticeAWS = "aws"
	noticeGCP = "gcp"
)

const (
	// awsLook is how often AWS is asked: it has no event. Its documentation names
	// five seconds.
	awsLook = 2 * time.Second
	// gcpWindow is how long a machine of Google's lives after it was told:
	// https://cloud.google.com/compute/docs/instances/spot#preemption-process
	gcpWindow = 30 * time.Second
	// gcpPause keeps a service that answers at once what should wait for a change from
	// being asked without end.
	gcpPause = time.Second
	// metadataLimit bounds a question that is answered at once, gcpLimit one that is
	// answered when something changes.
	metadataLimit = 5 * time.Second
	gcpLimit      = 10 * time.Minute
	// awsTokenLife is how long a token of AWS is asked for, the most there is.
	awsTokenLife = "21600"
)

// Notice is the cloud's word that it takes the machine back.
type Notice struct {
	At    time.Time     `json:"at"`    // when the machine ends, by the machine's clock
	Left  time.Duration `json:"left"`  // from the answer to At; nanoseconds, may be below 0
	Words string        `json:"words"` // the cloud's own
}

// watcher waits for a notice.
type watcher struct {
	next  func(ctx context.Context) (*Notice, error) // one look; nil: not yet. It may wait for a change
	pause time.Duration                              // between two looks
	log   func(error)                                // told when looks begin to fail
}

// newWatcher watches the metadata service of a cloud.
func newWatcher(cloud string, log func(error)) (*watcher, error) {
	switch cloud {
	case noticeAWS:
		m, err := newMetadata(cmp.Or(os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), "http://169.254.169.254"))
		return &watcher{next: (&awsNotice{metadata: m}).next, pause: awsLook, log: log}, err
	case noticeGCP:
		m, err := newMetadata("http://" + cmp.Or(os.Getenv("GCE_METADATA_HOST"), "metadata.google.internal"))
		return &watcher{next: (&gcpNotice{metadata: m}).next, pause: gcpPause, log: log}, err
	}
	return nil, fmt.Errorf("no metadata service is known by the name %.40q", cloud)
}

// wait gives the notice once there is one. It fails only when ctx ends: a
// service that does not answer is asked again.
func (w *watcher) wait(ctx context.Context) (Notice, error) {
	failures := 0
	for {
		notice, err := w.next(ctx)
		if ctx.Err() != nil {
			return Notice{}, ctx.Err()
		}
		if notice != nil {
			return *notice, nil
		}
		pause := w.pause
		if err == nil {
			failures = 0
		} else {
			if failures++; failures == 1 {
				w.log(err)
			}
			pause = max(pause, min(time.Second<<min(failures-1, 5), 30*time.Second))
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Notice{}, ctx.Err()
		}
	}
}

// awsNotice asks for the instance action, with a session token (IMDSv2).
type awsNotice struct {
	metadata metadata
	token    string
}

func (a *awsNotice) next(ctx context.Context) (*Notice, error) {
	if a.token == "" {
		r, err := a.metadata.ask(ctx, metadataLimit, http.MethodPut, "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", awsTokenLife)
		if err == nil && r.status != http.StatusOK {
			err = fmt.Errorf("status %d", r.status)
		}
		if err != nil {
			return nil, fmt.Errorf("asking for a token of the metadata service: %w", err)
		}
		a.token = strings.TrimSpace(r.body)
		if strings.ContainsAny(a.token, "\r\n") {
			a.token = ""
			return nil, fmt.Errorf("the metadata service gives no usable token")
		}
	}
	r, err := a.metadata.ask(ctx, metadataLimit, http.MethodGet, "/latest/meta-data/spot/instance-action", "X-aws-ec2-metadata-token", a.token)
	switch {
	case err != nil:
		return nil, fmt.Errorf("asking for the instance action: %w", err)
	case r.status == http.StatusNotFound: // nothing is going to happen
		return nil, nil
	case r.status == http.StatusUnauthorized:
		a.token = "" // it has run out
		return nil, nil
	case r.status != http.StatusOK:
		return nil, fmt.Errorf("asking for the instance action: status %d", r.status)
	}
	return parseInstanceAction(r.body)
}

// parseInstanceAction reads {"action": "terminate", "time": "2017-09-18T08:22:00Z"}.
func parseInstanceAction(body string) (*Notice, error) {
	var action struct {
		Action string    `json:"action"`
		Time   time.Time `json:"time"`
	}
	if err := json.Unmarshal([]byte(body), &action); err != nil || action.Time.IsZero() || action.Action == "" {
		return nil, fmt.Errorf("the instance action cannot be read: %.200q", body)
	}
	return &Notice{At: action.Time, Words: "spot instance-action: " + strings.TrimSpace(body)}, nil
}

// gcpNotice waits for the value "preempted" to change.
type gcpNotice struct {
	metadata metadata
	etag     string // of the value that was seen last
}

func (g *gcpNotice) next(ctx context.Context) (*Notice, error) {
	path, limit := "/computeMetadata/v1/instance/preempted", metadataLimit
	if g.etag != "" { // the first look takes what is there: a change before it would be missed
		path += "?wait_for_change=true&last_etag=" + url.QueryEscape(g.etag)
		limit = gcpLimit
	}
	r, err := g.metadata.ask(ctx, limit, http.MethodGet, path, "Metadata-Flavor", "Google")
	if err == nil && r.status != http.StatusOK {
		err = fmt.Errorf("status %d", r.status)
	}
	if err == nil && r.etag == "" {
		err = fmt.Errorf("no ETag")
	}
	if err != nil {
		waited := g.etag != ""
		g.etag = ""
		if waited {
			return nil, nil // nothing has changed for long, or it ended: what there is now is looked at first
		}
		return nil, fmt.Errorf("asking whether the machine is preempted: %w", err)
	}
	g.etag = r.etag
	if strings.TrimSpace(r.body) != "TRUE" {
		return nil, nil
	}
	return &Notice{At: time.Now().Add(gcpWindow), Words: "instance/preempted is TRUE"}, nil
}
