-- Runs before the code that needs it; the code before it goes on working.

CREATE INDEX session_last_used ON session (owner, updated_at, id);
