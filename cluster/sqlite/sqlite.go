// Package sqlite keeps a cluster.Store in one SQLite file, so that what a run
// has made and what it has learnt outlive the controller.
//
// Several processes may have the file open: readers never wait for anyone
// (write-ahead log), writers wait for their turn. A commit is on the disk
// (synchronous=FULL) before Commit returns, because a machine that is not
// written down is a machine that nobody stops.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/levinrun/levin/cluster"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// applicationID is written into the file's header, so that another program's
	// database is not taken for ours. It spells "LEVN".
	applicationID = 0x4c45564e

	// busyMillis is how long a writer waits for other processes when its context
	// does not end earlier. A commit takes milliseconds; this long means that a
	// process hangs.
	busyMillis = 30_000

	maxConns = 4 // one writer, the rest readers
)

// Store is a cluster.Store in a SQLite file.
type Store struct {
	path string
	db   *sql.DB

	turn   chan struct{} // holds one token; whoever has it may use writer
	writer *writer       // nil until the first commit
}

var _ cluster.Store = (*Store)(nil)

// Open opens the store in the file at path and brings it up to this version.
// What is missing is made: the file with mode 0600, its folder with mode 0700.
// A file that cannot be used gives a *cluster.Failure.
func Open(ctx context.Context, path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the state file: %w", err)
	}
	if err := create(path); err != nil {
		return nil, failure(path, err)
	}
	connector, err := sqlite.NewConnector(dsn(path))
	if err != nil {
		return nil, failure(path, err)
	}
	s := &Store{path: path, db: sql.OpenDB(connector), turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	s.db.SetMaxOpenConns(maxConns)
	s.db.SetMaxIdleConns(maxConns)
	if err := s.upgradeInTurn(ctx); err != nil {
		s.db.Close()
		return nil, failure(path, err)
	}
	return s, nil
}

// busyRetry is how often the upgrade is tried again while others are at it.
const busyRetry = 5 * time.Millisecond

// upgradeInTurn is upgrade for processes that open a new file at the same moment.
// SQLite lets writers wait for each other, but not everyone who turns a file to
// write-ahead logging while another makes or closes it: those are told that it is
// busy at once.
func (s *Store) upgradeInTurn(ctx context.Context) error {
	for began := time.Now(); ; {
		err := s.upgrade(ctx)
		if code(err) != sqlite3.SQLITE_BUSY || time.Since(began) > busyMillis*time.Millisecond {
			return err
		}
		select {
		case <-time.After(busyRetry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// create makes the file when it is not there. An existing file is not opened:
// closing it again would drop the locks that this process may hold on it through
// another Store (POSIX locks belong to the process, not to the descriptor).
func create(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return errNotAFile
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was faster
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func dsn(path string) string {
	u := url.URL{Scheme: "file", Path: path}
	q := url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyMillis),
		"foreign_keys(1)",
		"synchronous(FULL)",
	}}
	u.RawQuery = q.Encode()
	return u.String()
}

// upgrade applies the migrations that the file has not seen. Their number is
// kept in the file's user_version. There is no way back: an older program
// refuses a newer file.
func (s *Store) upgrade(ctx context.Context) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()

	files, err := fs.Glob(migrations, "migrations/*.sql") // sorted, and numbered from 0001
	if err != nil {
		return err
	}
	version, err := versionOf(ctx, conn)
	if err != nil {
		return err
	}
	if version == len(files) {
		return nil
	}
	if version > len(files) {
		return &newerError{file: version, program: len(files)}
	}
	if err := exec(ctx, conn, "PRAGMA journal_mode = WAL"); err != nil {
		return err
	}
	return inTx(ctx, conn, func(ctx context.Context) error {
		// Another process may have been faster; what counts is what stands under the lock.
		version, err := versionOf(ctx, conn)
		if err != nil {
			return err
		}
		for n := version; n < len(files); n++ {
			text, err := migrations.ReadFile(files[n])
			if err != nil {
				return err
			}
			if err := exec(ctx, conn, string(text)); err != nil {
				return fmt.Errorf("%s: %w", files[n], err)
			}
		}
		if err := exec(ctx, conn, fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
			return err
		}
		return exec(ctx, conn, fmt.Sprintf("PRAGMA user_version = %d", max(version, len(files))))
	})
}

// versionOf reads how many migrations the file has seen, 0 for an empty file,
// and refuses a database that is not Levin's.
func versionOf(ctx context.Context, conn *sql.Conn) (int, error) {
	var id, version, tables int
	const q = `SELECT a.application_id, v.user_version, (SELECT count(*) FROM sqlite_schema)
		FROM pragma_application_id a, pragma_user_version v`
	if err := conn.QueryRowContext(ctx, q).Scan(&id, &version, &tables); err != nil {
		return 0, err
	}
	if id != applicationID && (id != 0 || version != 0 || tables != 0) {
		return 0, errForeign
	}
	return version, nil
}

// Close closes the file, after a commit that is under way.
func (s *Store) Close() error {
	<-s.turn
	defer func() { s.turn <- struct{}{} }()
	if s.writer != nil {
		s.writer.close()
		s.writer = nil
	}
	if err := s.db.Close(); err != nil {
		return failure(s.path, err)
	}
	return nil
}

func exec(ctx context.Context, conn *sql.Conn, query string) error {
	_, err := conn.ExecContext(ctx, query)
	return err
}

// inTx runs do in a write transaction. ctx bounds the wait for other writers;
// once the transaction has begun it is carried to its end, so do gets a context
// that does not end.
func inTx(ctx context.Context, conn *sql.Conn, do func(context.Context) error) error {
	if err := exec(ctx, conn, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := do(ctx); err != nil {
		return errors.Join(err, rollback(ctx, conn))
	}
	if err := exec(ctx, conn, "COMMIT"); err != nil {
		return errors.Join(err, rollback(ctx, conn))
	}
	return nil
}
