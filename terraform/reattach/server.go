// Package reattach serves a Terraform provider from within this process, to every
// Terraform process that is given its address (TF_REATTACH_PROVIDERS).
package reattach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
	"github.com/hashicorp/terraform-plugin-log/tfsdklog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/levinrun/levin/terraform"
)

const (
	maxMessage = 256 << 20 // as Terraform's own servers allow
	// healthName is the service that Terraform asks for when it checks on a plugin.
	healthName = "plugin"
)

// Config is what a Server works with.
type Config struct {
	Dir    string // folder of its socket; made if needed, removed with its last socket
	Source string // the provider's source address, "levinrun/levin"
	// Provider makes what serves one connection, which is one Terraform process.
	Provider func() tfprotov6.ProviderServer
	Logger   *slog.Logger // default: none
}

// Server serves a provider. Close it.
//
// Each connection gets a gRPC server and a provider of its own. When a Terraform
// process is interrupted it asks its provider to stop, which cancels whatever that
// provider is doing; with one server for all, one group's interrupt would cancel
// the creation of every other group's machines.
type Server struct {
	cfg      Config
	address  string
	logging  context.Context // holds the sink that silences the framework
	listener net.Listener
	cleanup  func()

	mu    sync.Mutex
	live  map[*grpc.Server]struct{} // nil once closed
	conns sync.WaitGroup
	done  chan struct{} // closed when no more connections are accepted
}

// Serve serves a provider until Close.
func Serve(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	listener, address, cleanup, err := listen(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, address: address, listener: listener, cleanup: cleanup,
		// Without a sink the framework writes a line to stderr for each step of each
		// request. This sink is off unless the user has set TF_LOG.
		logging: tfsdklog.ContextWithTestLogging(context.Background(), "levin"),
		live:    map[*grpc.Server]struct{}{},
		done:    make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		s.accept()
	}()
	return s, nil
}

// Reattach is where Terraform finds the provider.
func (s *Server) Reattach() terraform.Reattach {
	return terraform.Reattach{
		Protocol: "grpc", ProtocolVersion: 6, PID: os.Getpid(),
		Network: "unix", Address: s.address,
	}
}

// listen opens a socket in dir that only this user can reach.
func listen(dir string) (l net.Listener, address string, cleanup func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", nil, err
	}
	removeDead(dir)
	// Several providers may be served by one process.
	name := func(i int) string { return fmt.Sprintf("%d-%d.sock", os.Getpid(), i) }
	for i := 1; ; i++ {
		path := filepath.Join(dir, name(i))
		address, release, err := shortPath(dir, name(i))
		if err != nil {
			return nil, "", nil, err
		}
		l, err := net.Listen("unix", address)
		if err == nil {
			l.(*net.UnixListener).SetUnlinkOnClose(false) // by its full name below
			return l, address, func() {
				os.Remove(path)
				release()
				os.Remove(dir) // unless others have sockets in it
			}, nil
		}
		release()
		if _, taken := os.Lstat(path); taken != nil || i > 1000 {
			return nil, "", nil, err
		}
	}
}

// Tidy removes the sockets that processes left in dir when they were killed, and dir
// itself unless there are others in it.
func Tidy(dir string) {
	removeDead(dir)
	os.Remove(dir)
}

// removeDead removes the sockets of processes that are gone.
func removeDead(dir string) {
	paths, _ := filepath.Glob(filepath.Join(dir, "*-*.sock"))
	for _, path := range paths {
		var pid, i int
		if n, _ := fmt.Sscanf(filepath.Base(path), "%d-%d.sock", &pid, &i); n == 2 && !processExists(pid) {
			os.Remove(path)
		}
	}
}

func processExists(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release()
	return !errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}

// accept serves connections until the listener is closed.
func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.cfg.Logger.Error("the Terraform provider's socket has failed", "error", err)
			}
			return
		}
		s.conns.Go(func() { s.serve(conn) })
	}
}

// serve serves one connection to its end.
func (s *Server) serve(conn net.Conn) {
	defer conn.Close()
	g := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.WaitForHandlers(true),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			return handle(context.WithValue(quietContext{ctx, s.logging}, connKey{}, conn), req)
		}),
	)
	check := health.NewServer()
	check.SetServingStatus(healthName, grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(g, check)
	plugin := &tf6server.GRPCProviderPlugin{
		Name: "registry.terraform.io/" + s.cfg.Source, GRPCProvider: s.cfg.Provider,
	}
	if err := plugin.GRPCServer(nil, g); err != nil {
		s.cfg.Logger.Error("cannot serve the Terraform provider", "error", err)
		return
	}
	s.mu.Lock()
	if s.live == nil {
		s.mu.Unlock()
		return
	}
	s.live[g] = struct{}{}
	s.mu.Unlock()

	g.Serve(newOneConn(conn)) // ends when the connection does
	g.Stop()                  // waits for its handlers

	s.mu.Lock()
	delete(s.live, g)
	s.mu.Unlock()
}

// connKey is where a request's context holds the connection it came by.
type connKey struct{}

// Drop breaks the connection by which a request came, as a provider that dies
// would. It does nothing for a context that is of no request.
func Drop(ctx context.Context) {
	if conn, ok := ctx.Value(connKey{}).(net.Conn); ok {
		conn.Close()
	}
}

// quietContext is a request's context with the values of another one behind its
// own: the framework finds there the sink that its log goes to.
type quietContext struct {
	context.Context
	values context.Context
}

func (c quietContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// Close cancels what is being served, waits for it, and removes the socket.
func (s *Server) Close() error {
	err := s.listener.Close()
	<-s.done
	s.mu.Lock()
	live := s.live
	s.live = nil
	s.mu.Unlock()
	for g := range live {
		g.Stop()
	}
	s.conns.Wait()
	s.cleanup()
	return err
}

// oneConn is a listener that gives one connection and ends with it.
type oneConn struct {
	conn   net.Conn
	given  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newOneConn(conn net.Conn) *oneConn {
	l := &oneConn{conn: conn, given: make(chan net.Conn, 1), closed: make(chan struct{})}
	l.given <- &endingConn{conn, l}
	return l
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case conn := <-l.given:
		return conn, nil
	default:
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// endingConn closes its listener with itself.
type endingConn struct {
	net.Conn
	listener *oneConn
}

func (c *endingConn) Close() error {
	defer c.listener.Close()
	return c.Conn.Close()
}
