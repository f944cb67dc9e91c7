-- Runs before the code that needs it; what the code before it ends meanwhile is not counted.

-- What answers cost, added up as they end: for each owner, session, day and model. It outlives the session, and its
-- answers: what is deleted was spent all the same.
CREATE TABLE usage (
    owner            TEXT NOT NULL,      -- the tag of the key that paid
    session_id       TEXT NOT NULL,      -- '': sessions that were deleted
    day              INTEGER NOT NULL,   -- days since the epoch, UTC, on which the answers ended
    model            TEXT NOT NULL,
    answers          INTEGER NOT NULL,
    input_tokens     INTEGER NOT NULL,
    output_tokens    INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cached_tokens    INTEGER NOT NULL,
    estimated        INTEGER NOT NULL,   -- of the answers: their tokens are estimated
    unknown          INTEGER NOT NULL,   -- of the answers: their tokens are not known
    PRIMARY KEY (owner, session_id, day, model)
) WITHOUT ROWID;

-- The answers that are there already, counted as `transactions.usage` counts.
INSERT INTO usage (owner, session_id, day, model, answers, input_tokens, output_tokens, reasoning_tokens, cached_tokens,
    estimated, unknown)
SELECT owner, session_id, ended_at / 86400000000, model, count(*),
    sum(min(max(coalesce(json_extract(usage, '$.input_tokens'), 0), 0), 1000000000)),
    sum(min(max(coalesce(json_extract(usage, '$.output_tokens'), 0), 0), 1000000000)),
    sum(min(max(coalesce(json_extract(usage, '$.reasoning_tokens'), 0), 0), 1000000000)),
    sum(min(max(coalesce(json_extract(usage, '$.cached_tokens'), 0), 0), 1000000000)),
    sum(coalesce(json_extract(usage, '$.estimated'), 0)),
    sum(usage IS NULL)
FROM generation
WHERE ended_at IS NOT NULL AND NOT (
    status = 'failed' AND usage IS NULL AND length = 0 AND error_code IN (
        'authentication_failed', 'context_too_large', 'model_not_found', 'permission_denied', 'upstream_rate_limited',
        'upstream_rejected_request', 'upstream_unavailable'))
GROUP BY owner, session_id, ended_at / 86400000000, model;
