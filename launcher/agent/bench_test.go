package agent

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// newReleased is newMachine with the agent as it is released.
func newReleased(b *testing.B) *machine {
	b.Helper()
	m := newStopped(b)
	m.bin = buildAgent(b)
	m.start()
	return m
}

// BenchmarkFirstShip ships 10,000 small files.
func BenchmarkFirstShip(b *testing.B) {
	m := newReleased(b)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		m.sync("w", tree{})
		tr := tree{}
		for j := range 10_000 {
			tr[fmt.Sprintf("dir%d/sub%d/file%d.py", j%100, j%10, j)] = fmt.Sprintf("content %d of %d", j, i)
		}
		b.StartTimer()
		m.sync("w", tr)
	}
}

// BenchmarkUnchangedFolder asks for a folder of 10,000 files in which nothing
// has changed, and commits.
func BenchmarkUnchangedFolder(b *testing.B) {
	m := newReleased(b)
	tr := tree{}
	for i := range 10_000 {
		tr[fmt.Sprintf("dir%d/sub%d/file%d.py", i%100, i%10, i)] = fmt.Sprintf("content of %d", i)
	}
	m.sync("w", tr)
	entries := tr.entries()
	raw, err := json.Marshal(SyncRequest{Folder: "w", Entries: entries})
	if err != nil {
		b.Fatal(err)
	}
	body := compress(b, raw)
	for b.Loop() {
		resp, err := m.do("POST", "/v1/sync", bytes.NewReader(body), "Content-Encoding", "zstd", "Accept-Encoding", "zstd")
		if err != nil {
			b.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || len(answer) > 100 {
			b.Fatalf("%d bytes: %v", len(answer), err)
		}
		m.post("/v1/sync/w/commit", nil, nil)
	}
}

// BenchmarkUpload ships 256 MiB that cannot be compressed.
func BenchmarkUpload(b *testing.B) {
	m := newReleased(b)
	content := make([]byte, 256<<20)
	if _, err := rand.Read(content); err != nil {
		b.Fatal(err)
	}
	f := frameOf(string(content), 0)
	b.SetBytes(f.Size)
	for b.Loop() {
		m.post("/v1/sync", SyncRequest{Folder: "w", Entries: []Entry{{Path: "f", Size: f.Size, Digest: f.Digest}}}, nil)
		body, in := io.Pipe()
		sent := make(chan error, 1)
		go func() {
			w, err := NewFrameWriter(in)
			if err == nil {
				err = w.WriteFile(f, bytes.NewReader(content))
			}
			if err == nil {
				err = w.Close()
			}
			sent <- err
			in.CloseWithError(err)
		}()
		m.post("/v1/sync/w/files", body, nil)
		if err := <-sent; err != nil {
			b.Fatal(err)
		}
		m.post("/v1/sync/w/commit", nil, nil)
		b.StopTimer()
		m.sync("w", tree{})
		b.StartTimer()
	}
}

// BenchmarkExit measures from the end of the work to the answer of wait.
func BenchmarkExit(b *testing.B) {
	m := newReleased(b)
	m.sync("w", tree{})
	var total time.Duration
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprintf("a%d", i)
		m.startCall(StartRequest{ID: id, Folder: "w", Shell: "exit 0"})
		exit := m.wait(id)
		total += time.Since(exit.At)
	}
	b.ReportMetric(float64(total.Microseconds())/float64(b.N), "µs/exit")
}

// BenchmarkIdle reports the resident memory of an idle agent that has shipped
// 10,000 files and run a call.
func BenchmarkIdle(b *testing.B) {
	m := newReleased(b)
	tr := tree{}
	for i := range 10_000 {
		tr[fmt.Sprintf("dir%d/file%d", i%100, i)] = fmt.Sprint(i)
	}
	m.sync("w", tr)
	m.run(StartRequest{ID: "a", Folder: "w", Shell: "head -c 10000000 /dev/zero"})
	m.log("a")
	for b.Loop() {
	}
	time.Sleep(100 * time.Millisecond)
	var info Info
	m.get("/v1/info", &info)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", info.PID))
	if err != nil {
		b.Skip("needs /proc")
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kb); n == 1 {
			b.ReportMetric(kb/1024, "MiB-resident")
		}
		if n, _ := fmt.Sscanf(line, "RssAnon: %f kB", &kb); n == 1 {
			b.ReportMetric(kb/1024, "MiB-anon")
		}
	}
}
