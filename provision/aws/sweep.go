package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/levinrun/levin/provision"
)

// The kinds of things that are found.
const (
	kindMachine   = "machine"
	kindDisk      = "disk"
	kindKey       = "key"
	kindFirewall  = "firewall"
	kindPlacement = "placement group"
)

// removal is the order of removal: what is needed by others comes after them.
var removal = [...]string{kindMachine, kindDisk, kindKey, kindPlacement, kindFirewall}

// Find lists what carries Levin's tags. Disks that go with a machine are part of
// it and not listed.
func (c *Cloud) Find(ctx context.Context, run string) ([]provision.Found, error) {
	names, err := c.searched(ctx)
	if err != nil {
		return nil, c.failure("could not list the regions of "+c.cfg.Name, err)
	}
	perRegion := make([][]provision.Found, len(names))
	err = c.inEach(ctx, names, func(n int, r *region) (err error) {
		perRegion[n], err = c.findIn(ctx, r, run)
		return err
	})
	found := slices.Concat(perRegion...)
	if err != nil {
		return found, c.failure("could not look for what Levin has made on "+c.cfg.Name, err)
	}
	return found, nil
}

// findIn searches one region. What it has found until something fails is given.
func (c *Cloud) findIn(ctx context.Context, r *region, run string) ([]provision.Found, error) {
	tagged := filter("tag-key", tagRun)
	if run != "" {
		tagged = filter("tag:"+tagRun, run)
	}
	var found []provision.Found
	add := func(kind, id string, tags []types.Tag, more func(*provision.Found)) {
		f := provision.Found{Cloud: c.cfg.Name, Region: r.name, Kind: kind, ID: id}
		f.Run, f.Component, f.Owner = tag(tags, tagRun), tag(tags, tagComponent), tag(tags, tagOwner)
		if s, err := strconv.ParseInt(tag(tags, tagExpires), 10, 64); err == nil {
			f.ExpiresAt = time.Unix(s, 0).UTC()
		}
		if more != nil {
			more(&f)
		}
		found = append(found, f)
	}

	instances, err := r.describe(ctx, tagged, unended())
	if err != nil {
		return found, err
	}
	partOf := map[string]bool{} // disks that go with a machine
	for _, i := range instances {
		add(kindMachine, awssdk.ToString(i.InstanceId), i.Tags, func(f *provision.Found) { c.fill(f, i) })
		for _, d := range i.BlockDeviceMappings {
			if d.Ebs != nil && awssdk.ToBool(d.Ebs.DeleteOnTermination) {
				partOf[awssdk.ToString(d.Ebs.VolumeId)] = true
			}
		}
	}

	volumes := ec2.NewDescribeVolumesPaginator(r.ec2, &ec2.DescribeVolumesInput{Filters: []types.Filter{tagged}})
	for volumes.HasMorePages() {
		page, err := volumes.NextPage(ctx)
		if err != nil {
			return found, err
		}
		for _, v := range page.Volumes {
			if id := awssdk.ToString(v.VolumeId); !partOf[id] && v.State != types.VolumeStateDeleting && v.State != types.VolumeStateDeleted {
				add(kindDisk, id, v.Tags, func(f *provision.Found) {
					f.Zone, f.Type, f.CreatedAt = awssdk.ToString(v.AvailabilityZoneId), string(v.VolumeType), awssdk.ToTime(v.CreateTime)
				})
			}
		}
	}

	keys, err := r.ec2.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{Filters: []types.Filter{tagged}})
	if err != nil {
		return found, err
	}
	for _, k := range keys.KeyPairs {
		add(kindKey, awssdk.ToString(k.KeyName), k.Tags, func(f *provision.Found) { f.CreatedAt = awssdk.ToTime(k.CreateTime) })
	}

	placements, err := r.ec2.DescribePlacementGroups(ctx, &ec2.DescribePlacementGroupsInput{Filters: []types.Filter{tagged}})
	if err != nil {
		return found, err
	}
	for _, p := range placements.PlacementGroups {
		if p.State != types.PlacementGroupStateDeleting && p.State != types.PlacementGroupStateDeleted {
			add(kindPlacement, awssdk.ToString(p.GroupName), p.Tags, nil)
		}
	}

	groups := ec2.NewDescribeSecurityGroupsPaginator(r.ec2, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{tagged}})
	for groups.HasMorePages() {
		page, err := groups.NextPage(ctx)
		if err != nil {
			return found, err
		}
		for _, g := range page.SecurityGroups {
			add(kindFirewall, awssdk.ToString(g.GroupId), g.Tags, func(f *provision.Found) { f.Name = awssdk.ToString(g.GroupName) })
		}
	}
	return found, nil
}

// fill says what an instance is and costs.
func (c *Cloud) fill(f *provision.Found, i types.Instance) {
	f.Name, f.Type, f.CreatedAt = tag(i.Tags, tagName), string(i.InstanceType), awssdk.ToTime(i.LaunchTime)
	f.Spot = i.InstanceLifecycle == types.InstanceLifecycleTypeSpot
	f.Status, _ = statusOf(i)
	if i.Placement != nil {
		f.Zone = cmp.Or(awssdk.ToString(i.Placement.AvailabilityZoneId), awssdk.ToString(i.Placement.AvailabilityZone))
	}
	if f.Status != provision.StatusBooting && f.Status != provision.StatusRunning {
		return // EC2 takes nothing for what does not run
	}
	if cat, err := c.loadCatalog(); err == nil {
		f.PricePerHour, _ = cat.Price(f.Type, f.Region, f.Spot)
	}
}

func tag(tags []types.Tag, key string) string {
	for _, t := range tags {
		if awssdk.ToString(t.Key) == key {
			return awssdk.ToString(t.Value)
		}
	}
	return ""
}

// Remove ends and deletes what Find has found.
func (c *Cloud) Remove(ctx context.Context, found []provision.Found) error {
	perRegion := map[string][]provision.Found{}
	var names []string
	for _, f := range found {
		if perRegion[f.Region] == nil {
			names = append(names, f.Region)
		}
		perRegion[f.Region] = append(perRegion[f.Region], f)
	}
	err := c.inEach(ctx, names, func(n int, r *region) error { return c.removeIn(ctx, r, perRegion[names[n]]) })
	if err != nil {
		return c.failure("could not remove everything on "+c.cfg.Name, err)
	}
	return nil
}

// removeIn removes things of one region, kind after kind. What cannot be removed
// does not keep the rest from being removed.
func (c *Cloud) removeIn(ctx context.Context, r *region, found []provision.Found) error {
	var errs []error
	for _, kind := range removal {
		var of []provision.Found
		for _, f := range found {
			if f.Kind == kind {
				of = append(of, f)
			}
		}
		// An id that EC2 does not know has been gone for long: it was found.
		if err := each(of, func(f provision.Found) error { return c.remove(ctx, r, f) }); err != nil {
			errs = append(errs, err)
		}
	}
	for _, f := range found {
		if !slices.Contains(removal[:], f.Kind) {
			errs = append(errs, fmt.Errorf("%s is a %q, which is nothing that Levin makes here", f.ID, f.Kind))
		}
	}
	return errors.Join(errs...)
}

// remove removes one thing and takes one that is gone for removed.
func (c *Cloud) remove(ctx context.Context, r *region, f provision.Found) error {
	var err error
	switch f.Kind {
	case kindMachine:
		err = r.end(ctx, c, f.ID, time.Time{})
	case kindDisk:
		err = c.free(ctx, func() error {
			_, err := r.ec2.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: awssdk.String(f.ID)})
			return err
		})
	case kindKey:
		_, err = r.ec2.DeleteKeyPair(ctx, &ec2.DeleteKeyPairInput{KeyName: awssdk.String(f.ID)})
	case kindPlacement:
		err = c.free(ctx, func() error {
			_, err := r.ec2.DeletePlacementGroup(ctx, &ec2.DeletePlacementGroupInput{GroupName: awssdk.String(f.ID)})
			return err
		})
	case kindFirewall:
		err = c.free(ctx, func() error {
			_, err := r.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: awssdk.String(f.ID)})
			return err
		})
	}
	switch code(err) {
	case "InvalidVolume.NotFound", "InvalidKeyPair.NotFound", "InvalidPlacementGroup.Unknown", "InvalidGroup.NotFound", "InvalidGroupId.NotFound":
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", f.Kind, f.ID, err)
	}
	return nil
}

// releaseTime is how long something may still count as in use after the machine
// that used it is terminated.
const releaseTime = time.Minute

// free deletes something that may be in use for a moment longer.
func (c *Cloud) free(ctx context.Context, remove func() error) error {
	pause := c.poll
	for began := time.Now(); ; {
		err := remove()
		switch code(err) {
		case "DependencyViolation", "VolumeInUse", "InvalidPlacementGroup.InUse", "InvalidGroup.InUse":
		default:
			return err
		}
		if time.Since(began) > max(releaseTime, c.settle) {
			return err
		}
		if ended := sleep(ctx, pause); ended != nil {
			return fmt.Errorf("%w: %w", ended, err)
		}
		pause = min(pause*3/2, longestGap)
	}
}
