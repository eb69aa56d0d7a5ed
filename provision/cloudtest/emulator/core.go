package emulator

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// core is the state of the emulator beyond its things.
type core struct{}

var (
	// ErrNotFound is for a thing that is not there.
	ErrNotFound = errors.New("not found")
	// ErrInUse is for a thing that another one needs.
	ErrInUse = errors.New("in use")
)

// New starts an emulated cloud. Close it.
func New(cfg Config) (*Emulator, error) { return nil, errors.ErrUnsupported }

// Close ends every instance and all that is served.
func (e *Emulator) Close() error { return errors.ErrUnsupported }

// Env is the environment for a levin process that is to use this cloud:
// TF_REATTACH_PROVIDERS, and credentials that are worth nothing elsewhere.
func (e *Emulator) Env() []string { return nil }

// Endpoint is what clouds.aws.endpoint or clouds.gcp.endpoint is set to.
func (e *Emulator) Endpoint(cloud string) string { return "" }

// Inject makes something go wrong until remove is called.
func (e *Emulator) Inject(f Fault) (remove func()) { return func() {} }

// Preempt takes a spot instance back after notice (in cloud seconds).
func (e *Emulator) Preempt(cloud, id string, notice time.Duration) error {
	return errors.ErrUnsupported
}

// Left lists what still exists and would cost or clutter: instances that are not
// terminated, disks, keys, firewalls.
func (e *Emulator) Left() []Thing { return nil }

// Things gives copies of all things of a kind and cloud.
func (e *Emulator) Things(cloud, kind string) []Thing { return nil }

// Terminate begins to end an instance.
func (e *Emulator) Terminate(cloud, id, reason string) error { return errors.ErrUnsupported }

// Delete removes a thing that is not an instance.
func (e *Emulator) Delete(cloud, kind, id string) error { return errors.ErrUnsupported }

// Tag sets tags of a thing.
func (e *Emulator) Tag(cloud, id string, tags map[string]string) error { return errors.ErrUnsupported }

// Check says whether a fault hits an operation.
func (e *Emulator) Check(ctx context.Context, cloud, op, region, zone, typ string, spot bool) (FaultKind, bool) {
	return "", false
}

func (e *Emulator) serveMetadata(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }
