BEGIN TRANSACTION;
CREATE TABLE agreement (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "agreement" VALUES('secret','FFCDGExtFMxzEsgINjA8f15h9DeXPKdR3r9vkf7q2DU');
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
, stop_requested INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
INSERT INTO "generation" VALUES('gen_01k8gtpgcb5e3AdoB6HGyeJ8DG52r3Ww','ses_01k8gtpgcbqqPlxhkjJCWEn5_VJhD17A','msg_01k8gtpgcbAwLSdqqF5DCh4VG_1WM1pg','completed','rep_01k8gtpg809dV7-VlJzvGArmmVnWrTiA',1795864465323461,'gpt-4.1-mini','text','f-q2wk6dNJ34ySINqmMGteZTEpKAr34zvQ-v-CCzEFc',NULL,NULL,1795864445323461,1795864445392483,1795864445426120,5,'stop','{"input_tokens":5,"output_tokens":3,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0);
INSERT INTO "generation" VALUES('gen_01k8gtpgfpXh7FkQTsVs1LF6aHsb40Sw','ses_01k8gtpgcbqqPlxhkjJCWEn5_VJhD17A','msg_01k8gtpgfpKYl1FNKTXlteKwx5lKpwGw','completed','rep_01k8gtpg809dV7-VlJzvGArmmVnWrTiA',1795864465433336,'gpt-4.1-mini','text','f-q2wk6dNJ34ySINqmMGteZTEpKAr34zvQ-v-CCzEFc',NULL,NULL,1795864445433336,1795864445459736,1795864445480278,3,'stop','{"input_tokens":11,"output_tokens":2,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0);
INSERT INTO "generation" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q','ses_01k8gtpghfNSyNvWU1NeAP1SRLeFYKGw','msg_01k8gtpghfy2w_hW-fS-Z5adS9Nhy4ew','running','rep_01k8gtpg809dV7-VlJzvGArmmVnWrTiA',1795864465487790,'gpt-4.1-mini','text','f-q2wk6dNJ34ySINqmMGteZTEpKAr34zvQ-v-CCzEFc',NULL,NULL,1795864445487790,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE TABLE message (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    parent     TEXT,                     -- the message before it; siblings are alternatives
    depth      INTEGER NOT NULL,         -- how many messages are before it
    role       TEXT NOT NULL,
    content    TEXT NOT NULL,            -- a JSON array of parts
    created_at INTEGER NOT NULL
);
INSERT INTO "message" VALUES('msg_01k8gtpgcblWtWXPNKEiCULJn4arJXpQ','ses_01k8gtpgcbqqPlxhkjJCWEn5_VJhD17A',NULL,0,'user','[{"type":"text","text":"Count to 3"}]',1795864445323461);
INSERT INTO "message" VALUES('msg_01k8gtpgcbAwLSdqqF5DCh4VG_1WM1pg','ses_01k8gtpgcbqqPlxhkjJCWEn5_VJhD17A','msg_01k8gtpgcblWtWXPNKEiCULJn4arJXpQ',1,'assistant','[{"type":"text","text":"1 2 3"}]',1795864445323461);
INSERT INTO "message" VALUES('msg_01k8gtpgfpQqBtaARS_QaAJTBOUqbswA','ses_01k8gtpgcbqqPlxhkjJCWEn5_VJhD17A','msg_01k8gtpgcbAwLSdqqF5DCh4VG_1WM1pg',2,'user','[{"type":"text","text":"Count to 2"}]',1795864445433336);
INSERT INTO "message" VALUES('msg_01k8gtpgfpKYl1FNKTXlteKwx5lKpwGw','ses_01k8gtpgcbqqPlxhkjJCWEn5_VJhD17A','msg_01k8gtpgfpQqBtaARS_QaAJTBOUqbswA',3,'assistant','[{"type":"text","text":"1 2"}]',1795864445433336);
INSERT INTO "message" VALUES('msg_01k8gtpghf90lVxmMH9BD9JiNB87EFBQ','ses_01k8gtpghfNSyNvWU1NeAP1SRLeFYKGw',NULL,0,'user','[{"type":"text","text":"Count to 900"}]',1795864445487790);
INSERT INTO "message" VALUES('msg_01k8gtpghfy2w_hW-fS-Z5adS9Nhy4ew','ses_01k8gtpghfNSyNvWU1NeAP1SRLeFYKGw','msg_01k8gtpghf90lVxmMH9BD9JiNB87EFBQ',1,'assistant','[]',1795864445487790);
CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO "migration" VALUES(1,'0001_sessions.sql');
INSERT INTO "migration" VALUES(2,'0002_replicas.sql');
INSERT INTO "migration" VALUES(3,'0003_tree.sql');
INSERT INTO "migration" VALUES(4,'0004_responses.sql');
INSERT INTO "migration" VALUES(5,'0005_last_use.sql');
INSERT INTO "migration" VALUES(6,'0006_usage.sql');
INSERT INTO "migration" VALUES(7,'0007_titles.sql');
CREATE TABLE piece (
    generation_id TEXT NOT NULL,
    position      INTEGER NOT NULL,      -- where it ends, in bytes of the log
    part          INTEGER NOT NULL,
    kind          TEXT NOT NULL,
    text          TEXT NOT NULL, call TEXT,
    PRIMARY KEY (generation_id, position)
) WITHOUT ROWID;
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',1,0,'text','1',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',3,0,'text',' 2',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',5,0,'text',' 3',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',7,0,'text',' 4',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',9,0,'text',' 5',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',11,0,'text',' 6',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',13,0,'text',' 7',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',15,0,'text',' 8',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',17,0,'text',' 9',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',20,0,'text',' 10',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',23,0,'text',' 11',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',26,0,'text',' 12',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',29,0,'text',' 13',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',32,0,'text',' 14',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',35,0,'text',' 15',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',38,0,'text',' 16',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',41,0,'text',' 17',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',44,0,'text',' 18',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',47,0,'text',' 19',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',50,0,'text',' 20',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',53,0,'text',' 21',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',56,0,'text',' 22',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',59,0,'text',' 23',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',62,0,'text',' 24',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtpghfnLw9B7lDvJmL0IQUFBva3Q',65,0,'text',' 25',NULL);
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
) WITHOUT ROWID;
INSERT INTO "session" VALUES('ses_01k8gtpgcbqqPlxhkjJCWEn5_VJhD17A','f-q2wk6dNJ34ySINqmMGteZTEpKAr34zvQ-v-CCzEFc','Be brief.','Count to 3','{}','msg_01k8gtpgfpKYl1FNKTXlteKwx5lKpwGw',4,1795864445323461,1795864445480278);
INSERT INTO "session" VALUES('ses_01k8gtpghfNSyNvWU1NeAP1SRLeFYKGw','f-q2wk6dNJ34ySINqmMGteZTEpKAr34zvQ-v-CCzEFc','Be brief.','Count to 900','{}','msg_01k8gtpghfy2w_hW-fS-Z5adS9Nhy4ew',2,1795864445487790,1795864445487790);
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
INSERT INTO "usage" VALUES('f-q2wk6dNJ34ySINqmMGteZTEpKAr34zvQ-v-CCzEFc','ses_01k8gtpgcbqqPlxhkjJCWEn5_VJhD17A',20785,'gpt-4.1-mini',2,16,5,0,0,0,0);
CREATE INDEX session_newest ON session (owner, created_at, id);
CREATE UNIQUE INDEX generation_running ON generation (session_id) WHERE status = 'running';
CREATE UNIQUE INDEX generation_idempotency ON generation (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX generation_message ON generation (message_id);
CREATE INDEX alias_session ON alias (session_id);
CREATE INDEX message_siblings ON message (session_id, parent, created_at, id);
CREATE INDEX response_session ON response (session_id);
CREATE INDEX session_last_used ON session (owner, updated_at, id);
COMMIT;
