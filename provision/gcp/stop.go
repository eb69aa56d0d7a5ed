package gcp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"cloud.google.com/go/compute/apiv1/computepb"

	"github.com/levinrun/levin/cluster"
)

// settleTime is how long a request that creates a machine may be on its way when
// whoever sent it has been interrupted.
const settleTime = 10 * time.Second

const instances = "instances" // the collection

// Stop deletes the machine and returns when Google says that it is gone.
func (c *Cloud) Stop(ctx context.Context, m cluster.Machine) error {
	if err := c.stop(ctx, m); err != nil {
		return c.failure(fmt.Sprintf("could not end machine %s on %s", m.Name, c.cfg.Name), err)
	}
	return nil
}

func (c *Cloud) stop(ctx context.Context, m cluster.Machine) error {
	s, err := c.connect()
	if err != nil {
		return err
	}
	// A machine that was ready once is in the books of every zone, or gone. One whose
	// create was interrupted may come into them yet.
	born := m.StopRequestedAt
	if m.CreatingAt.After(born) {
		born = m.CreatingAt
	}
	uncertain := m.ReadyAt.IsZero() && !m.CreatingAt.IsZero()
	for {
		places, err := c.places(ctx, s, m)
		if err != nil {
			return err
		}
		ended := false
		var mu sync.Mutex
		err = each(places, func(r resource) error {
			var did bool
			err := c.free(ctx, func() (err error) { did, err = c.delete(ctx, s, r, uncertain); return err })
			mu.Lock()
			defer mu.Unlock()
			ended = ended || did
			return err
		})
		if err != nil || ended || !uncertain || time.Since(born) > c.settle {
			return err
		}
		if err := sleep(ctx, c.poll); err != nil {
			return err
		}
	}
}

// delete deletes one machine and waits for its end; the bool is false when it was
// not there. A create that Google has under way is waited for and undone.
func (c *Cloud) delete(ctx context.Context, s *sdk, r resource, uncertain bool) (bool, error) {
	for {
		begun, err := s.instances.Delete(ctx, &computepb.DeleteInstanceRequest{Project: r.project, Zone: r.zone, Instance: r.name}, c.options()...)
		err = c.done(ctx, s, r, begun, err)
		if !missing(err, r) {
			return err == nil, err
		}
		if !uncertain {
			return false, nil
		}
		creating, err := c.creating(ctx, s, r)
		if err != nil || creating == nil {
			return false, err
		}
		// Its own end does not matter: what it has left is deleted.
		var failed *operationError
		if err := c.finished(ctx, s, r, creating); err != nil && !errors.As(err, &failed) {
			return false, err
		}
	}
}

// creating gives the operation that is creating a machine, nil when there is none.
func (c *Cloud) creating(ctx context.Context, s *sdk, r resource) (*computepb.Operation, error) {
	operations, err := c.operations(ctx, s, r)
	for _, op := range operations {
		if op.GetOperationType() == "insert" && op.GetStatus() != computepb.Operation_DONE {
			return op, err
		}
	}
	return nil, err
}

// operations lists the operations on a thing in a zone, the newest first.
func (c *Cloud) operations(ctx context.Context, s *sdk, r resource) ([]*computepb.Operation, error) {
	filter := fmt.Sprintf(`targetLink = "https://www.googleapis.com/compute/v1/%s"`, r)
	all, err := collect(s.inZone.List(ctx, &computepb.ListZoneOperationsRequest{Project: r.project, Zone: r.zone, Filter: &filter}, c.options()...).Next)
	if err != nil {
		return nil, err
	}
	newestFirst(all)
	return all, nil
}

// places says where a machine is or would be: its cloud id says it, or the zone it
// was asked for in; else it is searched for by its name.
func (c *Cloud) places(ctx context.Context, s *sdk, m cluster.Machine) ([]resource, error) {
	if m.CloudID != "" {
		r, err := parseResource(m.CloudID)
		return []resource{r}, err
	}
	if m.Name == "" {
		return nil, errors.New("a machine without a name cannot be searched for")
	}
	project, err := c.project()
	if err != nil {
		return nil, err
	}
	if m.Zone != "" {
		return []resource{{project: project, zone: m.Zone, region: regionOf(m.Zone), collection: instances, name: m.Name}}, nil
	}
	found, err := c.instances(ctx, s, project, fmt.Sprintf(`name = %q`, m.Name))
	var places []resource
	for _, i := range found {
		places = append(places, i.resource)
	}
	return places, err
}

// each does f for all of things at the same time, and joins the errors.
func each[T any](things []T, f func(T) error) error {
	errs := make([]error, len(things))
	var all sync.WaitGroup
	for i, t := range things {
		all.Go(func() { errs[i] = f(t) })
	}
	all.Wait()
	return errors.Join(errs...)
}
