package emulator

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// notice is that an instance is about to be taken back.
type notice struct {
	at     time.Time // when it ends; zero: it is not taken back
	tokens []string  // AWS: session tokens that were given
}

// Preempt takes a spot instance back after notice (in cloud seconds): its metadata
// service says so at once, and the instance ends when the notice is over. It
// returns at once.
func (e *Emulator) Preempt(cloud, id string, after time.Duration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.find(cloud, func(t *Thing) bool { return t.ID == id && t.instance() })
	switch {
	case t == nil:
		return fmt.Errorf("%s: %w", id, ErrNotFound)
	case !t.Spot:
		return fmt.Errorf("%s is no spot instance", id)
	case t.State != Running:
		return fmt.Errorf("%s is %s", id, t.State)
	case e.closed:
		return fmt.Errorf("the emulated cloud is closed")
	}
	wait := e.seconds(after.Seconds())
	t.life.notice.at = time.Now().Add(wait)
	e.notify()
	e.wg.Go(func() {
		over := time.NewTimer(wait)
		defer over.Stop()
		select {
		case <-over.C:
		case <-e.ctx.Done():
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if cloud == AWS {
			e.want(t, Terminated, "Server.SpotInstanceTermination: Spot instance termination")
		} else {
			e.want(t, t.life.preemptEnd, "compute.instances.preempted")
		}
	})
	return nil
}

// metadataFor gives the variables by which the SDKs of an instance find its
// metadata service.
func (e *Emulator) metadataFor(t *Thing) (env []string, closed func(), err error) {
	if t.Cloud == AWS {
		return []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + e.url + "/metadata/" + t.ID}, func() {}, nil
	}
	// GCE_METADATA_HOST has no room for a path: each instance has a server of its own.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	server := &http.Server{
		Handler:     http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { e.serveGoogleMetadata(w, r, t) }),
		BaseContext: func(net.Listener) context.Context { return e.ctx },
	}
	e.wg.Go(func() { server.Serve(listener) })
	return []string{"GCE_METADATA_HOST=" + listener.Addr().String()}, func() { server.Close() }, nil
}

// serveMetadata is the instance metadata service of AWS, version 2.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
func (e *Emulator) serveMetadata(w http.ResponseWriter, r *http.Request) {
	id, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/metadata/"), "/")
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.findID(AWS, "aws_instance", id)
	if t == nil || !t.exists() {
		http.NotFound(w, r)
		return
	}
	if what == "latest/api/token" {
		ttl := r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds")
		if seconds, err := strconv.Atoi(ttl); r.Method != http.MethodPut || err != nil || seconds < 1 || seconds > 21600 {
			http.Error(w, "Bad Request", http.StatusBadRequest)
			return
		}
		token := rand.Text()
		t.life.notice.tokens = append(t.life.notice.tokens, token)
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", ttl)
		fmt.Fprint(w, token)
		return
	}
	if token := r.Header.Get("X-Aws-Ec2-Metadata-Token"); token == "" || !t.life.gave(token) {
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	}
	answer, ok := t.awsMetadata(what)
	if !ok || r.Method != http.MethodGet {
		http.NotFound(w, r)
		return
	}
	fmt.Fprint(w, answer)
}

func (l *life) gave(token string) bool {
	for _, t := range l.notice.tokens {
		if t == token {
			return true
		}
	}
	return false
}

// awsMetadata gives one value of the metadata service.
func (t *Thing) awsMetadata(what string) (string, bool) {
	at := t.life.notice.at
	const form = "2006-01-02T15:04:05Z"
	switch strings.TrimPrefix(what, "latest/meta-data/") {
	case "instance-id":
		return t.ID, true
	case "instance-type":
		return t.Type, true
	case "placement/region":
		return t.Region, true
	case "placement/availability-zone-id":
		return t.Zone, true
	case "placement/availability-zone":
		return zoneName(t.Zone), true
	case "spot/instance-action":
		return fmt.Sprintf(`{"action":"terminate","time":"%s"}`, at.UTC().Format(form)), !at.IsZero()
	case "spot/termination-time":
		return at.UTC().Format(form), !at.IsZero()
	}
	return "", false
}

// serveGoogleMetadata is the metadata server of one GCE instance.
// https://cloud.google.com/compute/docs/metadata/querying-metadata
func (e *Emulator) serveGoogleMetadata(w http.ResponseWriter, r *http.Request, t *Thing) {
	w.Header().Set("Metadata-Flavor", "Google")
	if r.URL.Path == "/" {
		return
	}
	if r.Header.Get("Metadata-Flavor") != "Google" {
		http.Error(w, "Missing Metadata-Flavor:Google header.", http.StatusForbidden)
		return
	}
	value := func() (string, bool) { return t.googleMetadata(path.Clean(r.URL.Path)) }
	e.mu.Lock()
	before, ok := value()
	e.mu.Unlock()
	if !ok || r.Method != http.MethodGet {
		http.NotFound(w, r)
		return
	}
	now := before
	if q := r.URL.Query(); q.Get("wait_for_change") == "true" && (!q.Has("last_etag") || q.Get("last_etag") == etag(before)) {
		ctx := r.Context()
		if seconds, err := strconv.Atoi(q.Get("timeout_sec")); err == nil && seconds > 0 {
			var cancel func()
			ctx, cancel = context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
			defer cancel()
		}
		// When the time is up, the value as it is is the answer.
		_ = e.await(ctx, func() bool { now, _ = value(); return now != before })
		if r.Context().Err() != nil {
			return
		}
	}
	w.Header().Set("Etag", etag(now))
	w.Header().Set("Content-Type", "application/text")
	fmt.Fprint(w, now)
}

func etag(value string) string { return fmt.Sprintf("%016x", len(value)) + value }

// googleMetadata gives one value of the metadata server. The lock is held.
func (t *Thing) googleMetadata(what string) (string, bool) {
	switch strings.TrimPrefix(what, "/computeMetadata/v1/instance/") {
	case "preempted":
		if t.life.notice.at.IsZero() {
			return "FALSE", true
		}
		return "TRUE", true
	case "id":
		return googleID(t), true
	case "name":
		return t.Name, true
	case "zone":
		return "projects/" + projectNumber + "/zones/" + t.Zone, true
	}
	return "", false
}
