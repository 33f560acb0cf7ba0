-- Version 2: the listener. AUTOINCREMENT: the number of a session is never given again.
CREATE TABLE session (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    user     TEXT NOT NULL,             -- empty for anonymous clients
    client   TEXT NOT NULL,
    expiry_s INTEGER NOT NULL,          -- kept so long without a connection
    left_ns  INTEGER,                   -- when the client left, by the trusted clock
    state    BLOB NOT NULL,             -- what the listener keeps of it
    UNIQUE (user, client)
) STRICT;
