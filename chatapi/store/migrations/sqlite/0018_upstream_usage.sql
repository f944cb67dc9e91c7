-- Runs before the code that needs it; the answers that the code before it ends are those of no upstream.

-- What the answers of each upstream cost, where there are several. It is counted beside `usage`, whose key is that of the
-- code before it.
CREATE TABLE upstream_usage (
    owner            TEXT NOT NULL,      -- the tag of the key that paid
    upstream         TEXT NOT NULL,      -- its name in the file
    day              INTEGER NOT NULL,   -- days since the epoch, UTC, on which the answers ended
    model            TEXT NOT NULL,
    answers          INTEGER NOT NULL,
    input_tokens     INTEGER NOT NULL,
    output_tokens    INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cached_tokens    INTEGER NOT NULL,
    estimated        INTEGER NOT NULL,   -- of the answers: their tokens are estimated
    unknown          INTEGER NOT NULL,   -- of the answers: their tokens are not known
    PRIMARY KEY (owner, upstream, day, model)
) WITHOUT ROWID;
