-- Version 3: the last message of each topic that was published to be retained.
CREATE TABLE retained (
    topic      TEXT PRIMARY KEY,
    qos        INTEGER NOT NULL,
    expires_ns INTEGER,                 -- by the trusted clock; NULL: never, or nobody knew the time
    payload    BLOB NOT NULL,
    properties BLOB NOT NULL            -- MQTT 5 properties that are passed on, in the listener's format
) STRICT, WITHOUT ROWID;
