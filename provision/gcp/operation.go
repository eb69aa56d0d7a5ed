package gcp

import (
	"context"
	"net/http"

	compute "cloud.google.com/go/compute/apiv1"
	"cloud.google.com/go/compute/apiv1/computepb"
)

// operationError is what Google says of an operation that failed.
type operationError struct {
	code, message string
	status        int // as HTTP counts
}

func (e *operationError) Error() string { return e.code + ": " + e.message }

// done waits until what was begun is done.
func (c *Cloud) done(ctx context.Context, s *sdk, of resource, begun *compute.Operation, err error) error {
	if err != nil {
		return err
	}
	return c.finished(ctx, s, of, begun.Proto())
}

// finished waits for the end of an operation on a thing, and gives the error that
// it ended with.
func (c *Cloud) finished(ctx context.Context, s *sdk, of resource, op *computepb.Operation) error {
	for op.GetStatus() != computepb.Operation_DONE {
		var err error
		switch {
		case of.zone != "":
			op, err = s.inZone.Wait(ctx, &computepb.WaitZoneOperationRequest{Project: of.project, Zone: of.zone, Operation: op.GetName()}, c.options()...)
		case of.region != "":
			op, err = s.inRegion.Wait(ctx, &computepb.WaitRegionOperationRequest{Project: of.project, Region: of.region, Operation: op.GetName()}, c.options()...)
		default:
			op, err = s.everywhere.Wait(ctx, &computepb.WaitGlobalOperationRequest{Project: of.project, Operation: op.GetName()}, c.options()...)
		}
		if err != nil {
			return err
		}
	}
	for _, e := range op.GetError().GetErrors() {
		return &operationError{e.GetCode(), e.GetMessage(), int(op.GetHttpErrorStatusCode())}
	}
	if status := int(op.GetHttpErrorStatusCode()); status >= http.StatusBadRequest {
		return &operationError{http.StatusText(status), op.GetHttpErrorMessage(), status}
	}
	return nil
}
