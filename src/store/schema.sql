-- Version 1. One file, one writer. Times are nanoseconds; a timeline is 0 sensor, 1 arrival, 2 + boot id.
CREATE TABLE meta (
    id      INTEGER PRIMARY KEY CHECK (id = 0),
    epoch   INTEGER NOT NULL            -- random, part of every message id
) STRICT;
CREATE TABLE stream (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    ring_bytes    INTEGER NOT NULL DEFAULT 0,
    ring_readings INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE series (
    id     INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    name   TEXT NOT NULL,
    unit   TEXT NOT NULL,
    labels TEXT NOT NULL,               -- JSON object
    UNIQUE (stream, name)
) STRICT;
CREATE TABLE boot (
    id         INTEGER PRIMARY KEY,
    boot       TEXT NOT NULL UNIQUE,    -- the kernel's boot identifier
    estimate   INTEGER,                 -- offset that the boot's untrusted times are made with
    correction INTEGER                  -- nanoseconds to add, once learnt
) STRICT;
-- What was committed since the last checkpoint, one row a group commit.
CREATE TABLE hot (
    slot  INTEGER PRIMARY KEY,          -- used again once a checkpoint contains its position
    pos   BLOB NOT NULL,                -- eight bytes, big-endian, so that a row's size does not depend on it
    block BLOB NOT NULL                 -- length, group, zeros
) STRICT;
CREATE TABLE checkpoint (
    id    INTEGER PRIMARY KEY CHECK (id = 0),
    pos   INTEGER NOT NULL,
    state BLOB NOT NULL,                -- reducers and components
    wall_ns INTEGER,                    -- the trusted time it was taken at: the next boot's clock starts no earlier
    seen  BLOB NOT NULL                 -- identities of messages whose acknowledgement may not have arrived
) STRICT;
-- The ring of compacted raw readings.
CREATE TABLE raw (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    stream   INTEGER NOT NULL,
    timeline INTEGER NOT NULL,
    from_ns  INTEGER NOT NULL,
    to_ns    INTEGER NOT NULL,          -- inclusive
    readings INTEGER NOT NULL,
    block    BLOB NOT NULL
) STRICT;
-- Outputs on their way to the hub. The lane is in the id's upper bits, so that a lane is one range of the key.
CREATE TABLE outbox (
    id      INTEGER PRIMARY KEY,
    stream  INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    boot    INTEGER,                    -- the boot whose correction its times await
    made_ns INTEGER NOT NULL,           -- by the gateway's clock, for the age cap
    rows    INTEGER NOT NULL,
    body    BLOB NOT NULL
) STRICT;
CREATE INDEX outbox_by_stream ON outbox (stream, id);
CREATE TABLE subject (
    stream    INTEGER NOT NULL,
    lane      INTEGER NOT NULL,
    next_seq  INTEGER NOT NULL,
    next_id   INTEGER NOT NULL,
    dropped   INTEGER NOT NULL,
    hub_floor INTEGER NOT NULL,
    rows      INTEGER NOT NULL,
    bytes     INTEGER NOT NULL,
    PRIMARY KEY (stream, lane)
) STRICT, WITHOUT ROWID;
