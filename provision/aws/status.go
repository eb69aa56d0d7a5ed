package aws

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision"
)

// The tags of everything that Levin makes.
const (
	tagName      = "Name"
	tagRun       = "levin-run"
	tagComponent = "levin-component"
	tagOwner     = "levin-owner"
	tagExpires   = "levin-expires" // unix seconds
)

// Status says how a machine is doing, by EC2.
func (c *Cloud) Status(ctx context.Context, m cluster.Machine) (provision.Status, string, error) {
	i, err := c.instance(ctx, m)
	if err != nil {
		return provision.StatusUnknown, "", c.failure(fmt.Sprintf("could not ask how machine %s on %s is doing", m.Name, c.cfg.Name), err)
	}
	if i == nil {
		return provision.StatusGone, "", nil
	}
	status, words := statusOf(*i)
	return status, words, nil
}

// instance gives the machine's instance, nil when there is none.
func (c *Cloud) instance(ctx context.Context, m cluster.Machine) (*types.Instance, error) {
	if m.CloudID != "" && m.Region != "" {
		r, err := c.in(ctx, m.Region)
		if err != nil {
			return nil, err
		}
		return r.looking.ask(ctx, m.CloudID)
	}
	placed, err := c.named(ctx, m)
	if err != nil || len(placed) == 0 {
		return nil, err
	}
	return placed[0].in.looking.ask(ctx, placed[0].id)
}

// statusOf reads an instance's state, and why it is in it.
func statusOf(i types.Instance) (provision.Status, string) {
	words := ""
	if i.StateReason != nil {
		code, message := awssdk.ToString(i.StateReason.Code), awssdk.ToString(i.StateReason.Message)
		words = code
		if message != "" && !strings.HasPrefix(message, code) {
			words = strings.TrimPrefix(code+": "+message, ": ")
		} else if message != "" {
			words = message
		}
	}
	ending := stateOf(i) == types.InstanceStateNameShuttingDown || stateOf(i) == types.InstanceStateNameTerminated ||
		stateOf(i) == types.InstanceStateNameStopping || stateOf(i) == types.InstanceStateNameStopped
	if ending && strings.HasPrefix(words, "Server.SpotInstance") {
		return provision.StatusPreempted, words
	}
	switch stateOf(i) {
	case types.InstanceStateNamePending:
		return provision.StatusBooting, ""
	case types.InstanceStateNameRunning:
		return provision.StatusRunning, ""
	case types.InstanceStateNameStopping, types.InstanceStateNameStopped, types.InstanceStateNameShuttingDown:
		return provision.StatusStopped, words
	case types.InstanceStateNameTerminated:
		return provision.StatusGone, words
	}
	return provision.StatusUnknown, words
}

// look finds instances by id; the ones that are not there are nil.
func (r *region) look(ctx context.Context, ids []string) map[string]outcome[*types.Instance] {
	found, err := r.instances(ctx, ids)
	outcomes := map[string]outcome[*types.Instance]{}
	for _, id := range ids {
		outcomes[id] = outcome[*types.Instance]{err: err}
		if i, ok := found[id]; ok {
			outcomes[id] = outcome[*types.Instance]{value: &i}
		}
	}
	return outcomes
}

// instances describes instances by id. It asks with a filter: naming one that EC2
// does not know would be an error for all.
func (r *region) instances(ctx context.Context, ids []string) (map[string]types.Instance, error) {
	found := map[string]types.Instance{}
	for chunk := range slices.Chunk(ids, perRequest) {
		all, err := r.describe(ctx, filter("instance-id", chunk...))
		if err != nil {
			return nil, err
		}
		for _, i := range all {
			found[awssdk.ToString(i.InstanceId)] = i
		}
	}
	return found, nil
}

// describe gives the instances that pass the filters.
func (r *region) describe(ctx context.Context, filters ...types.Filter) ([]types.Instance, error) {
	var all []types.Instance
	pages := ec2.NewDescribeInstancesPaginator(r.ec2, &ec2.DescribeInstancesInput{Filters: filters, MaxResults: awssdk.Int32(1000)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, reservation := range page.Reservations {
			all = append(all, reservation.Instances...)
		}
	}
	return all, nil
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: awssdk.String(name), Values: values}
}

// unended passes instances that are not terminated.
func unended() types.Filter {
	return filter("instance-state-name", "pending", "running", "stopping", "stopped", "shutting-down")
}

// placed is an instance and its region.
type placed struct {
	in *region
	id string
}

// named finds the instances of a machine by its tags: in its region, or in all
// that are searched when the region is not known.
func (c *Cloud) named(ctx context.Context, m cluster.Machine) ([]placed, error) {
	if m.Name == "" || m.Run == "" {
		return nil, errors.New("a machine without a name or a run cannot be searched for")
	}
	names := []string{m.Region}
	if m.Region == "" {
		var err error
		if names, err = c.searched(ctx); err != nil {
			return nil, err
		}
	}
	perRegion := make([][]placed, len(names))
	err := c.inEach(ctx, names, func(n int, r *region) error {
		all, err := r.describe(ctx, filter("tag:"+tagRun, m.Run), filter("tag:"+tagName, m.Name), unended())
		for _, i := range all {
			perRegion[n] = append(perRegion[n], placed{r, awssdk.ToString(i.InstanceId)})
		}
		return err
	})
	return slices.Concat(perRegion...), err
}

// Extend moves the time in the machine's tags until which it is wanted.
func (c *Cloud) Extend(ctx context.Context, m cluster.Machine, until time.Time) error {
	err := func() error {
		var instances []placed
		var err error
		if m.CloudID != "" && m.Region != "" {
			instances = []placed{{id: m.CloudID}}
			instances[0].in, err = c.in(ctx, m.Region)
		} else {
			instances, err = c.named(ctx, m)
		}
		if err != nil {
			return err
		}
		if len(instances) == 0 {
			return errors.New("it is not there")
		}
		return each(instances, func(i placed) error {
			_, err := i.in.ec2.CreateTags(ctx, &ec2.CreateTagsInput{
				Resources: []string{i.id},
				Tags:      []types.Tag{{Key: awssdk.String(tagExpires), Value: awssdk.String(fmt.Sprint(until.Unix()))}},
			})
			return err
		})
	}()
	if err != nil {
		return c.failure(fmt.Sprintf("could not put off the expiry of machine %s on %s", m.Name, c.cfg.Name), err)
	}
	return nil
}
