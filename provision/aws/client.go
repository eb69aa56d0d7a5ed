package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go/logging"
)

const (
	// attempts is how often the SDK tries a request that was throttled or broke.
	attempts = 5
	// attemptTimeout bounds one of them: EC2 answers within seconds or not at all.
	attemptTimeout = 20 * time.Second
	// homeRegion is asked what is the same in every region.
	homeRegion = "us-east-1"
	// refreshAhead is how long before their end credentials are replaced.
	refreshAhead = 5 * time.Minute
)

// sdk is what clients are made of.
type sdk struct {
	config      awssdk.Config
	credentials *freshCredentials
	transport   *http.Transport
}

// connect reads the user's AWS configuration, once.
func (c *Cloud) connect(ctx context.Context) (*sdk, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connectLocked(ctx)
}

func (c *Cloud) connectLocked(ctx context.Context) (*sdk, error) {
	if c.sdk != nil {
		return c.sdk, nil
	}
	options := []func(*config.LoadOptions) error{
		config.WithRetryMaxAttempts(attempts),
		config.WithDefaultRegion(homeRegion),
		config.WithLogger(logging.LoggerFunc(func(_ logging.Classification, format string, args ...any) {
			c.cfg.Logger.Debug("the AWS SDK says: " + fmt.Sprintf(format, args...)) // else it writes to stderr by itself
		})),
	}
	if p := c.cfg.Settings.Profile; p != "" {
		options = append(options, config.WithSharedConfigProfile(p))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, err
	}
	if e := c.cfg.Settings.Endpoint; e != "" {
		cfg.BaseEndpoint = awssdk.String(e)
	}
	s := &sdk{config: cfg, credentials: &freshCredentials{source: cfg.Credentials}}
	s.config.Credentials = s.credentials
	// The SDK's own transport, with the user's CA bundle, of which connections can be
	// closed.
	if b, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		s.transport = b.GetTransport()
		s.config.HTTPClient = &http.Client{Transport: s.transport, Timeout: attemptTimeout}
	}
	c.sdk = s
	return s, nil
}

// region is what is known and going on in one region.
type region struct {
	name string
	ec2  *ec2.Client

	ending  *batch[ended]           // TerminateInstances
	looking *batch[*types.Instance] // DescribeInstances
	leaving *watch                  // machines that are ending
}

// in gives the region of that name.
func (c *Cloud) in(ctx context.Context, name string) (*region, error) {
	name = cmp.Or(name, homeRegion)
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.regions[name]; r != nil {
		return r, nil
	}
	s, err := c.connectLocked(ctx)
	if err != nil {
		return nil, err
	}
	r := &region{name: name, ec2: ec2.NewFromConfig(s.config, func(o *ec2.Options) { o.Region = name })}
	r.ending = newBatch(c, r.terminate)
	r.looking = newBatch(c, r.look)
	r.leaving = newWatch(c, r)
	c.regions[name] = r
	return r, nil
}

// warm makes the region's client ahead of time and sees to it that credentials
// are at hand from then on, so that nothing stands between the end of the work
// and the request that ends its machine. What goes wrong here is told when it
// matters.
func (c *Cloud) warm(region string) {
	r, err := c.in(c.life, region)
	if err != nil {
		c.cfg.Logger.Debug("AWS cannot be asked", "region", region, "error", err)
		return
	}
	c.mu.Lock()
	credentials := c.sdk.credentials
	c.mu.Unlock()
	credentials.keep.Do(func() {
		c.background(func() {
			if err := credentials.keepFresh(c.life); err != nil && c.life.Err() == nil {
				c.cfg.Logger.Debug("no AWS credentials ahead of time", "region", r.name, "error", err)
			}
		})
	})
}

// freshCredentials answers from memory for as long as what it has is good, and is
// kept fresh in the background, so that whoever asks does not wait for a sign-in
// service.
type freshCredentials struct {
	source awssdk.CredentialsProvider // the SDK's: asks once for all who ask at the same time
	keep   sync.Once

	mu   sync.Mutex
	have awssdk.Credentials
}

// Retrieve implements aws.CredentialsProvider.
func (f *freshCredentials) Retrieve(ctx context.Context) (awssdk.Credentials, error) {
	f.mu.Lock()
	have := f.have
	f.mu.Unlock()
	if have.HasKeys() && !have.Expired() {
		return have, nil
	}
	return f.ask(ctx)
}

func (f *freshCredentials) ask(ctx context.Context) (awssdk.Credentials, error) {
	if f.source == nil {
		return awssdk.Credentials{}, errors.New("no valid credential sources found")
	}
	got, err := f.source.Retrieve(ctx)
	if err != nil {
		return awssdk.Credentials{}, err
	}
	f.mu.Lock()
	f.have = got
	f.mu.Unlock()
	return got, nil
}

// keepFresh replaces credentials before they expire, until ctx ends or they turn
// out not to expire at all.
func (f *freshCredentials) keepFresh(ctx context.Context) error {
	for {
		got, err := f.ask(ctx)
		if err == nil && !got.CanExpire {
			return nil
		}
		if err != nil && !f.usable() {
			return err // there were none: nobody works with them
		}
		pause := time.Minute // between tries while the old ones last
		if err == nil {
			pause = max(pause, time.Until(got.Expires.Add(-refreshAhead)))
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		if cache, ok := f.source.(*awssdk.CredentialsCache); ok {
			cache.Invalidate() // it would give the old ones to their last second
		}
	}
}

func (f *freshCredentials) usable() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.have.HasKeys() && !f.have.Expired()
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
