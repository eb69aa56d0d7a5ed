package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/levinrun/levin/cluster"
)

const (
	selectRun      = "SELECT body, spec FROM runs"
	selectMachines = "SELECT body FROM machines WHERE run = ? ORDER BY seq"
)

// Run gives one run.
func (s *Store) Run(ctx context.Context, id string) (cluster.Run, error) {
	r, err := readRun(s.db.QueryRowContext(ctx, selectRun+" WHERE id = ?", id), id)
	return r, failure(s.path, err)
}

// Runs gives runs, newest first.
func (s *Store) Runs(ctx context.Context, f cluster.RunFilter) ([]cluster.Run, error) {
	query, args := selectRun+" WHERE true", []any{}
	if f.App != "" {
		query += " AND app = ?"
		args = append(args, f.App)
	}
	if f.Active {
		query += ` AND seq IN (
			SELECT seq FROM runs WHERE state NOT IN ('succeeded', 'failed', 'cancelled')
			UNION
			SELECT r.seq FROM machines m JOIN runs r ON r.id = m.run WHERE m.state <> 'gone')`
	}
	query += " ORDER BY seq DESC"
	if f.Limit > 0 {
		query += " LIMIT ?"
		args = append(args, f.Limit)
	}
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, failure(s.path, err)
	}
	defer rows.Close()
	var out []cluster.Run
	for rows.Next() {
		r, err := readRun(rows, "")
		if err != nil {
			return nil, failure(s.path, err)
		}
		out = append(out, r)
	}
	return out, failure(s.path, rows.Err())
}

// Groups gives the groups of a run in order of creation.
func (s *Store) Groups(ctx context.Context, run string) ([]cluster.Group, error) {
	return list(ctx, s, cluster.Group.Clone, "SELECT body FROM machine_groups WHERE run = ? ORDER BY seq", run)
}

// Machines gives the machines of a run in order of creation.
func (s *Store) Machines(ctx context.Context, run string) ([]cluster.Machine, error) {
	return list(ctx, s, cluster.Machine.Clone, selectMachines, run)
}

// AllMachines gives the machines of every run that are not gone, in order of
// creation.
func (s *Store) AllMachines(ctx context.Context) ([]cluster.Machine, error) {
	return list(ctx, s, cluster.Machine.Clone, "SELECT body FROM machines WHERE state <> 'gone' ORDER BY seq")
}

// Cooldowns gives those that last beyond now, the one that ends first in front.
func (s *Store) Cooldowns(ctx context.Context, now time.Time) ([]cluster.Cooldown, error) {
	return list(ctx, s, cluster.Cooldown.Clone, "SELECT body FROM cooldowns WHERE until > ? ORDER BY until, cloud, region, zone, type, spot", now.UnixNano())
}

// Calls gives the calls of a run in order of creation.
func (s *Store) Calls(ctx context.Context, run string) ([]cluster.Call, error) {
	return list(ctx, s, cluster.Call.Clone, "SELECT body FROM calls WHERE run = ? ORDER BY seq", run)
}

// Attempts gives the attempts of a run in order of creation.
func (s *Store) Attempts(ctx context.Context, run string) ([]cluster.Attempt, error) {
	return list(ctx, s, cluster.Attempt.Clone, "SELECT body FROM attempts WHERE run = ? ORDER BY seq", run)
}

// Events gives at most limit events of a run with Seq > after.
func (s *Store) Events(ctx context.Context, run string, after int64, limit int) ([]cluster.Event, error) {
	if limit <= 0 {
		limit = -1 // no limit, to SQLite
	}
	return list(ctx, s, cluster.Event.Clone, "SELECT body FROM events WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?", run, after, limit)
}

func list[V any](ctx context.Context, s *Store, clone func(V) V, query string, args ...any) ([]V, error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	out, err := readRows(rows, err, clone)
	return out, failure(s.path, err)
}

// readRows reads rows of one JSON body each; it takes the error of the query so
// that the call can wrap it.
func readRows[V any](rows *sql.Rows, err error, clone func(V) V) ([]V, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []V
	for rows.Next() {
		var body sql.RawBytes
		if err := rows.Scan(&body); err != nil {
			return nil, err
		}
		var row V
		if err := json.Unmarshal(body, &row); err != nil {
			return nil, fmt.Errorf("read a row: %w", err)
		}
		out = append(out, clone(row))
	}
	return out, rows.Err()
}

func readRun(row interface{ Scan(...any) error }, id string) (cluster.Run, error) {
	var body string
	var spec []byte
	err := row.Scan(&body, &spec)
	if errors.Is(err, sql.ErrNoRows) {
		return cluster.Run{}, fmt.Errorf("run %q: %w", id, cluster.ErrNotFound)
	}
	if err != nil {
		return cluster.Run{}, err
	}
	var r cluster.Run
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		return cluster.Run{}, fmt.Errorf("read run %q: %w", id, err)
	}
	r.Spec = spec
	return r.Clone(), nil
}
