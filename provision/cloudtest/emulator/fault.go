package emulator

import (
	"context"
	"fmt"
	"slices"
)

// Inject makes something go wrong until remove is called.
func (e *Emulator) Inject(f Fault) (remove func()) {
	if f.Op == "" {
		f.Op = "create"
	}
	entry := &fault{Fault: f, left: f.Times}
	if f.Times == 0 {
		entry.left = -1
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = append(e.faults, entry)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.faults = slices.DeleteFunc(e.faults, func(other *fault) bool { return other == entry })
	}
}

// request is what a fault may match.
type request struct {
	cloud, op         string
	region, zone, typ string
	spot              bool
	instance          bool      // it is about an instance; faults of capacity, boot and the like hit nothing else
	only              FaultKind // "" is any
}

// action is what EC2 calls the operation.
func (r request) action() string {
	switch {
	case r.op == "terminate":
		return "TerminateInstances"
	case r.op == "describe":
		return "DescribeInstances"
	case !r.instance:
		return "CreateTags" // nothing that Levin makes goes without
	}
	return "RunInstances"
}

// Check says whether a fault hits an operation on an instance. A request that hangs
// is held back here until ctx ends.
func (e *Emulator) Check(ctx context.Context, cloud, op, region, zone, typ string, spot bool) (FaultKind, bool) {
	return e.check(ctx, request{cloud: cloud, op: op, region: region, zone: zone, typ: typ, spot: spot, instance: true})
}

func (e *Emulator) check(ctx context.Context, r request) (FaultKind, bool) {
	kind, ok := e.hit(r)
	if ok && kind == FaultHang {
		select {
		case <-ctx.Done():
		case <-e.ctx.Done():
		}
	}
	return kind, ok
}

// hit uses up one time of the first fault that matches.
func (e *Emulator) hit(r request) (FaultKind, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range e.faults {
		if f.left != 0 && f.matches(r) {
			if f.left > 0 {
				f.left--
				e.notify()
			}
			return f.Kind, true
		}
	}
	return "", false
}

func (f *fault) matches(r request) bool {
	if r.only != "" && f.Kind != r.only {
		return false
	}
	fits := func(want, is string) bool { return want == "" || want == is }
	switch f.Kind {
	case FaultThrottled, FaultExpired, FaultDenied: // also of keys, firewalls, …
	case FaultSpot:
		if !r.spot {
			return false
		}
	default:
		if !r.instance {
			return false
		}
	}
	return fits(f.Cloud, r.cloud) && fits(f.Op, r.op) && fits(f.Region, r.region) && fits(f.Zone, r.zone) &&
		fits(f.Type, r.typ) && (f.Spot == nil || *f.Spot == r.spot)
}

// verbatim is an error in the words of a cloud or of its provider, which are not
// formed as those of Go are.
func verbatim(format string, args ...any) error { return fmt.Errorf(format, args...) }
