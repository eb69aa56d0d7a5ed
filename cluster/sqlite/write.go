package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/levinrun/levin/cluster"
)

// Commit writes a change, all or nothing. ctx bounds the wait for other writers;
// a change whose turn has come is written to its end.
func (s *Store) Commit(ctx context.Context, c cluster.Change) error {
	var seqs []int64
	err := s.write(ctx, func(ctx context.Context, w *writer) error {
		if err := cluster.Check(c, w.find(ctx)); err != nil {
			return err
		}
		var err error
		seqs, err = w.put(ctx, c)
		return err
	})
	if err != nil {
		return err
	}
	for i, seq := range seqs {
		c.Events[i].Seq = seq
	}
	return nil
}

// DeleteRun forgets a run that is over and whose machines are gone.
func (s *Store) DeleteRun(ctx context.Context, id string) error {
	return s.write(ctx, func(ctx context.Context, w *writer) error {
		run, err := readRun(w.conn.QueryRowContext(ctx, selectRun+" WHERE id = ?", id), id)
		if err != nil {
			return err
		}
		rows, err := w.conn.QueryContext(ctx, selectMachines, id)
		machines, err := readRows(rows, err, cluster.Machine.Clone)
		if err != nil {
			return err
		}
		if err := cluster.CheckDelete(run, machines); err != nil {
			return err
		}
		return w.exec(ctx, "DELETE FROM runs WHERE id = ?", id) // the rest goes with it
	})
}

// write waits for this process's turn, then for the other processes', and runs
// do in a transaction.
func (s *Store) write(ctx context.Context, do func(context.Context, *writer) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.turn <- struct{}{} }()
	if s.writer == nil {
		conn, err := s.db.Conn(ctx)
		if err != nil {
			return failure(s.path, err)
		}
		s.writer = &writer{conn: conn, stmts: map[string]*sql.Stmt{}}
	}
	w := s.writer
	err := inTx(ctx, w.conn, func(ctx context.Context) error { return do(ctx, w) })
	return failure(s.path, err)
}

// writer is the one connection that writes, with its prepared statements. It is
// made by the first commit: a process that only reads never needs it.
type writer struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt // by their text
}

func (w *writer) close() {
	for _, stmt := range w.stmts {
		stmt.Close()
	}
	w.conn.Close()
}

func (w *writer) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if stmt := w.stmts[query]; stmt != nil {
		return stmt, nil
	}
	stmt, err := w.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	w.stmts[query] = stmt
	return stmt, nil
}

func (w *writer) exec(ctx context.Context, query string, args ...any) error {
	stmt, err := w.stmt(ctx, query)
	if err != nil {
		return err
	}
	_, err = stmt.ExecContext(ctx, args...)
	return err
}

// table gives the table that holds a kind of row.
func table(kind cluster.Kind) string {
	switch kind {
	case cluster.KindRun:
		return "runs"
	case cluster.KindGroup:
		return "machine_groups"
	case cluster.KindMachine:
		return "machines"
	default:
		return "calls"
	}
}

// find answers cluster.Check inside the transaction.
func (w *writer) find(ctx context.Context) cluster.Find {
	return func(kind cluster.Kind, id string) (cluster.Held, bool, error) {
		run := "run"
		if kind == cluster.KindRun {
			run = "id"
		}
		stmt, err := w.stmt(ctx, "SELECT "+run+", state FROM "+table(kind)+" WHERE id = ?")
		if err != nil {
			return cluster.Held{}, false, err
		}
		var h cluster.Held
		err = stmt.QueryRowContext(ctx, id).Scan(&h.Run, &h.State)
		if errors.Is(err, sql.ErrNoRows) {
			return cluster.Held{}, false, nil
		}
		return h, err == nil, err
	}
}

const (
	putRun = `INSERT INTO runs (id, app, state, spec, body) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET app = excluded.app, state = excluded.state, spec = excluded.spec, body = excluded.body`
	putAttempt = `INSERT INTO attempts (call, number, run, body) VALUES (?, ?, ?, ?)
		ON CONFLICT (call, number) DO UPDATE SET body = excluded.body`
	putEvent    = `INSERT INTO events (run, seq, body) VALUES (?, ?, ?)`
	putCooldown = `INSERT INTO cooldowns (cloud, region, zone, type, spot, until, body) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET until = excluded.until, body = excluded.body`
	lastSeq = `SELECT coalesce(max(seq), 0) FROM events WHERE run = ?`
)

// put writes every row of a change and gives the numbers of its events.
func (w *writer) put(ctx context.Context, c cluster.Change) ([]int64, error) {
	if c.Run != nil {
		r := c.Run.Clone()
		body, err := encode(r)
		if err != nil {
			return nil, err
		}
		if err := w.exec(ctx, putRun, r.ID, r.App, string(r.State), r.Spec, body); err != nil {
			return nil, err
		}
	}
	for _, g := range c.Groups {
		if err := w.putRow(ctx, cluster.KindGroup, g.ID, g.Run, string(g.State), g.Clone()); err != nil {
			return nil, err
		}
	}
	for _, m := range c.Machines {
		if err := w.putRow(ctx, cluster.KindMachine, m.Name, m.Run, string(m.State), m.Clone()); err != nil {
			return nil, err
		}
	}
	for _, call := range c.Calls {
		if err := w.putRow(ctx, cluster.KindCall, call.ID, call.Run, string(call.State), call.Clone()); err != nil {
			return nil, err
		}
	}
	for _, a := range c.Attempts {
		body, err := encode(a.Clone())
		if err != nil {
			return nil, err
		}
		if err := w.exec(ctx, putAttempt, a.Call, a.Number, a.Run, body); err != nil {
			return nil, err
		}
	}
	if len(c.Cooldowns) > 0 {
		if err := w.exec(ctx, "DELETE FROM cooldowns WHERE until <= ?", time.Now().UnixNano()); err != nil {
			return nil, err
		}
	}
	for _, cd := range c.Cooldowns {
		cd := cd.Clone()
		body, err := encode(cd)
		if err != nil {
			return nil, err
		}
		if err := w.exec(ctx, putCooldown, cd.Cloud, cd.Region, cd.Zone, cd.Type, cd.Spot, cd.Until.UnixNano(), body); err != nil {
			return nil, err
		}
	}
	return w.putEvents(ctx, c.Events)
}

func (w *writer) putRow(ctx context.Context, kind cluster.Kind, id, run, state string, row any) error {
	body, err := encode(row)
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, id, err)
	}
	return w.exec(ctx, "INSERT INTO "+table(kind)+` (id, run, state, body) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = excluded.body`, id, run, state, body)
}

func (w *writer) putEvents(ctx context.Context, events []cluster.Event) ([]int64, error) {
	seqs := make([]int64, len(events))
	last := map[string]int64{} // by run
	for i := range events {
		e := events[i].Clone()
		seq, known := last[e.Run]
		if !known {
			stmt, err := w.stmt(ctx, lastSeq)
			if err != nil {
				return nil, err
			}
			if err := stmt.QueryRowContext(ctx, e.Run).Scan(&seq); err != nil {
				return nil, err
			}
		}
		e.Seq = seq + 1
		last[e.Run], seqs[i] = e.Seq, e.Seq
		body, err := encode(e)
		if err != nil {
			return nil, fmt.Errorf("event %s: %w", e.Type, err)
		}
		if err := w.exec(ctx, putEvent, e.Run, e.Seq, body); err != nil {
			return nil, err
		}
	}
	return seqs, nil
}

// encode gives a row as JSON, without the escapes that are meant for web pages.
func encode(row any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(row); err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// rollback ends a transaction that failed. After some errors (a full disk)
// SQLite has ended it by itself; then there is nothing to do.
func rollback(ctx context.Context, conn *sql.Conn) error {
	err := exec(ctx, conn, "ROLLBACK")
	if code(err) == sqlite3.SQLITE_ERROR {
		return nil // "cannot rollback - no transaction is active"
	}
	return err
}
