package gcp

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	compute "cloud.google.com/go/compute/apiv1"
	"github.com/googleapis/gax-go/v2"
	"golang.org/x/oauth2"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"github.com/levinrun/levin/cluster"
)

const (
	// attempts is how often a request that broke is tried.
	attempts = 5
	// attemptTime bounds one of them: Google answers within seconds or not at all.
	attemptTime = 20 * time.Second
	// waitTime bounds a request that waits for an operation. Google answers it after
	// two minutes, done or not.
	waitTime = 150 * time.Second
	// requestTime bounds one request with all its attempts.
	requestTime = 2 * time.Minute

	firstLook  = 500 * time.Millisecond
	longestGap = 5 * time.Second // between two tries
)

var errClosed = errors.New("the cloud is closed")

// sdk are Google's clients, with one transport and one token for all of them.
type sdk struct {
	http      *http.Client
	transport *http.Transport
	tokens    *freshTokens
	who       credentials

	manager, billing string // URLs of Cloud Resource Manager and Cloud Billing

	instances    *compute.InstancesClient
	disks        *compute.DisksClient
	firewalls    *compute.FirewallsClient
	policies     *compute.ResourcePoliciesClient
	networks     *compute.NetworksClient
	subnetworks  *compute.SubnetworksClient
	projects     *compute.ProjectsClient
	regions      *compute.RegionsClient
	machineTypes *compute.MachineTypesClient
	accelerators *compute.AcceleratorTypesClient
	inZone       *compute.ZoneOperationsClient
	inRegion     *compute.RegionOperationsClient
	everywhere   *compute.GlobalOperationsClient
}

// connect finds credentials and makes the clients, once.
func (c *Cloud) connect() (*sdk, error) {
	c.connecting.Lock()
	defer c.connecting.Unlock()
	c.mu.Lock()
	s, closed := c.sdk, c.closed
	c.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	if s != nil {
		return s, nil
	}
	s, err := c.newSDK()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.sdk = s
	c.mu.Unlock()
	return s, nil
}

func (c *Cloud) newSDK() (*sdk, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64 // machines end side by side
	signIn := &http.Client{Transport: transport, Timeout: attemptTime}
	who, err := c.findCredentials(context.WithValue(c.life, oauth2.HTTPClient, signIn))
	if err != nil {
		return nil, err
	}
	s := &sdk{transport: transport, who: who, tokens: &freshTokens{cloud: c, source: who.source}}
	s.http = &http.Client{Transport: &signed{base: transport, tokens: s.tokens, quota: who.quota}}
	options := []option.ClientOption{option.WithHTTPClient(s.http)}
	endpoint := strings.TrimSuffix(c.cfg.Settings.Endpoint, "/")
	if endpoint != "" {
		options = append(options, option.WithEndpoint(endpoint))
	}
	s.manager = cmp.Or(endpoint, "https://cloudresourcemanager.googleapis.com")
	s.billing = cmp.Or(endpoint, "https://cloudbilling.googleapis.com")
	return s, s.makeClients(options)
}

func (s *sdk) makeClients(options []option.ClientOption) error {
	return errors.Join(
		open(&s.instances, compute.NewInstancesRESTClient, options),
		open(&s.disks, compute.NewDisksRESTClient, options),
		open(&s.firewalls, compute.NewFirewallsRESTClient, options),
		open(&s.policies, compute.NewResourcePoliciesRESTClient, options),
		open(&s.networks, compute.NewNetworksRESTClient, options),
		open(&s.subnetworks, compute.NewSubnetworksRESTClient, options),
		open(&s.projects, compute.NewProjectsRESTClient, options),
		open(&s.regions, compute.NewRegionsRESTClient, options),
		open(&s.machineTypes, compute.NewMachineTypesRESTClient, options),
		open(&s.accelerators, compute.NewAcceleratorTypesRESTClient, options),
		open(&s.inZone, compute.NewZoneOperationsRESTClient, options),
		open(&s.inRegion, compute.NewRegionOperationsRESTClient, options),
		open(&s.everywhere, compute.NewGlobalOperationsRESTClient, options),
	)
}

func open[C any](place *C, client func(context.Context, ...option.ClientOption) (C, error), options []option.ClientOption) (err error) {
	*place, err = client(context.Background(), options...)
	return err
}

// warm makes the clients ahead of time and sees to it that a token is at hand from
// then on, so that nothing stands between the end of the work and the request that
// ends its machine. What goes wrong here is told when it matters.
func (c *Cloud) warm() {
	c.background(func() {
		s, err := c.connect()
		if err != nil {
			c.cfg.Logger.Debug("Google cannot be asked", "error", err)
			return
		}
		s.tokens.keep.Do(func() {
			c.background(func() {
				if err := s.tokens.keepFresh(c.life); err != nil && c.life.Err() == nil {
					c.cfg.Logger.Debug("no token of Google ahead of time", "error", err)
				}
			})
		})
	})
}

// signed signs requests, and bounds each of them.
type signed struct {
	base   http.RoundTripper
	tokens *freshTokens
	quota  string
}

// RoundTrip implements http.RoundTripper.
func (s *signed) RoundTrip(r *http.Request) (*http.Response, error) {
	limit := attemptTime
	if strings.HasSuffix(r.URL.Path, "/wait") {
		limit = waitTime
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	response, err := s.send(r.Clone(ctx))
	if err != nil {
		cancel()
		if ctx.Err() != nil && r.Context().Err() == nil {
			err = fmt.Errorf("no answer within %s: i/o timeout", limit)
		}
		return nil, err
	}
	response.Body = &bounded{response.Body, cancel}
	return response, nil
}

func (s *signed) send(r *http.Request) (*http.Response, error) {
	token, err := s.tokens.token(r.Context())
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	token.SetAuthHeader(r)
	if s.quota != "" {
		r.Header.Set("X-Goog-User-Project", s.quota)
	}
	return s.base.RoundTrip(r)
}

// bounded is the body of an answer whose time ends when it has been read.
type bounded struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *bounded) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// options are those of every request: what passes is tried again.
func (c *Cloud) options() []gax.CallOption {
	return []gax.CallOption{
		gax.WithTimeout(requestTime),
		gax.WithRetry(func() gax.Retryer {
			return &retryer{left: attempts - 1, pause: gax.Backoff{Initial: c.poll, Max: max(c.poll, longestGap), Multiplier: 2}}
		}),
	}
}

// retryer tries again what broke, a few times, and what came too often, until
// there is no time left.
type retryer struct {
	left  int
	pause gax.Backoff
}

// Retry implements gax.Retryer.
func (r *retryer) Retry(err error) (time.Duration, bool) {
	v, known := judge(err)
	switch {
	case known && v.Kind == cluster.Throttled:
		return r.pause.Pause(), true
	case known && v.Kind == cluster.Transient && r.left > 0:
		r.left--
		return r.pause.Pause(), true
	}
	return 0, false
}

// ask sends a request to an API that has no client here, and reads its answer into
// out.
func (c *Cloud) ask(ctx context.Context, s *sdk, method, url string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	return gax.Invoke(ctx, func(ctx context.Context, _ gax.CallSettings) error {
		r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/json")
		response, err := s.http.Do(r)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if err := googleapi.CheckResponse(response); err != nil {
			return err
		}
		return json.NewDecoder(response.Body).Decode(out)
	}, c.options()...)
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
