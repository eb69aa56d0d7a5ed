package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/levinrun/levin/cluster"
)

var (
	errNotAFile = errors.New("it is not a regular file")
	errForeign  = errors.New("it is the database of another program")
)

// newerError says that a newer program has upgraded the file.
type newerError struct{ file, program int }

func (e *newerError) Error() string {
	return fmt.Sprintf("the file has version %d, this program knows versions up to %d", e.file, e.program)
}

// failure turns what SQLite and the file system say about the file at path into
// words for people. Errors that are not about the file pass through.
func failure(path string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	f := &cluster.Failure{Kind: cluster.BadInput, Err: err, Words: err.Error()}
	var newer *newerError
	switch c := code(err); {
	case errors.As(err, &newer):
		f.What = fmt.Sprintf("the state in %s was written by a newer levin", path)
		f.Next = "use that version of levin, or another LEVIN_HOME"
	case errors.Is(err, errForeign), errors.Is(err, errNotAFile), c == sqlite3.SQLITE_NOTADB:
		f.What = fmt.Sprintf("%s is not a levin state file", path)
		f.Next = "move it out of the way, or use another LEVIN_HOME"
	case c == sqlite3.SQLITE_CORRUPT:
		f.What = fmt.Sprintf("the state in %s is damaged", path)
		f.Next = "keep a copy of it for repair, and use another LEVIN_HOME"
	case c == sqlite3.SQLITE_FULL, errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		f.Kind = ""
		f.What = fmt.Sprintf("the disk is full: could not write the state in %s", path)
		f.Next = fmt.Sprintf("make room in %s", filepath.Dir(path))
	case c == sqlite3.SQLITE_READONLY, c == sqlite3.SQLITE_CANTOPEN, c == sqlite3.SQLITE_PERM,
		errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		f.What = fmt.Sprintf("cannot write the state in %s", path)
		f.Next = fmt.Sprintf("make %s writable, or use another LEVIN_HOME", filepath.Dir(path))
	case c == sqlite3.SQLITE_BUSY:
		f.Kind = ""
		f.What = fmt.Sprintf("the state in %s was held by another process for %d s", path, busyMillis/1000)
		f.Next = "look for a levin that hangs: levin ps"
	case c == sqlite3.SQLITE_IOERR:
		f.Kind = ""
		f.What = fmt.Sprintf("could not read or write the state in %s", path)
		f.Next = "check that disk"
	default:
		var pathErr *fs.PathError
		if !errors.As(err, &pathErr) {
			return err
		}
		f.What = fmt.Sprintf("cannot open the state in %s", path)
		f.Next = "use another LEVIN_HOME"
	}
	return f
}

// code gives SQLite's primary result code, or 0 when err is not SQLite's.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}
