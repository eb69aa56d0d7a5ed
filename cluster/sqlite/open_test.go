package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/sqlite"
	"github.com/levinrun/levin/cluster/storetest"
)

// raw opens the file as any SQLite program would.
func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func run(t *testing.T, db *sql.DB, query string) {
	t.Helper()
	if _, err := db.Exec(query); err != nil {
		t.Fatal(err)
	}
}

// wantFailure checks that err is words for people about path.
func wantFailure(t *testing.T, err error, path, what string) {
	t.Helper()
	var f *cluster.Failure
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a Failure", err)
	}
	if !strings.Contains(f.What, what) || !strings.Contains(f.What, path) || f.Next == "" {
		t.Errorf("the failure does not say %q, %q and what to do: %q", what, path, f.Error())
	}
}

func TestOpenMakesPrivateFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b c%20?#ü")
	path := filepath.Join(dir, "state.db")
	s := openAt(t, path)
	if err := s.Commit(t.Context(), cluster.Change{Run: storetest.NewRun("r")}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{filepath.Dir(dir), dir} {
		if info, err := os.Stat(d); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", d, info.Mode(), err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 2 {
		t.Errorf("expected the file and its log, got %v", files)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
	}
	// Closed, everything is in the one file.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if files, err = os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("after Close: %v, %v", files, err)
	}
}

func TestOpenSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	openAt(t, path)
	db := raw(t, path)
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "application_id": fmt.Sprint(0x4c45564e), "user_version": "2", "integrity_check": "ok", "foreign_key_check": "",
	} {
		var got string
		if err := db.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil && !errors.Is(err, sql.ErrNoRows) {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s = %q, want %q", pragma, got, want)
		}
	}
}

// A file of the version before cooldowns is brought up to date, with what it holds.
func TestOpenOlder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	if err := s.Commit(t.Context(), cluster.Change{Run: storetest.NewRun("r")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := raw(t, path).Exec("DROP TABLE cooldowns; PRAGMA user_version = 1"); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path)
	learnt := cluster.Cooldown{Cloud: "aws", Until: time.Now().Add(time.Hour)}
	if err := s.Commit(t.Context(), cluster.Change{Cooldowns: []cluster.Cooldown{learnt}}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Cooldowns(t.Context(), time.Now()); err != nil || len(got) != 1 {
		t.Errorf("cooldowns are %v, error %v", got, err)
	}
	if _, err := s.Run(t.Context(), "r"); err != nil {
		t.Error(err)
	}
}

func TestOpenAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	for i := range 3 {
		s := openAt(t, path)
		if err := s.Commit(t.Context(), cluster.Change{Run: storetest.NewRun(fmt.Sprint("r", i))}); err != nil {
			t.Fatal(err)
		}
		runs, err := s.Runs(t.Context(), cluster.RunFilter{})
		if err != nil || len(runs) != i+1 {
			t.Errorf("opened %d times: %d runs, %v", i+1, len(runs), err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(t *testing.T, path string)
		what string
	}{
		{"not a database", func(t *testing.T, path string) {
			text := bytes.Repeat([]byte("these are my notes "), 100)
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is not a levin state file"},
		{"a folder", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is not a levin state file"},
		{"another program's tables", func(t *testing.T, path string) {
			run(t, raw(t, path), "CREATE TABLE notes (text)")
		}, "is not a levin state file"},
		{"another program's id", func(t *testing.T, path string) {
			run(t, raw(t, path), "PRAGMA application_id = 252006674")
		}, "is not a levin state file"},
		{"a newer version", func(t *testing.T, path string) {
			openAt(t, path).Close()
			run(t, raw(t, path), "PRAGMA user_version = 99")
		}, "was written by a newer levin"},
		{"under a file", func(t *testing.T, path string) {
			if err := os.Remove(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Dir(path), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "cannot open the state"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "home", "state.db")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			tt.make(t, path)
			before, _ := os.ReadFile(path)
			s, err := sqlite.Open(t.Context(), path)
			if err == nil {
				s.Close()
			}
			wantFailure(t, err, path, tt.what)
			if cluster.KindOf(err) != cluster.BadInput {
				t.Errorf("kind %q", cluster.KindOf(err))
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("a file that was refused was changed")
			}
		})
	}
}

func TestOpenDeadContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "state.db")); !errors.Is(err, context.Canceled) {
		t.Errorf("Open = %v", err)
	}
}

// A file that lost its bytes after it was opened is said to be damaged.
func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	if err := s.Commit(t.Context(), cluster.Change{Run: storetest.NewRun("r")}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4096; i < len(data); i++ {
		data[i] = 0xa5
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path) // the header is whole
	_, err = s.Runs(t.Context(), cluster.RunFilter{})
	wantFailure(t, err, path, "is damaged")
}

// A commit that waits for another process gives up when its context ends, and
// the store works on afterwards.
func TestCommitWaitsForOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	if err := s.Commit(t.Context(), cluster.Change{Run: storetest.NewRun("r")}); err != nil {
		t.Fatal(err)
	}
	db := raw(t, path)
	db.SetMaxOpenConns(1)
	run(t, db, "BEGIN IMMEDIATE")

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	err := s.Commit(ctx, cluster.Change{Run: storetest.NewRun("r2")})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Commit against a held lock = %v", err)
	}
	if runs, err := s.Runs(t.Context(), cluster.RunFilter{}); err != nil || len(runs) != 1 {
		t.Errorf("a reader beside a writer: %d runs, %v", len(runs), err)
	}

	done := make(chan error, 1)
	go func() { done <- s.Commit(context.WithoutCancel(ctx), cluster.Change{Run: storetest.NewRun("r3")}) }()
	run(t, db, "ROLLBACK")
	if err := <-done; err != nil {
		t.Errorf("Commit after the lock was let go = %v", err)
	}
	if runs, err := s.Runs(t.Context(), cluster.RunFilter{}); err != nil || len(runs) != 2 {
		t.Errorf("%d runs, %v", len(runs), err)
	}
}
