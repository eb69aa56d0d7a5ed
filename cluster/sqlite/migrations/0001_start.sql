-- One table for each sort of row. What is searched for is a column; the row as a
-- whole is JSON in body. seq is the order of creation.

CREATE TABLE runs (
    seq   INTEGER PRIMARY KEY,
    id    TEXT NOT NULL UNIQUE,
    app   TEXT NOT NULL,
    state TEXT NOT NULL,
    spec  BLOB,
    body  TEXT NOT NULL
) STRICT;
CREATE INDEX runs_active ON runs (seq) WHERE state NOT IN ('succeeded', 'failed', 'cancelled');

CREATE TABLE machine_groups (
    seq   INTEGER PRIMARY KEY,
    id    TEXT NOT NULL UNIQUE,
    run   TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    body  TEXT NOT NULL
) STRICT;
CREATE INDEX machine_groups_run ON machine_groups (run);

CREATE TABLE machines (
    seq   INTEGER PRIMARY KEY,
    id    TEXT NOT NULL UNIQUE,
    run   TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    body  TEXT NOT NULL
) STRICT;
CREATE INDEX machines_run ON machines (run);
CREATE INDEX machines_up ON machines (run) WHERE state <> 'gone';

CREATE TABLE calls (
    seq   INTEGER PRIMARY KEY,
    id    TEXT NOT NULL UNIQUE,
    run   TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    body  TEXT NOT NULL
) STRICT;
CREATE INDEX calls_run ON calls (run);

CREATE TABLE attempts (
    seq    INTEGER PRIMARY KEY,
    call   TEXT NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    run    TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    body   TEXT NOT NULL,
    UNIQUE (call, number)
) STRICT;
CREATE INDEX attempts_run ON attempts (run);

CREATE TABLE events (
    run  TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq  INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
