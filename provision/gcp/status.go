package gcp

import (
	"context"
	"fmt"
	"strings"
	"time"

	"cloud.google.com/go/compute/apiv1/computepb"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision"
)

// Status says how a machine is doing, by Compute Engine.
func (c *Cloud) Status(ctx context.Context, m cluster.Machine) (provision.Status, string, error) {
	status, words, err := c.status(ctx, m)
	if err != nil {
		return provision.StatusUnknown, "", c.failure(fmt.Sprintf("could not ask how machine %s on %s is doing", m.Name, c.cfg.Name), err)
	}
	return status, words, nil
}

func (c *Cloud) status(ctx context.Context, m cluster.Machine) (provision.Status, string, error) {
	s, err := c.connect()
	if err != nil {
		return "", "", err
	}
	places, err := c.places(ctx, s, m)
	if err != nil {
		return "", "", err
	}
	if len(places) == 0 {
		return provision.StatusGone, "", nil
	}
	r := places[0]
	status, words := provision.StatusGone, ""
	i, err := s.instances.Get(ctx, &computepb.GetInstanceRequest{Project: r.project, Zone: r.zone, Instance: r.name}, c.options()...)
	switch {
	case err == nil:
		status, words = statusOf(i)
	case !missing(err, r):
		return "", "", err
	}
	if status == provision.StatusRunning || status == provision.StatusBooting {
		return status, words, nil
	}
	// Google deletes what it takes back, and only the operation says why.
	why, err := c.whyItEnded(ctx, s, r)
	if err != nil {
		return "", "", err
	}
	if strings.HasPrefix(why, preemption) {
		status = provision.StatusPreempted
	}
	if why != "" {
		words = why
	}
	return status, words, nil
}

const preemption = "compute.instances.preempted"

// whyItEnded gives the newest of the operations by which Google itself ends
// machines (compute.instances.preempted, .hostError, .guestTerminate …), "" when
// there is none.
func (c *Cloud) whyItEnded(ctx context.Context, s *sdk, r resource) (string, error) {
	const own = "compute.instances."
	operations, err := c.operations(ctx, s, r)
	if err != nil {
		return "", err
	}
	for _, op := range operations {
		if strings.HasPrefix(op.GetOperationType(), own) {
			return strings.TrimSuffix(op.GetOperationType()+": "+op.GetStatusMessage(), ": "), nil
		}
	}
	return "", nil
}

// statusOf reads an instance's status, and what Google says of it.
func statusOf(i *computepb.Instance) (provision.Status, string) {
	switch i.GetStatus() {
	case "PENDING", "PROVISIONING", "STAGING", "REPAIRING":
		return provision.StatusBooting, ""
	case "RUNNING":
		return provision.StatusRunning, ""
	case "PENDING_STOP", "STOPPING", "STOPPED", "TERMINATED", "SUSPENDING", "SUSPENDED", "DEPROVISIONING":
		return provision.StatusStopped, i.GetStatusMessage()
	}
	return provision.StatusUnknown, i.GetStatus()
}

// Extend always gives provision.ErrExpiryFixed: Compute Engine ends a VM when its
// max_run_duration is over, which cannot be changed while it runs, and its label
// must not claim anything else.
func (c *Cloud) Extend(_ context.Context, m cluster.Machine, _ time.Time) error {
	return fmt.Errorf("machine %s on %s: %w: Compute Engine changes max_run_duration only while a VM is stopped", m.Name, c.cfg.Name, provision.ErrExpiryFixed)
}
