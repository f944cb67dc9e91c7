-- Runs before the code that needs it; the code before it continues to work.

-- Links with which anyone can read a conversation up to a message, until they expire.
CREATE TABLE share (
    id         TEXT PRIMARY KEY,
    digest     TEXT NOT NULL UNIQUE, -- SHA-256 of the token in the link; the token is not stored
    session_id TEXT NOT NULL,
    message_id TEXT NOT NULL,        -- the last message that it shows
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX share_session ON share (session_id);
CREATE INDEX share_expiry ON share (expires_at);
