package aws

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/levinrun/levin/cluster"
)

const (
	firstLook  = 500 * time.Millisecond
	longestGap = 5 * time.Second // between two looks at machines that are ending
	// settleTime is how long EC2 is given to know of an instance everywhere. Its API
	// is eventually consistent: most answers are right within a second.
	settleTime = 5 * time.Second
)

// ended is what EC2 said when it was asked to terminate an instance.
type ended struct {
	gone  bool // it is terminated already
	never bool // EC2 knows no such instance
}

// Stop terminates the machine and returns when EC2 says that it is terminated.
func (c *Cloud) Stop(ctx context.Context, m cluster.Machine) error {
	if err := c.stop(ctx, m); err != nil {
		return c.failure(fmt.Sprintf("could not end machine %s on %s", m.Name, c.cfg.Name), err)
	}
	return nil
}

func (c *Cloud) stop(ctx context.Context, m cluster.Machine) error {
	if m.CloudID != "" && m.Region != "" {
		r, err := c.in(ctx, m.Region)
		if err != nil {
			return err
		}
		return r.end(ctx, c, m.CloudID, m.ReadyAt)
	}
	instances, err := c.named(ctx, m)
	// Whoever asks to end it has ended the create first; what that had set going is
	// perhaps not visible yet.
	born := m.StopRequestedAt
	if m.CreatingAt.After(born) {
		born = m.CreatingAt
	}
	for err == nil && len(instances) == 0 && !m.CreatingAt.IsZero() && time.Since(born) < c.settle {
		if err = sleep(ctx, c.poll); err == nil {
			instances, err = c.named(ctx, m)
		}
	}
	if err != nil {
		return err
	}
	return each(instances, func(i placed) error { return i.in.end(ctx, c, i.id, time.Now()) })
}

// end terminates one instance and waits for its end. born is when the instance is
// known to have come to be, at the latest; the zero time is long ago.
func (r *region) end(ctx context.Context, c *Cloud, id string, born time.Time) error {
	for {
		e, err := r.ending.ask(ctx, id)
		switch {
		case err != nil:
			return err
		case e.gone, e.never && time.Since(born) > c.settle:
			return nil
		case !e.never:
			return r.leaving.wait(ctx, id)
		}
		if err := sleep(ctx, c.poll); err != nil {
			return err
		}
	}
}

// terminate asks EC2 to end all of the instances, and says of each what came of
// it. EC2 refuses the whole request for one instance that it does not know.
func (r *region) terminate(ctx context.Context, ids []string) map[string]outcome[ended] {
	outcomes := map[string]outcome[ended]{}
	for len(ids) > 0 {
		out, err := r.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids})
		if err == nil {
			states := map[string]types.InstanceStateName{}
			for _, i := range out.TerminatingInstances {
				if i.CurrentState != nil {
					states[awssdk.ToString(i.InstanceId)] = i.CurrentState.Name
				}
			}
			for _, id := range ids {
				outcomes[id] = outcome[ended]{value: ended{gone: states[id] == types.InstanceStateNameTerminated}}
			}
			return outcomes
		}
		unknown := missing(err, ids)
		switch {
		case len(unknown) > 0:
			for _, id := range unknown {
				outcomes[id] = outcome[ended]{value: ended{never: true}}
			}
			ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return slices.Contains(unknown, id) })
		case len(ids) == 1 || !refused(err):
			for _, id := range ids {
				outcomes[id] = outcome[ended]{err: err}
			}
			return outcomes
		default: // one of them is at fault, and the others must not suffer for it
			for _, id := range ids {
				maps.Copy(outcomes, r.terminate(ctx, []string{id}))
			}
			return outcomes
		}
	}
	return outcomes
}

// missing gives those of ids that EC2 says it does not know.
func missing(err error, ids []string) []string {
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "InvalidInstanceID.NotFound" {
		return nil
	}
	if len(ids) == 1 {
		return ids
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !strings.Contains(api.ErrorMessage(), id) })
}

// refused reports whether EC2 refused what it was asked, rather than whoever
// asked or the moment.
func refused(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	v, known := judge(err)
	switch v.Kind {
	case cluster.Auth:
		// A policy may spare some instances by their tags.
		return api.ErrorCode() == "UnauthorizedOperation"
	case cluster.Throttled, cluster.Transient:
		return false
	}
	return known || api.ErrorFault() != smithy.FaultServer
}

// watch waits for instances to be terminated: all of a region with one request
// at a time, more seldom the longer it takes.
type watch struct {
	cloud *Cloud
	in    *region

	mu      sync.Mutex
	waiting map[string]*waiting
	looking bool
	pause   time.Duration
}

type waiting struct {
	since time.Time
	done  []chan error
}

func newWatch(c *Cloud, r *region) *watch {
	return &watch{cloud: c, in: r, waiting: map[string]*waiting{}}
}

// wait returns when the instance is terminated. EC2 has confirmed before that it
// ends it.
func (w *watch) wait(ctx context.Context, id string) error {
	done := make(chan error, 1)
	w.mu.Lock()
	if w.waiting[id] == nil {
		w.waiting[id] = &waiting{since: time.Now()}
	}
	w.waiting[id].done = append(w.waiting[id].done, done)
	w.pause = w.cloud.poll
	if !w.looking {
		if !w.cloud.background(w.look) {
			w.mu.Unlock()
			return errClosed
		}
		w.looking = true
	}
	w.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// look looks until nobody waits.
func (w *watch) look() {
	for {
		w.mu.Lock()
		pause := w.pause
		w.pause = min(pause*3/2, max(longestGap, w.cloud.poll))
		w.mu.Unlock()
		closed := sleep(w.cloud.life, pause) != nil

		w.mu.Lock()
		ids := slices.Sorted(maps.Keys(w.waiting))
		w.mu.Unlock()
		var found map[string]types.Instance
		err := errClosed
		if !closed {
			found, err = w.in.instances(w.cloud.life, ids)
		}

		w.mu.Lock()
		for _, id := range ids {
			i, there := found[id]
			long := time.Since(w.waiting[id].since) > w.cloud.settle
			switch {
			case err != nil && (closed || hopeless(err)):
				w.tell(id, err)
			case err == nil && (stateOf(i) == types.InstanceStateNameTerminated || !there && long):
				w.tell(id, nil)
			}
		}
		if len(w.waiting) == 0 {
			w.looking = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
}

// tell ends the wait for an instance. w.mu is held.
func (w *watch) tell(id string, err error) {
	for _, done := range w.waiting[id].done {
		done <- err
	}
	delete(w.waiting, id)
}

// hopeless reports whether asking again would give the same answer.
func hopeless(err error) bool {
	v, known := judge(err)
	return known && v.Kind != cluster.Throttled && v.Kind != cluster.Transient
}

func stateOf(i types.Instance) types.InstanceStateName {
	if i.State == nil {
		return ""
	}
	return i.State.Name
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
