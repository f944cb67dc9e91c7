-- Runs before the code that needs it; the code before it continues to work.

-- The stored size of the session's messages, for quotas. Messages that were stored before are not counted: adding them
-- up would read the whole database.
ALTER TABLE session ADD COLUMN content_bytes INTEGER NOT NULL DEFAULT 0;
