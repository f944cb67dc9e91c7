-- Runs before the code that needs it; the code before it continues to work.

-- Summaries of the beginning of paths, by a model. They go with their session, and with every message of it.
CREATE TABLE summary (
    id         TEXT COLLATE "C" PRIMARY KEY,
    session_id TEXT COLLATE "C" NOT NULL,
    last       TEXT COLLATE "C" NOT NULL, -- the id of the last message of the path that it covers
    messages   INTEGER NOT NULL, -- their number
    model      TEXT NOT NULL,
    content    TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX summary_session ON summary (session_id, created_at, id);
