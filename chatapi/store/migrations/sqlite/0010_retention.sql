-- Runs before the code that needs it; the code before it continues to work.

ALTER TABLE session ADD COLUMN keep INTEGER NOT NULL DEFAULT 0;      -- 1: it does not expire when it is not used
ALTER TABLE session ADD COLUMN expires_at INTEGER;                -- it expires then, also if it is kept
ALTER TABLE session ADD COLUMN temporary INTEGER NOT NULL DEFAULT 0; -- 1: it expires sooner when it is not used

CREATE INDEX session_expires ON session (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX session_temporary ON session (updated_at) WHERE temporary = 1;

-- To find sessions that were not used for long.
CREATE INDEX session_updated ON session (updated_at);
