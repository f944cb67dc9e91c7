-- Runs before the code that needs it. Times are microseconds since the epoch, UTC.

CREATE TABLE session (
    id                TEXT PRIMARY KEY,
    owner             TEXT,              -- HMAC tag of the key it belongs to; NULL until its first chat
    developer_message TEXT NOT NULL,
    title             TEXT,
    metadata          TEXT NOT NULL,     -- a JSON object of strings
    head              TEXT,              -- the message that ends the active path
    message_count     INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX session_newest ON session (owner, created_at, id);

CREATE TABLE message (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    parent     TEXT,                     -- the message before it; siblings are alternatives
    depth      INTEGER NOT NULL,         -- how many messages are before it
    role       TEXT NOT NULL,
    content    TEXT NOT NULL,            -- a JSON array of parts
    created_at INTEGER NOT NULL
);

CREATE INDEX message_session ON message (session_id);

CREATE TABLE generation (
    id              TEXT PRIMARY KEY,
    session_id      TEXT NOT NULL,
    message_id      TEXT NOT NULL,       -- the assistant's message that it produces
    status          TEXT NOT NULL,
    replica         TEXT NOT NULL,       -- who may append to it,
    lease_until     INTEGER NOT NULL,    -- and until when
    model           TEXT NOT NULL,
    dialect         TEXT NOT NULL,
    owner           TEXT NOT NULL,       -- the tag of the key that pays
    idempotency_key TEXT,
    digest          TEXT,                -- of the request that the idempotency key came with
    created_at      INTEGER NOT NULL,
    first_token_at  INTEGER,
    ended_at        INTEGER,
    length          INTEGER,             -- of the whole log, in bytes
    finish_reason   TEXT,
    usage           TEXT,                -- a JSON object
    error_code      TEXT,
    error_detail    TEXT
) WITHOUT ROWID;

CREATE UNIQUE INDEX generation_running ON generation (session_id) WHERE status = 'running';
CREATE UNIQUE INDEX generation_idempotency ON generation (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX generation_message ON generation (message_id);

-- The log of a running generation; joined into its message when it ends.
CREATE TABLE piece (
    generation_id TEXT NOT NULL,
    position      INTEGER NOT NULL,      -- where it ends, in bytes of the log
    part          INTEGER NOT NULL,
    kind          TEXT NOT NULL,
    text          TEXT NOT NULL,
    PRIMARY KEY (generation_id, position)
) WITHOUT ROWID;
