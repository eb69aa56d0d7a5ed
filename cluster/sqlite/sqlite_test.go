package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/sqlite"
	"github.com/levinrun/levin/cluster/storetest"
)

func open(tb testing.TB) *sqlite.Store {
	tb.Helper()
	return openAt(tb, filepath.Join(tb.TempDir(), "state.db"))
}

func openAt(tb testing.TB, path string) *sqlite.Store {
	tb.Helper()
	s, err := sqlite.Open(tb.Context(), path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) cluster.Store { return open(t) })
}

func BenchmarkCommit(b *testing.B) {
	storetest.BenchmarkCommit(b, func(b *testing.B) cluster.Store { return open(b) })
}

func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "state.db")
	openAt(b, path).Close()
	for b.Loop() {
		openAt(b, path).Close()
	}
}
