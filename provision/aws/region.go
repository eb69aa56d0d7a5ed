package aws

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/levinrun/levin/cluster"
)

// atOnce is how many regions are asked at the same time.
const atOnce = 8

// searched lists the regions in which things of Levin may be: those of the
// settings, or those of the catalog that the account has switched on.
func (c *Cloud) searched(ctx context.Context) ([]string, error) {
	if regions := c.cfg.Settings.Regions; len(regions) > 0 {
		return regions, nil
	}
	cat, err := c.loadCatalog()
	if err != nil {
		return nil, err
	}
	regions := cat.Regions()
	home, err := c.in(ctx, "")
	if err != nil {
		return nil, err
	}
	out, err := home.ec2.DescribeRegions(ctx, &ec2.DescribeRegionsInput{})
	if code(err) == "UnauthorizedOperation" {
		return regions, nil // each region will say for itself
	}
	if err != nil {
		return nil, err
	}
	on := map[string]bool{}
	for _, r := range out.Regions {
		on[awssdk.ToString(r.RegionName)] = true
	}
	return slices.DeleteFunc(slices.Clone(regions), func(r string) bool { return !on[r] }), nil
}

// inEach does f in each of the named regions, a few at a time. What fails in one
// does not keep the others from being done; its error says which it was.
func (c *Cloud) inEach(ctx context.Context, names []string, f func(n int, r *region) error) error {
	errs := make([]error, len(names))
	turn := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for n, name := range names {
		turn <- struct{}{}
		all.Go(func() {
			defer func() { <-turn }()
			r, err := c.in(ctx, name)
			if err == nil {
				err = f(n, r)
			}
			if err != nil {
				errs[n] = inRegion{name, err}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// inRegion is an error and where it was.
type inRegion struct {
	region string
	err    error
}

func (e inRegion) Error() string { return "region " + e.region + ": " + wordsOf(e.err) }
func (e inRegion) Unwrap() error { return e.err }

// failure is an error for people. Its kind is what the cloud's words mean.
func (c *Cloud) failure(what string, err error) error {
	var known *cluster.Failure
	if errors.As(err, &known) {
		return fmt.Errorf("%s: %w", what, err)
	}
	f := &cluster.Failure{Kind: cluster.Provisioning, What: what, Words: wordsOf(err), Err: err}
	if v, ok := judge(err); ok {
		f.Kind, f.Next = v.Kind, v.Next
	}
	return f
}
