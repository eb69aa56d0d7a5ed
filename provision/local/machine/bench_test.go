package machine

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"crypto/ed25519"

	"golang.org/x/crypto/ssh"
)

// The agent whose machines are measured: LEVIN_BENCH_AGENT, or the test binary,
// which is several times its size.
func benchOptions(b *testing.B, dir string) Options {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		b.Fatal(err)
	}
	agent := os.Getenv("LEVIN_BENCH_AGENT")
	if agent == "" {
		if agent, err = os.Executable(); err != nil {
			b.Fatal(err)
		}
	}
	return Options{
		Dir: dir, Name: filepath.Base(dir), Lease: 10 * 60 * 1e9, Agent: agent,
		Key: string(ssh.MarshalAuthorizedKey(signer.PublicKey())),
	}
}

// BenchmarkStart measures one machine's start, up to the moment it answers.
func BenchmarkStart(b *testing.B) {
	s := NewStarter()
	defer s.Close()
	dir := b.TempDir()
	var n int
	for b.Loop() {
		n++
		o := benchOptions(b, filepath.Join(dir, strconv.Itoa(n)))
		if _, err := s.Start(b.Context(), o); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := Stop(b.Context(), o.Dir); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkStop measures one idle machine's end, up to the moment it is gone.
func BenchmarkStop(b *testing.B) {
	s := NewStarter()
	defer s.Close()
	o := benchOptions(b, filepath.Join(b.TempDir(), "m"))
	for b.Loop() {
		b.StopTimer()
		if _, err := s.Start(b.Context(), o); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := Stop(b.Context(), o.Dir); err != nil {
			b.Fatal(err)
		}
	}
}
