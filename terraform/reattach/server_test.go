package reattach

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counting counts the providers that are made.
func counting(n *atomic.Int32) func() tfprotov6.ProviderServer {
	return func() tfprotov6.ProviderServer { n.Add(1); return nil }
}

func serve(t *testing.T, dir string, provider func() tfprotov6.ProviderServer) *Server {
	t.Helper()
	s, err := Serve(Config{Dir: dir, Source: "levinrun/test", Provider: provider})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func dial(t *testing.T, s *Server) *grpc.ClientConn {
	t.Helper()
	r := s.Reattach()
	conn, err := grpc.NewClient(r.Network+":"+r.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Terraform asks for the health of "plugin" before anything else; each of its
// processes gets a provider of its own.
func TestEachConnectionHasItsProvider(t *testing.T) {
	var made atomic.Int32
	s := serve(t, t.TempDir(), counting(&made))
	for range 3 {
		answer, err := grpc_health_v1.NewHealthClient(dial(t, s)).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: healthName})
		if err != nil || answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Fatalf("%v, %v", answer, err)
		}
	}
	if made.Load() != 3 {
		t.Errorf("%d providers for 3 connections", made.Load())
	}
}

// dying is a provider that dies when it is asked for its metadata.
type dying struct{ tfprotov6.ProviderServer }

func (dying) GetMetadata(ctx context.Context, _ *tfprotov6.GetMetadataRequest) (*tfprotov6.GetMetadataResponse, error) {
	Drop(ctx)
	<-ctx.Done() // the request ends with its connection
	return nil, ctx.Err()
}

// A connection that is dropped is lost to its client; the next one is served.
func TestDrop(t *testing.T) {
	s := serve(t, t.TempDir(), func() tfprotov6.ProviderServer { return dying{} })
	conn := dial(t, s)
	err := conn.Invoke(t.Context(), "/tfplugin6.Provider/GetMetadata", &grpc_health_v1.HealthCheckRequest{}, &grpc_health_v1.HealthCheckResponse{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the request ends with %v", err)
	}
	health := grpc_health_v1.NewHealthClient(conn)
	if _, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: healthName}, grpc.WaitForReady(true)); err != nil {
		t.Errorf("the next connection: %v", err)
	}
	Drop(t.Context()) // of no request: nothing happens
}

// Sockets of processes that are gone are removed, and the folder goes with the
// last one.
func TestTidy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30), "sockets")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, fmt.Sprintf("%d-1.sock", dead.Process.Pid))
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Serve(Config{Dir: dir, Source: "levinrun/test", Provider: counting(new(atomic.Int32))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(old); err == nil {
		t.Error("the socket of a dead process is left")
	}
	Tidy(dir)
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("Tidy leaves %v of a server that lives", entries)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(dir); err == nil {
		t.Error("the folder is left")
	}
}
