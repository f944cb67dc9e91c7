-- Runs before the code that needs it; the code before it goes on working.

-- Of a generation that was asked for through OpenAI's Responses: what its response says of the request.
CREATE TABLE response (
    generation_id TEXT PRIMARY KEY,
    session_id    TEXT NOT NULL,         -- with which it goes
    parent        TEXT,                  -- the message under which its input hangs
    echo          TEXT NOT NULL          -- a JSON object
) WITHOUT ROWID;

CREATE INDEX response_session ON response (session_id);
