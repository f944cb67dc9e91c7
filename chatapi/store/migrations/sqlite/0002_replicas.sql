-- Runs before the code that needs it.

ALTER TABLE generation ADD COLUMN stop_requested INTEGER NOT NULL DEFAULT 0; -- 1: somebody wants it stopped

-- What all that open this database must agree on.
CREATE TABLE agreement (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
