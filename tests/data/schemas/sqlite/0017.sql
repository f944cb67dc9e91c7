BEGIN TRANSACTION;
CREATE TABLE agreement (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "agreement" VALUES('secret','vC6kg4BY5U3TwHZx9B8k_BgNPfdvUJ3oHWRXEFPWZ3k');
CREATE TABLE alias (
    owner      TEXT NOT NULL,            -- the tag of the key that it came with
    kind       TEXT NOT NULL,            -- which dialect's name for what
    name       TEXT NOT NULL,
    session_id TEXT NOT NULL,            -- with which it goes
    target     TEXT NOT NULL,            -- the id that it stands for
    PRIMARY KEY (owner, kind, name)
) WITHOUT ROWID;
CREATE TABLE generation (
    id              TEXT PRIMARY KEY,
    session_id      TEXT NOT NULL,
    message_id      TEXT NOT NULL,       -- the assistant's message that it produces
    status          TEXT NOT NULL,
    replica         TEXT NOT NULL,       -- who may append to it,
    lease_until     INTEGER NOT NULL,    -- and until when
    model           TEXT NOT NULL,
    dialect         TEXT NOT NULL,
    owner           TEXT NOT NULL,       -- the tag of the key that pays
    idempotency_key TEXT,
    digest          TEXT,                -- of the request that the idempotency key came with
    created_at      INTEGER NOT NULL,
    first_token_at  INTEGER,
    ended_at        INTEGER,
    length          INTEGER,             -- of the whole log, in bytes
    finish_reason   TEXT,
    usage           TEXT,                -- a JSON object
    error_code      TEXT,
    error_detail    TEXT
, stop_requested INTEGER NOT NULL DEFAULT 0, left_out TEXT, upstream TEXT) WITHOUT ROWID;
INSERT INTO "generation" VALUES('gen_01k8h7a2laQlAtWGKnQwkE_WiCiDSqug','ses_01k8h7a2la3zusz5Zgp2J9KgkQRACqXQ','msg_01k8h7a2lael7fngHPdOT-jGTNB_efZg','completed','rep_01k8h7a2da0A7NHiHcCxOSTH857Siq-g',1795874445514769,'gpt-4.1-mini','text','XzuieSDK1JZhWTKe-rkE_9jIc79HXb6QuglEQkbvhBU',NULL,NULL,1795874425514769,1795874425607789,1795874425677950,5,'stop','{"input_tokens":5,"output_tokens":3,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0,NULL,NULL);
INSERT INTO "generation" VALUES('gen_01k8h7a3k8SF1LxFQSQOaKneyYRq7Kxg','ses_01k8h7a2la3zusz5Zgp2J9KgkQRACqXQ','msg_01k8h7a3k8wEJ5VY0-czSsc8RM2RedTg','completed','rep_01k8h7a2da0A7NHiHcCxOSTH857Siq-g',1795874446504296,'gpt-4.1-mini','text','XzuieSDK1JZhWTKe-rkE_9jIc79HXb6QuglEQkbvhBU',NULL,NULL,1795874426504296,1795874426561683,1795874426577379,3,'stop','{"input_tokens":11,"output_tokens":2,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0,NULL,NULL);
INSERT INTO "generation" VALUES('gen_01k8h7a3mup0B4W47PXHP552YUaN96Pw','ses_01k8h7a3muQ9eEfIv99Wo1RY-A7VZMbg','msg_01k8h7a3muifNuOtIs7ESdL6KMYVcMCA','running','rep_01k8h7a2da0A7NHiHcCxOSTH857Siq-g',1795874446590125,'gpt-4.1-mini','text','XzuieSDK1JZhWTKe-rkE_9jIc79HXb6QuglEQkbvhBU',NULL,NULL,1795874426590125,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL);
CREATE TABLE message (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    parent     TEXT,                     -- the message before it; siblings are alternatives
    depth      INTEGER NOT NULL,         -- how many messages are before it
    role       TEXT NOT NULL,
    content    TEXT NOT NULL,            -- a JSON array of parts
    created_at INTEGER NOT NULL
, cuts TEXT);
INSERT INTO "message" VALUES('msg_01k8h7a2ladMFtVdnGhvbfiiRB7F5r3g','ses_01k8h7a2la3zusz5Zgp2J9KgkQRACqXQ',NULL,0,'user','[{"type":"text","text":"Count to 3"}]',1795874425514769,NULL);
INSERT INTO "message" VALUES('msg_01k8h7a2lael7fngHPdOT-jGTNB_efZg','ses_01k8h7a2la3zusz5Zgp2J9KgkQRACqXQ','msg_01k8h7a2ladMFtVdnGhvbfiiRB7F5r3g',1,'assistant','[{"type":"text","text":"1 2 3"}]',1795874425514769,'BCC');
INSERT INTO "message" VALUES('msg_01k8h7a3k8gqVpTS1XhDJ5D9JmNNlq_w','ses_01k8h7a2la3zusz5Zgp2J9KgkQRACqXQ','msg_01k8h7a2lael7fngHPdOT-jGTNB_efZg',2,'user','[{"type":"text","text":"Count to 2"}]',1795874426504296,NULL);
INSERT INTO "message" VALUES('msg_01k8h7a3k8wEJ5VY0-czSsc8RM2RedTg','ses_01k8h7a2la3zusz5Zgp2J9KgkQRACqXQ','msg_01k8h7a3k8gqVpTS1XhDJ5D9JmNNlq_w',3,'assistant','[{"type":"text","text":"1 2"}]',1795874426504296,'BC');
INSERT INTO "message" VALUES('msg_01k8h7a3muY8JIVY_Fbrn7Srqu1awGeA','ses_01k8h7a3muQ9eEfIv99Wo1RY-A7VZMbg',NULL,0,'user','[{"type":"text","text":"Count to 900"}]',1795874426590125,NULL);
INSERT INTO "message" VALUES('msg_01k8h7a3muifNuOtIs7ESdL6KMYVcMCA','ses_01k8h7a3muQ9eEfIv99Wo1RY-A7VZMbg','msg_01k8h7a3muY8JIVY_Fbrn7Srqu1awGeA',1,'assistant','[]',1795874426590125,NULL);
CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO "migration" VALUES(1,'0001_sessions.sql');
INSERT INTO "migration" VALUES(2,'0002_replicas.sql');
INSERT INTO "migration" VALUES(3,'0003_tree.sql');
INSERT INTO "migration" VALUES(4,'0004_responses.sql');
INSERT INTO "migration" VALUES(5,'0005_last_use.sql');
INSERT INTO "migration" VALUES(6,'0006_usage.sql');
INSERT INTO "migration" VALUES(7,'0007_titles.sql');
INSERT INTO "migration" VALUES(8,'0008_cuts.sql');
INSERT INTO "migration" VALUES(9,'0009_content_bytes.sql');
INSERT INTO "migration" VALUES(10,'0010_retention.sql');
INSERT INTO "migration" VALUES(11,'0011_completions.sql');
INSERT INTO "migration" VALUES(12,'0012_queue.sql');
INSERT INTO "migration" VALUES(13,'0013_context.sql');
INSERT INTO "migration" VALUES(14,'0014_summaries.sql');
INSERT INTO "migration" VALUES(15,'0015_upstream.sql');
INSERT INTO "migration" VALUES(16,'0016_shares.sql');
INSERT INTO "migration" VALUES(17,'0017_queue_keys.sql');
CREATE TABLE piece (
    generation_id TEXT NOT NULL,
    position      INTEGER NOT NULL,      -- where it ends, in bytes of the log
    part          INTEGER NOT NULL,
    kind          TEXT NOT NULL,
    text          TEXT NOT NULL, call TEXT,
    PRIMARY KEY (generation_id, position)
) WITHOUT ROWID;
CREATE TABLE queued_turn (
    id              TEXT PRIMARY KEY, -- of the message that it becomes
    session_id      TEXT NOT NULL,
    generation_id   TEXT NOT NULL, -- that will answer it
    place           INTEGER NOT NULL,    -- the turns of a session start in this order
    owner           TEXT NOT NULL, -- the tag of the key that pays
    content         TEXT NOT NULL,       -- a JSON array of parts
    request         TEXT NOT NULL,       -- a JSON object: model, dialect, parameters, developer message
    idempotency_key TEXT,
    digest          TEXT,                -- of the request that the idempotency key came with
    created_at      INTEGER NOT NULL
, needs_key INTEGER NOT NULL DEFAULT 1);
CREATE TABLE response (
    generation_id TEXT PRIMARY KEY,
    session_id    TEXT NOT NULL,         -- with which it goes
    parent        TEXT,                  -- the message under which its input hangs
    echo          TEXT NOT NULL          -- a JSON object
) WITHOUT ROWID;
CREATE TABLE session (
    id                TEXT PRIMARY KEY,
    owner             TEXT,              -- HMAC tag of the key it belongs to; NULL until its first chat
    developer_message TEXT NOT NULL,
    title             TEXT,
    metadata          TEXT NOT NULL,     -- a JSON object of strings
    head              TEXT,              -- the message that ends the active path
    message_count     INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL
, content_bytes INTEGER NOT NULL DEFAULT 0, keep INTEGER NOT NULL DEFAULT 0, expires_at INTEGER, temporary INTEGER NOT NULL DEFAULT 0, queued INTEGER NOT NULL DEFAULT 0, context TEXT) WITHOUT ROWID;
INSERT INTO "session" VALUES('ses_01k8h7a2la3zusz5Zgp2J9KgkQRACqXQ','XzuieSDK1JZhWTKe-rkE_9jIc79HXb6QuglEQkbvhBU','Be brief.','Count to 3','{}','msg_01k8h7a3k8wEJ5VY0-czSsc8RM2RedTg',4,1795874425514769,1795874426577379,146,0,NULL,0,0,NULL);
INSERT INTO "session" VALUES('ses_01k8h7a3muQ9eEfIv99Wo1RY-A7VZMbg','XzuieSDK1JZhWTKe-rkE_9jIc79HXb6QuglEQkbvhBU','Be brief.','Count to 900','{}','msg_01k8h7a3muifNuOtIs7ESdL6KMYVcMCA',2,1795874426590125,1795874426590125,44,0,NULL,0,0,NULL);
CREATE TABLE share (
    id         TEXT PRIMARY KEY,
    digest     TEXT NOT NULL UNIQUE, -- SHA-256 of the token in the link; the token is not stored
    session_id TEXT NOT NULL,
    message_id TEXT NOT NULL,        -- the last message that it shows
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE TABLE summary (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    last       TEXT NOT NULL, -- the id of the last message of the path that it covers
    messages   INTEGER NOT NULL, -- their number
    model      TEXT NOT NULL,
    content    TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
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
INSERT INTO "usage" VALUES('XzuieSDK1JZhWTKe-rkE_9jIc79HXb6QuglEQkbvhBU','ses_01k8h7a2la3zusz5Zgp2J9KgkQRACqXQ',20785,'gpt-4.1-mini',2,16,5,0,0,0,0);
CREATE INDEX session_newest ON session (owner, created_at, id);
CREATE UNIQUE INDEX generation_running ON generation (session_id) WHERE status = 'running';
CREATE UNIQUE INDEX generation_idempotency ON generation (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX generation_message ON generation (message_id);
CREATE INDEX alias_session ON alias (session_id);
CREATE INDEX message_siblings ON message (session_id, parent, created_at, id);
CREATE INDEX response_session ON response (session_id);
CREATE INDEX session_last_used ON session (owner, updated_at, id);
CREATE INDEX session_expires ON session (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX session_temporary ON session (updated_at) WHERE temporary = 1;
CREATE INDEX session_updated ON session (updated_at);
CREATE INDEX generation_completion ON generation (owner, id) WHERE dialect = 'completions';
CREATE UNIQUE INDEX queued_turn_place ON queued_turn (session_id, place);
CREATE UNIQUE INDEX queued_turn_idempotency ON queued_turn (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX summary_session ON summary (session_id, created_at, id);
CREATE INDEX share_session ON share (session_id);
CREATE INDEX share_expiry ON share (expires_at);
COMMIT;
