-- Runs before the code that needs it. Times are microseconds since the epoch, UTC.
-- Ids are compared byte by byte (COLLATE "C"): that is faster, and the same on every server.

CREATE TABLE session (
    id                TEXT COLLATE "C" PRIMARY KEY,
    owner             TEXT COLLATE "C",  -- HMAC tag of the key it belongs to; NULL until its first chat
    developer_message TEXT NOT NULL,
    title             TEXT,              -- NULL until it is named; empty when it was taken away
    metadata          TEXT NOT NULL,     -- a JSON object of strings
    head              TEXT COLLATE "C",  -- the message that ends the active path
    message_count     INTEGER NOT NULL,
    created_at        BIGINT NOT NULL,
    updated_at        BIGINT NOT NULL
);

CREATE INDEX session_newest ON session (owner, created_at, id);
CREATE INDEX session_last_used ON session (owner, updated_at, id);

CREATE TABLE message (
    id         TEXT COLLATE "C" PRIMARY KEY,
    session_id TEXT COLLATE "C" NOT NULL,
    parent     TEXT COLLATE "C",         -- the message before it; siblings are alternatives
    depth      INTEGER NOT NULL,         -- how many messages are before it
    role       TEXT NOT NULL,
    content    TEXT NOT NULL,            -- a JSON array of parts
    created_at BIGINT NOT NULL
);

CREATE INDEX message_siblings ON message (session_id, parent, created_at, id);

CREATE TABLE generation (
    id              TEXT COLLATE "C" PRIMARY KEY,
    session_id      TEXT COLLATE "C" NOT NULL,
    message_id      TEXT COLLATE "C" NOT NULL, -- the assistant's message that it produces
    status          TEXT NOT NULL,
    replica         TEXT COLLATE "C" NOT NULL, -- who may append to it,
    lease_until     BIGINT NOT NULL,     -- and until when
    model           TEXT NOT NULL,
    dialect         TEXT NOT NULL,
    owner           TEXT COLLATE "C" NOT NULL, -- the tag of the key that pays
    idempotency_key TEXT COLLATE "C",
    digest          TEXT,                -- of the request that the idempotency key came with
    created_at      BIGINT NOT NULL,
    first_token_at  BIGINT,
    ended_at        BIGINT,
    length          BIGINT,              -- of the whole log, in bytes
    finish_reason   TEXT,
    usage           TEXT,                -- a JSON object
    error_code      TEXT,
    error_detail    TEXT,
    stop_requested  INTEGER NOT NULL DEFAULT 0 -- 1: somebody wants it stopped
);

CREATE UNIQUE INDEX generation_running ON generation (session_id) WHERE status = 'running';
CREATE INDEX generation_running_replica ON generation (replica) WHERE status = 'running';
CREATE UNIQUE INDEX generation_idempotency ON generation (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX generation_message ON generation (message_id);

-- The log of a running generation; joined into its message when it ends. Rows come and go all the time: dead ones are
-- cleared away early, and at full speed.
CREATE TABLE piece (
    generation_id TEXT COLLATE "C" NOT NULL,
    position      BIGINT NOT NULL,       -- where it ends, in bytes of the log
    part          INTEGER NOT NULL,
    kind          TEXT NOT NULL,
    text          TEXT NOT NULL,
    call          TEXT,                  -- of a tool call: a JSON array of its id and its name
    PRIMARY KEY (generation_id, position)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

-- A client's own names for sessions and messages, each within its owner.
CREATE TABLE alias (
    owner      TEXT COLLATE "C" NOT NULL, -- the tag of the key that it came with
    kind       TEXT COLLATE "C" NOT NULL, -- which dialect's name for what
    name       TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL, -- with which it goes
    target     TEXT COLLATE "C" NOT NULL, -- the id that it stands for
    PRIMARY KEY (owner, kind, name)
);

CREATE INDEX alias_session ON alias (session_id);

-- Of a generation that was asked for through OpenAI's Responses: what its response says of the request.
CREATE TABLE response (
    generation_id TEXT COLLATE "C" PRIMARY KEY,
    session_id    TEXT COLLATE "C" NOT NULL, -- with which it goes
    parent        TEXT COLLATE "C",      -- the message under which its input hangs
    echo          TEXT NOT NULL          -- a JSON object
);

CREATE INDEX response_session ON response (session_id);

-- What answers cost, added up as they end: for each owner, session, day and model. It outlives the session, and its
-- answers: what is deleted was spent all the same.
CREATE TABLE usage (
    owner            TEXT COLLATE "C" NOT NULL, -- the tag of the key that paid
    session_id       TEXT COLLATE "C" NOT NULL, -- '': sessions that were deleted
    day              INTEGER NOT NULL,   -- days since the epoch, UTC, on which the answers ended
    model            TEXT COLLATE "C" NOT NULL,
    answers          BIGINT NOT NULL,
    input_tokens     BIGINT NOT NULL,
    output_tokens    BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cached_tokens    BIGINT NOT NULL,
    estimated        BIGINT NOT NULL,    -- of the answers: their tokens are estimated
    unknown          BIGINT NOT NULL,    -- of the answers: their tokens are not known
    PRIMARY KEY (owner, session_id, day, model)
);

-- What all that open this database must agree on.
CREATE TABLE agreement (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
