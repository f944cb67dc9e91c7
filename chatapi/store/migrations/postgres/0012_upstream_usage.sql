-- Runs before the code that needs it; the answers that the code before it ends are those of no upstream.

-- What the answers of each upstream cost, where there are several. It is counted beside `usage`, whose key is that of the
-- code before it.
CREATE TABLE upstream_usage (
    owner            TEXT COLLATE "C" NOT NULL, -- the tag of the key that paid
    upstream         TEXT COLLATE "C" NOT NULL, -- its name in the file
    day              INTEGER NOT NULL,   -- days since the epoch, UTC, on which the answers ended
    model            TEXT COLLATE "C" NOT NULL,
    answers          BIGINT NOT NULL,
    input_tokens     BIGINT NOT NULL,
    output_tokens    BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cached_tokens    BIGINT NOT NULL,
    estimated        BIGINT NOT NULL,    -- of the answers: their tokens are estimated
    unknown          BIGINT NOT NULL,    -- of the answers: their tokens are not known
    PRIMARY KEY (owner, upstream, day, model)
);
