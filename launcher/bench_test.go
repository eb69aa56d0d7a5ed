package launcher_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/levinrun/levin/launcher"
)

// The benchmarks ship to a real sshd on loopback, and do the same with rsync over
// the same sshd for comparison:
//
//	go test -run '^$' -bench Ship -benchtime 3x ./launcher

const (
	benchBytes = 1 << 30
	benchFiles = 10_000
)

func BenchmarkFirstShip(b *testing.B) {
	for name, block := range map[string][]byte{
		"noise": noise(1 << 20),
		"text":  []byte(strings.Repeat("step 1234, loss 0.0173, accuracy 0.9981\n", 1<<20/40)),
	} {
		dir := b.TempDir()
		for i := range 8 {
			f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
			if err != nil {
				b.Fatal(err)
			}
			for range benchBytes / 8 / (1 << 20) {
				block[i]++ // so that no two files are the same
				if _, err := f.Write(block); err != nil {
					b.Fatal(err)
				}
			}
			f.Close()
		}
		b.Run(name+"/levin", func(b *testing.B) {
			srv := startSSHD(b)
			place(b, srv.home)
			s := connect(b, launcher.Config{Agent: agentSource()}, srv.target)
			b.SetBytes(benchBytes)
			n := 0
			for b.Loop() {
				n++
				got, err := s.Ship(b.Context(), fmt.Sprintf("f-%d", n), []launcher.Tree{{Root: dir}})
				if err != nil || got.SentBytes < benchBytes*9/10 {
					b.Fatalf("%+v, %v", got, err)
				}
				b.StopTimer()
				os.RemoveAll(filepath.Join(srv.home, ".levin-agent", "machines", "m-1", "work", fmt.Sprintf("f-%d", n)))
				b.StartTimer()
			}
		})
		b.Run(name+"/rsync", func(b *testing.B) {
			rsync, to := rsyncTo(b)
			b.SetBytes(benchBytes)
			for b.Loop() {
				rsync(dir)
				b.StopTimer()
				os.RemoveAll(to)
				b.StartTimer()
			}
		})
	}
}

func BenchmarkReship(b *testing.B) {
	dir := b.TempDir()
	for i := range benchFiles {
		name := filepath.Join(dir, fmt.Sprint(i/100), fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(strings.Repeat(fmt.Sprint(i), 200)), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	age(b)
	// Each round connects anew, as each rsync does.
	b.Run("levin", func(b *testing.B) {
		srv := startSSHD(b)
		place(b, srv.home)
		cfg := launcher.Config{Agent: agentSource(), Digests: filepath.Join(b.TempDir(), "digests")}
		first := connect(b, cfg, srv.target)
		trees := []launcher.Tree{{Root: dir, Ignore: true}}
		if _, err := first.Ship(b.Context(), "f", trees); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			s, err := launcher.Connect(b.Context(), cfg, "m-1", srv.target)
			if err != nil {
				b.Fatal(err)
			}
			if got, err := s.Ship(b.Context(), "f", trees); err != nil || got.SentBytes != 0 {
				b.Fatalf("%+v, %v", got, err)
			}
			s.Close()
		}
	})
	b.Run("rsync", func(b *testing.B) {
		rsync, _ := rsyncTo(b)
		rsync(dir)
		for b.Loop() {
			rsync(dir)
		}
	})
}

// rsyncTo gives a function that brings a folder to another one over SSH.
func rsyncTo(b *testing.B) (rsync func(dir string), to string) {
	b.Helper()
	if _, err := exec.LookPath("rsync"); err != nil {
		b.Skip("rsync is not installed")
	}
	srv := startSSHD(b)
	to = filepath.Join(srv.home, "to")
	known := filepath.Join(b.TempDir(), "known_hosts")
	if err := os.WriteFile(known, fmt.Appendf(nil, "[127.0.0.1]:%d %s\n", srv.target.Port, srv.target.HostKeys[0]), 0o600); err != nil {
		b.Fatal(err)
	}
	shell := fmt.Sprintf("ssh -F none -p %d -i %s -o UserKnownHostsFile=%s", srv.target.Port, srv.target.KeyFiles[0], known)
	return func(dir string) {
		out, err := exec.Command("rsync", "-a", "-e", shell, dir+"/", srv.target.User+"@127.0.0.1:"+to+"/").CombinedOutput()
		if err != nil {
			b.Fatalf("rsync: %v\n%s", err, out)
		}
	}, to
}
