package agent

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	m := newStopped(t)
	if err := syscall.Mount("tmpfs", m.home, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() {
		m.killMarked()
		if err := syscall.Unmount(m.home, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	m.start()
	m.sync("w", tree{"small": "s"})

	huge := strings.Repeat("h", 8<<20)
	_, err := m.trySync("w", tree{"huge": huge}.entries(), tree{"huge": huge})
	wantKind(t, "more than fits", err, KindDiskFull)

	// What seemed to fit does not: the work has filled the disk meanwhile.
	some := strings.Repeat("s", 3<<20)
	m.post("/v1/sync", SyncRequest{Folder: "w", Entries: tree{"some": some}.entries()}, nil)
	filler := filepath.Join(m.home, "filler")
	if err := os.WriteFile(filler, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "does not fit any more", m.upload(map[FileFrame]string{frameOf(some, 0): some}), KindDiskFull)
	if parts, _ := os.ReadDir(filepath.Join(m.layout().sync("w"), "parts")); len(parts) != 0 {
		t.Errorf("partial content is left: %v", parts)
	}
	wantKind(t, "commit", m.call("POST", "/v1/sync/w/commit", nil, nil), KindConflict)
	m.wantTree(tree{"small": "s"})
	os.Remove(filler)

	// Work that fills the disk ends like any other, and says why.
	exit := m.run(StartRequest{ID: "a", Folder: "w", Outputs: []string{"fill"}, Shell: "head -c 100000000 /dev/zero > fill; echo code $?; head -c 200000 /dev/zero"})
	if exit.Code != 0 || !strings.Contains(exit.Error, "disk is full") {
		t.Errorf("exit %+v", exit)
	}
	if exit := m.run(StartRequest{ID: "b", Folder: "w", Outputs: []string{"fill"}, Shell: "echo fine"}); exit.Code != 0 || exit.Error != "" || m.log("b") != "fine\n" {
		t.Errorf("after that: exit %+v, log %q", exit, m.log("b"))
	}
}
