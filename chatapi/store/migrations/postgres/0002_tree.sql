-- Runs before the code that needs it; the code before it goes on working.

ALTER TABLE piece ADD COLUMN call TEXT;  -- of a tool call: a JSON array of its id and its name

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

DROP INDEX message_session;
CREATE INDEX message_siblings ON message (session_id, parent, created_at, id);
