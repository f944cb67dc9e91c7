-- Runs before the code that needs it; the code before it goes on working.

-- Of a generation that was asked for through OpenAI's Responses: what its response says of the request.
CREATE TABLE response (
    generation_id TEXT COLLATE "C" PRIMARY KEY,
    session_id    TEXT COLLATE "C" NOT NULL, -- with which it goes
    parent        TEXT COLLATE "C",      -- the message under which its input hangs
    echo          TEXT NOT NULL          -- a JSON object
);

CREATE INDEX response_session ON response (session_id);
