BEGIN TRANSACTION;
CREATE TABLE agreement (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "agreement" VALUES('secret','tcEDrhB9anGVAiJgktkDXvSDgxksV6NDkv3S4yh3Gfk');
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
INSERT INTO "generation" VALUES('gen_01k8gtq05jeUuZe6AkKgFOwun-KBX0FQ','ses_01k8gtq05jP1j-eJO4uCiZIpGbwJLF1g','msg_01k8gtq05jkEDRE8UPv5CAyXALIFBmnw','completed','rep_01k8gtq016eAd1CN2gD_S3QoyF_13EVg',1795864481491115,'gpt-4.1-mini','text','0RsodRFOP-mdsmhc2WeMQ5HAb_d6Oh-HDD447K1KiiM',NULL,NULL,1795864461491115,1795864461523478,1795864461566321,5,'stop','{"input_tokens":5,"output_tokens":3,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0);
INSERT INTO "generation" VALUES('gen_01k8gtq085gumdu5w0NjLaEmeQPv8vLw','ses_01k8gtq05jP1j-eJO4uCiZIpGbwJLF1g','msg_01k8gtq085eKUXx4WP2fu16WCxaUEjvw','completed','rep_01k8gtq016eAd1CN2gD_S3QoyF_13EVg',1795864481573246,'gpt-4.1-mini','text','0RsodRFOP-mdsmhc2WeMQ5HAb_d6Oh-HDD447K1KiiM',NULL,NULL,1795864461573246,1795864461598859,1795864461620241,3,'stop','{"input_tokens":11,"output_tokens":2,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0);
INSERT INTO "generation" VALUES('gen_01k8gtq09qcjRHwDyDJhd4fQWQhQUffg','ses_01k8gtq09qfaDDXPikPeBQo4f9NFddKA','msg_01k8gtq09qNcfRWoW53KD8OmIYSE-2Ww','running','rep_01k8gtq016eAd1CN2gD_S3QoyF_13EVg',1795864481626385,'gpt-4.1-mini','text','0RsodRFOP-mdsmhc2WeMQ5HAb_d6Oh-HDD447K1KiiM',NULL,NULL,1795864461626385,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE TABLE message (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    parent     TEXT,                     -- the message before it; siblings are alternatives
    depth      INTEGER NOT NULL,         -- how many messages are before it
    role       TEXT NOT NULL,
    content    TEXT NOT NULL,            -- a JSON array of parts
    created_at INTEGER NOT NULL
, cuts TEXT);
INSERT INTO "message" VALUES('msg_01k8gtq05jdGmryWKNvcy0_4Zxt_Hx6A','ses_01k8gtq05jP1j-eJO4uCiZIpGbwJLF1g',NULL,0,'user','[{"type":"text","text":"Count to 3"}]',1795864461491115,NULL);
INSERT INTO "message" VALUES('msg_01k8gtq05jkEDRE8UPv5CAyXALIFBmnw','ses_01k8gtq05jP1j-eJO4uCiZIpGbwJLF1g','msg_01k8gtq05jdGmryWKNvcy0_4Zxt_Hx6A',1,'assistant','[{"type":"text","text":"1 2 3"}]',1795864461491115,'BCC');
INSERT INTO "message" VALUES('msg_01k8gtq0853H5MbM1vev8mDAqmhdvNIQ','ses_01k8gtq05jP1j-eJO4uCiZIpGbwJLF1g','msg_01k8gtq05jkEDRE8UPv5CAyXALIFBmnw',2,'user','[{"type":"text","text":"Count to 2"}]',1795864461573246,NULL);
INSERT INTO "message" VALUES('msg_01k8gtq085eKUXx4WP2fu16WCxaUEjvw','ses_01k8gtq05jP1j-eJO4uCiZIpGbwJLF1g','msg_01k8gtq0853H5MbM1vev8mDAqmhdvNIQ',3,'assistant','[{"type":"text","text":"1 2"}]',1795864461573246,'BC');
INSERT INTO "message" VALUES('msg_01k8gtq09qZVtaApoThJ2VUmbU9WFPHA','ses_01k8gtq09qfaDDXPikPeBQo4f9NFddKA',NULL,0,'user','[{"type":"text","text":"Count to 900"}]',1795864461626385,NULL);
INSERT INTO "message" VALUES('msg_01k8gtq09qNcfRWoW53KD8OmIYSE-2Ww','ses_01k8gtq09qfaDDXPikPeBQo4f9NFddKA','msg_01k8gtq09qZVtaApoThJ2VUmbU9WFPHA',1,'assistant','[]',1795864461626385,NULL);
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
, content_bytes INTEGER NOT NULL DEFAULT 0, keep INTEGER NOT NULL DEFAULT 0, expires_at INTEGER, temporary INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
INSERT INTO "session" VALUES('ses_01k8gtq05jP1j-eJO4uCiZIpGbwJLF1g','0RsodRFOP-mdsmhc2WeMQ5HAb_d6Oh-HDD447K1KiiM','Be brief.','Count to 3','{}','msg_01k8gtq085eKUXx4WP2fu16WCxaUEjvw',4,1795864461491115,1795864461620241,146,0,NULL,0);
INSERT INTO "session" VALUES('ses_01k8gtq09qfaDDXPikPeBQo4f9NFddKA','0RsodRFOP-mdsmhc2WeMQ5HAb_d6Oh-HDD447K1KiiM','Be brief.','Count to 900','{}','msg_01k8gtq09qNcfRWoW53KD8OmIYSE-2Ww',2,1795864461626385,1795864461626385,44,0,NULL,0);
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
INSERT INTO "usage" VALUES('0RsodRFOP-mdsmhc2WeMQ5HAb_d6Oh-HDD447K1KiiM','ses_01k8gtq05jP1j-eJO4uCiZIpGbwJLF1g',20785,'gpt-4.1-mini',2,16,5,0,0,0,0);
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
COMMIT;
