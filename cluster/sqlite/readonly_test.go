package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/levinrun/levin/cluster/sqlite"
)

func TestReadOnlyFolder(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write in any folder")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "state.db")
	_, err := sqlite.Open(t.Context(), path)
	wantFailure(t, err, path, "cannot write the state")
}
