package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sampleIndex() *index {
	return &index{boot: bootID(), manifest: digestText("m"), records: []record{
		{path: "a/b", digest: digestText("x"), stamp: stamp{size: 1, mtime: -5, ctime: 1 << 60, inode: 1<<64 - 1}, seen: 7, want: 0o640},
		{path: "l", link: "a/b"},
		{path: "d", dir: true},
	}}
}

func TestIndexIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sync")
	want := sampleIndex()
	if err := want.write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := readIndex(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(index{}, record{}, stamp{})); diff != "" {
		t.Error(diff)
	}
}

func TestIndexOfBeforeARestartProvesNothing(t *testing.T) {
	dir := t.TempDir()
	ix := sampleIndex()
	ix.boot = "another"
	if err := ix.write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := readIndex(dir)
	if err != nil || len(got.records) != 3 || got.records[0].path != "a/b" || got.records[0].stamp != (stamp{}) || got.manifest != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDamagedIndexIsNone(t *testing.T) {
	dir := t.TempDir()
	whole := sampleIndex().marshal()
	for n := range whole {
		if n == len(indexVersion)+2+len(bootID()) {
			continue // here it is an index without records
		}
		if err := os.WriteFile(indexPath(dir), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readIndex(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.records) > 0 && n < len(whole)-12 {
			// Cut between two records it is shorter, which only costs hashing.
			for _, r := range got.records {
				if r.path != "a/b" && r.path != "l" {
					t.Errorf("cut at %d: %+v", n, got)
				}
			}
		}
	}
}

func TestStampProvesOnlyWhatIsOld(t *testing.T) {
	s := stamp{size: 1, mtime: 1000, ctime: 2000, inode: 3}
	window := int64(racyWindow)
	for _, tt := range []struct {
		record record
		now    stamp
		want   bool
	}{
		{record{stamp: s, seen: 2000 + window + 1}, s, true},
		{record{stamp: s, seen: 2000 + window}, s, false}, // changed just when it was looked at
		{record{stamp: s, seen: 2000 + window + 1}, stamp{size: 1, mtime: 1000, ctime: 2001, inode: 3}, false},
		{record{stamp: s, seen: 2000 + window + 1}, stamp{size: 1, mtime: 1000, ctime: 2000, inode: 4}, false},
		{record{}, stamp{}, false},
	} {
		if got := tt.record.proves(tt.now); got != tt.want {
			t.Errorf("%+v now %+v: %v", tt.record, tt.now, got)
		}
	}
}

// FuzzIndex: no bytes on disk can do more than make an index that is not one.
func FuzzIndex(f *testing.F) {
	f.Add(sampleIndex().marshal())
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		ix := &index{}
		if ix.unmarshal(data) != nil {
			return
		}
		again := &index{}
		if err := again.unmarshal(ix.marshal()); err != nil {
			t.Fatalf("its own bytes: %v", err)
		}
	})
}
