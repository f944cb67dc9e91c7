BEGIN TRANSACTION;
CREATE TABLE agreement (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "agreement" VALUES('secret','3WI8rJRsrFHBpGYJhmx9bqUZymQA9hR36LDRigMGqdg');
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
, stop_requested INTEGER NOT NULL DEFAULT 0, left_out TEXT) WITHOUT ROWID;
INSERT INTO "generation" VALUES('gen_01k8gtqmgoz6AFj1HZNMStvAwc8UnaWw','ses_01k8gtqmgo9JNTqmaY4wwP0KJXg-sSMA','msg_01k8gtqmgoKP1SzyqLUa0l0zg51jpjVg','completed','rep_01k8gtqm93UT2OBP-WI_ShNM-waUkGVQ',1795864504376777,'gpt-4.1-mini','text','1duF-LUJ6-nBLuwZphDEsLvf5fFtJFsPyhBbf0Yv0_0',NULL,NULL,1795864484376777,1795864484404805,1795864484445169,5,'stop','{"input_tokens":5,"output_tokens":3,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0,NULL);
INSERT INTO "generation" VALUES('gen_01k8gtqmj1X4ASCPUiDmjlTVVHu7CfPA','ses_01k8gtqmgo9JNTqmaY4wwP0KJXg-sSMA','msg_01k8gtqmj1QbI-s9U9GbPmOWTIfP5z9Q','completed','rep_01k8gtqm93UT2OBP-WI_ShNM-waUkGVQ',1795864504449814,'gpt-4.1-mini','text','1duF-LUJ6-nBLuwZphDEsLvf5fFtJFsPyhBbf0Yv0_0',NULL,NULL,1795864484449814,1795864484475073,1795864484496322,3,'stop','{"input_tokens":11,"output_tokens":2,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0,NULL);
INSERT INTO "generation" VALUES('gen_01k8gtqmkjSWIdxQfyNXslZdudBqaKVQ','ses_01k8gtqmkjUNKO1YEaSPZ3HLS6QcXBDg','msg_01k8gtqmkjIfETzablAtUF7OdSL4piCw','running','rep_01k8gtqm93UT2OBP-WI_ShNM-waUkGVQ',1795864504499915,'gpt-4.1-mini','text','1duF-LUJ6-nBLuwZphDEsLvf5fFtJFsPyhBbf0Yv0_0',NULL,NULL,1795864484499915,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL);
CREATE TABLE message (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    parent     TEXT,                     -- the message before it; siblings are alternatives
    depth      INTEGER NOT NULL,         -- how many messages are before it
    role       TEXT NOT NULL,
    content    TEXT NOT NULL,            -- a JSON array of parts
    created_at INTEGER NOT NULL
, cuts TEXT);
INSERT INTO "message" VALUES('msg_01k8gtqmgoRjsNi9Ahy3PzZRKWttwqTg','ses_01k8gtqmgo9JNTqmaY4wwP0KJXg-sSMA',NULL,0,'user','[{"type":"text","text":"Count to 3"}]',1795864484376777,NULL);
INSERT INTO "message" VALUES('msg_01k8gtqmgoKP1SzyqLUa0l0zg51jpjVg','ses_01k8gtqmgo9JNTqmaY4wwP0KJXg-sSMA','msg_01k8gtqmgoRjsNi9Ahy3PzZRKWttwqTg',1,'assistant','[{"type":"text","text":"1 2 3"}]',1795864484376777,'BCC');
INSERT INTO "message" VALUES('msg_01k8gtqmj1z78GU8UfoF-5kJxJ8E_Mvw','ses_01k8gtqmgo9JNTqmaY4wwP0KJXg-sSMA','msg_01k8gtqmgoKP1SzyqLUa0l0zg51jpjVg',2,'user','[{"type":"text","text":"Count to 2"}]',1795864484449814,NULL);
INSERT INTO "message" VALUES('msg_01k8gtqmj1QbI-s9U9GbPmOWTIfP5z9Q','ses_01k8gtqmgo9JNTqmaY4wwP0KJXg-sSMA','msg_01k8gtqmj1z78GU8UfoF-5kJxJ8E_Mvw',3,'assistant','[{"type":"text","text":"1 2"}]',1795864484449814,'BC');
INSERT INTO "message" VALUES('msg_01k8gtqmkjr1tP-KPHmo3JndyzPYvvHA','ses_01k8gtqmkjUNKO1YEaSPZ3HLS6QcXBDg',NULL,0,'user','[{"type":"text","text":"Count to 900"}]',1795864484499915,NULL);
INSERT INTO "message" VALUES('msg_01k8gtqmkjIfETzablAtUF7OdSL4piCw','ses_01k8gtqmkjUNKO1YEaSPZ3HLS6QcXBDg','msg_01k8gtqmkjr1tP-KPHmo3JndyzPYvvHA',1,'assistant','[]',1795864484499915,NULL);
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
);
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
INSERT INTO "session" VALUES('ses_01k8gtqmgo9JNTqmaY4wwP0KJXg-sSMA','1duF-LUJ6-nBLuwZphDEsLvf5fFtJFsPyhBbf0Yv0_0','Be brief.','Count to 3','{}','msg_01k8gtqmj1QbI-s9U9GbPmOWTIfP5z9Q',4,1795864484376777,1795864484496322,146,0,NULL,0,0,NULL);
INSERT INTO "session" VALUES('ses_01k8gtqmkjUNKO1YEaSPZ3HLS6QcXBDg','1duF-LUJ6-nBLuwZphDEsLvf5fFtJFsPyhBbf0Yv0_0','Be brief.','Count to 900','{}','msg_01k8gtqmkjIfETzablAtUF7OdSL4piCw',2,1795864484499915,1795864484499915,44,0,NULL,0,0,NULL);
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
INSERT INTO "usage" VALUES('1duF-LUJ6-nBLuwZphDEsLvf5fFtJFsPyhBbf0Yv0_0','ses_01k8gtqmgo9JNTqmaY4wwP0KJXg-sSMA',20785,'gpt-4.1-mini',2,16,5,0,0,0,0);
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
COMMIT;
