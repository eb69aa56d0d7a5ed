package emulator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/levinrun/levin/provision/local/machine"
	"github.com/levinrun/levin/terraform/reattach"
)

// core is what keeps the cloud going.
type core struct {
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // lives of instances, and servers

	url       string // of the HTTP APIs
	server    *http.Server
	providers map[string]*reattach.Server // by cloud
	env       []string
}

var (
	// ErrNotFound is for a thing that is not there.
	ErrNotFound = errors.New("not found")
	// ErrInUse is for a thing that another one needs.
	ErrInUse = errors.New("in use")
)

// closeLimit bounds the end of all instances.
const closeLimit = 30 * time.Second

// New starts an emulated cloud. Close it.
func New(cfg Config) (*Emulator, error) {
	if !filepath.IsAbs(cfg.Dir) || cfg.Agent == "" {
		return nil, errors.New("emulator: no folder or no agent")
	}
	if cfg.Second <= 0 {
		cfg.Second = time.Second
	}
	if cfg.SSHPort == 0 {
		cfg.SSHPort = 22
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	e := &Emulator{cfg: cfg, starter: machine.NewStarter(), changed: make(chan struct{}), calls: map[string]int{}}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.providers = map[string]*reattach.Server{}
	err := e.serveHTTP()
	if err == nil {
		err = e.serveProviders()
	}
	if err == nil {
		err = e.makeEnv()
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *Emulator) serveHTTP() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	e.url = "http://" + listener.Addr().String()
	e.server = &http.Server{Handler: e.handlers(), BaseContext: func(net.Listener) context.Context { return e.ctx }}
	e.wg.Go(func() { e.server.Serve(listener) })
	return nil
}

func (e *Emulator) serveProviders() error {
	for _, cloud := range []string{AWS, GCP} {
		schema, err := embeddedSchema(cloud)
		if err != nil {
			return err
		}
		server, err := reattach.Serve(reattach.Config{
			Dir: filepath.Join(e.cfg.Dir, "providers"), Source: source(cloud), Provider: e.newProvider(cloud, schema),
		})
		if err != nil {
			return err
		}
		e.providers[cloud] = server
	}
	return nil
}

// The clouds.
const (
	AWS = "aws"
	GCP = "gcp"
)

// source is the address of a cloud's Terraform provider.
func source(cloud string) string {
	if cloud == GCP {
		return "hashicorp/google"
	}
	return "hashicorp/aws"
}

// Close ends every instance and all that is served, and says what could not be
// ended. Closing what is closed does nothing.
func (e *Emulator) Close() error {
	e.mu.Lock()
	closed := e.closed
	e.closed = true
	e.mu.Unlock()
	if closed {
		return nil
	}
	e.cancel()
	var errs []error
	for _, p := range e.providers {
		errs = append(errs, p.Close())
	}
	if e.server != nil {
		errs = append(errs, e.server.Close())
	}
	e.wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	left, err := machine.Strays(e.machines())
	errs = append(errs, err)
	for _, dir := range left {
		errs = append(errs, fmt.Errorf("emulator: %s was left by its instance", dir), machine.Sweep(ctx, dir))
	}
	e.starter.Close()
	return errors.Join(errs...)
}

// machines is the folder of the machines that instances are.
func (e *Emulator) machines() string { return filepath.Join(e.cfg.Dir, "machines") }

// Endpoint is what clouds.aws.endpoint or clouds.gcp.endpoint is set to.
func (e *Emulator) Endpoint(cloud string) string { return e.url + "/" + cloud }

// seconds is how long so many seconds of the cloud's own count last.
func (e *Emulator) seconds(n float64) time.Duration { return time.Duration(n * float64(e.cfg.Second)) }

// count notes an API call; Calls tells.
func (e *Emulator) count(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls[name]++
}

// Calls says how often an API call was made: "RunInstances", "instances.delete".
func (e *Emulator) Calls(name string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls[name]
}
