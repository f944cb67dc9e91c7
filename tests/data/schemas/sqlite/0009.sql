BEGIN TRANSACTION;
CREATE TABLE agreement (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "agreement" VALUES('secret','hh9ypA5MhZ-J8QHEgX0SddY6Yjw7h75MVnQKPGj0mr4');
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
INSERT INTO "generation" VALUES('gen_01k8gtpqsu3uaTq5FIXF7971BAlXdvew','ses_01k8gtpqsuVanmrVVxTIKUGU3FdXyE3w','msg_01k8gtpqsulonjQVfuZEkrFcvA84aLJQ','completed','rep_01k8gtpqo0cwlniuRAkquW4CzOeCZLKA',1795864476094075,'gpt-4.1-mini','text','KbjRDn3Ihe8tdmBvJjn38QMWRcjwVsMNcxGJX7L47HY',NULL,NULL,1795864456094075,1795864456123199,1795864456162462,5,'stop','{"input_tokens":5,"output_tokens":3,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0);
INSERT INTO "generation" VALUES('gen_01k8gtpqv7Il5aV88L4Ldz-B6su328CQ','ses_01k8gtpqsuVanmrVVxTIKUGU3FdXyE3w','msg_01k8gtpqv7mIV__DKQhllxL-d_pQQxtw','completed','rep_01k8gtpqo0cwlniuRAkquW4CzOeCZLKA',1795864476167399,'gpt-4.1-mini','text','KbjRDn3Ihe8tdmBvJjn38QMWRcjwVsMNcxGJX7L47HY',NULL,NULL,1795864456167399,1795864456192584,1795864456213226,3,'stop','{"input_tokens":11,"output_tokens":2,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0);
INSERT INTO "generation" VALUES('gen_01k8gtpr0p1GgmqWdPFqNyh97WF9cVGw','ses_01k8gtpr0pE1u365gutXT2N5E9sXd9hQ','msg_01k8gtpr0p3u8cNROcA68ZZlIwkwDH0w','running','rep_01k8gtpqo0cwlniuRAkquW4CzOeCZLKA',1795864476217314,'gpt-4.1-mini','text','KbjRDn3Ihe8tdmBvJjn38QMWRcjwVsMNcxGJX7L47HY',NULL,NULL,1795864456217314,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE TABLE message (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    parent     TEXT,                     -- the message before it; siblings are alternatives
    depth      INTEGER NOT NULL,         -- how many messages are before it
    role       TEXT NOT NULL,
    content    TEXT NOT NULL,            -- a JSON array of parts
    created_at INTEGER NOT NULL
, cuts TEXT);
INSERT INTO "message" VALUES('msg_01k8gtpqsuyKTdZVixZAqNUtKYc4WZyA','ses_01k8gtpqsuVanmrVVxTIKUGU3FdXyE3w',NULL,0,'user','[{"type":"text","text":"Count to 3"}]',1795864456094075,NULL);
INSERT INTO "message" VALUES('msg_01k8gtpqsulonjQVfuZEkrFcvA84aLJQ','ses_01k8gtpqsuVanmrVVxTIKUGU3FdXyE3w','msg_01k8gtpqsuyKTdZVixZAqNUtKYc4WZyA',1,'assistant','[{"type":"text","text":"1 2 3"}]',1795864456094075,'BCC');
INSERT INTO "message" VALUES('msg_01k8gtpqv7jboMvsygcRvSRULN1_yH0g','ses_01k8gtpqsuVanmrVVxTIKUGU3FdXyE3w','msg_01k8gtpqsulonjQVfuZEkrFcvA84aLJQ',2,'user','[{"type":"text","text":"Count to 2"}]',1795864456167399,NULL);
INSERT INTO "message" VALUES('msg_01k8gtpqv7mIV__DKQhllxL-d_pQQxtw','ses_01k8gtpqsuVanmrVVxTIKUGU3FdXyE3w','msg_01k8gtpqv7jboMvsygcRvSRULN1_yH0g',3,'assistant','[{"type":"text","text":"1 2"}]',1795864456167399,'BC');
INSERT INTO "message" VALUES('msg_01k8gtpr0pse9_NBAAHOhITNtdGWqViQ','ses_01k8gtpr0pE1u365gutXT2N5E9sXd9hQ',NULL,0,'user','[{"type":"text","text":"Count to 900"}]',1795864456217314,NULL);
INSERT INTO "message" VALUES('msg_01k8gtpr0p3u8cNROcA68ZZlIwkwDH0w','ses_01k8gtpr0pE1u365gutXT2N5E9sXd9hQ','msg_01k8gtpr0pse9_NBAAHOhITNtdGWqViQ',1,'assistant','[]',1795864456217314,NULL);
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
CREATE TABLE piece (
    generation_id TEXT NOT NULL,
    position      INTEGER NOT NULL,      -- where it ends, in bytes of the log
    part          INTEGER NOT NULL,
    kind          TEXT NOT NULL,
    text          TEXT NOT NULL, call TEXT,
    PRIMARY KEY (generation_id, position)
) WITHOUT ROWID;
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
, content_bytes INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
INSERT INTO "session" VALUES('ses_01k8gtpqsuVanmrVVxTIKUGU3FdXyE3w','KbjRDn3Ihe8tdmBvJjn38QMWRcjwVsMNcxGJX7L47HY','Be brief.','Count to 3','{}','msg_01k8gtpqv7mIV__DKQhllxL-d_pQQxtw',4,1795864456094075,1795864456213226,146);
INSERT INTO "session" VALUES('ses_01k8gtpr0pE1u365gutXT2N5E9sXd9hQ','KbjRDn3Ihe8tdmBvJjn38QMWRcjwVsMNcxGJX7L47HY','Be brief.','Count to 900','{}','msg_01k8gtpr0p3u8cNROcA68ZZlIwkwDH0w',2,1795864456217314,1795864456217314,44);
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
INSERT INTO "usage" VALUES('KbjRDn3Ihe8tdmBvJjn38QMWRcjwVsMNcxGJX7L47HY','ses_01k8gtpqsuVanmrVVxTIKUGU3FdXyE3w',20785,'gpt-4.1-mini',2,16,5,0,0,0,0);
CREATE INDEX session_newest ON session (owner, created_at, id);
CREATE UNIQUE INDEX generation_running ON generation (session_id) WHERE status = 'running';
CREATE UNIQUE INDEX generation_idempotency ON generation (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX generation_message ON generation (message_id);
CREATE INDEX alias_session ON alias (session_id);
CREATE INDEX message_siblings ON message (session_id, parent, created_at, id);
CREATE INDEX response_session ON response (session_id);
CREATE INDEX session_last_used ON session (owner, updated_at, id);
COMMIT;
