-- Runs before the code that needs it; the code before it continues to work.

ALTER TABLE session ADD COLUMN queued INTEGER NOT NULL DEFAULT 0; -- the number of its rows in queued_turn

-- Turns that start when the answers before them have ended. A row is deleted by the transaction that starts the turn.
CREATE TABLE queued_turn (
    id              TEXT COLLATE "C" PRIMARY KEY, -- of the message that it becomes
    session_id      TEXT COLLATE "C" NOT NULL,
    generation_id   TEXT COLLATE "C" NOT NULL, -- that will answer it
    place           BIGINT NOT NULL,    -- the turns of a session start in this order
    owner           TEXT COLLATE "C" NOT NULL, -- the tag of the key that pays
    content         TEXT NOT NULL,       -- a JSON array of parts
    request         TEXT NOT NULL,       -- a JSON object: model, dialect, parameters, developer message
    idempotency_key TEXT COLLATE "C",
    digest          TEXT,                -- of the request that the idempotency key came with
    created_at      BIGINT NOT NULL
);

CREATE UNIQUE INDEX queued_turn_place ON queued_turn (session_id, place);
CREATE UNIQUE INDEX queued_turn_idempotency ON queued_turn (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
