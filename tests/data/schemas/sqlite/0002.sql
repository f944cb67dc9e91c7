BEGIN TRANSACTION;
CREATE TABLE agreement (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "agreement" VALUES('secret','Uw1IChAnk6R1WBLmb9ur4e7qLBzmt-JjGMc3EolQ6Cw');
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
INSERT INTO "generation" VALUES('gen_01k8gtoh9oGPXinaeSBatI2sEx3-7mXA','ses_01k8gtoh9o8SpzeVAEn0cHSDBxH4ETdQ','msg_01k8gtoh9oZtSx7mfRpcq2F14nuK47Lw','completed','rep_01k8gtoh67j1UDhHycZSS7Zmm4hVBwOA',1795864433496834,'gpt-4.1-mini','text','490lc68erUdH3FfLstwMrpl9SUzZckbJL3FCOL2yua4',NULL,NULL,1795864413496834,1795864413526321,1795864413573761,5,'stop','{"input_tokens":5,"output_tokens":3,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0);
INSERT INTO "generation" VALUES('gen_01k8gtohch0F6XVHpwc3kD6Y6PD51iQQ','ses_01k8gtoh9o8SpzeVAEn0cHSDBxH4ETdQ','msg_01k8gtohchwNJNLLsn3RT2u1TaSxVYmg','completed','rep_01k8gtoh67j1UDhHycZSS7Zmm4hVBwOA',1795864433585132,'gpt-4.1-mini','text','490lc68erUdH3FfLstwMrpl9SUzZckbJL3FCOL2yua4',NULL,NULL,1795864413585132,1795864413625864,1795864413635872,3,'stop','{"input_tokens":11,"output_tokens":2,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0);
INSERT INTO "generation" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA','ses_01k8gtohegHzCSyPci18gt0BUuRVOlKg','msg_01k8gtoheglqyez-vekLUGobLoFIf2VQ','running','rep_01k8gtoh67j1UDhHycZSS7Zmm4hVBwOA',1795864433648623,'gpt-4.1-mini','text','490lc68erUdH3FfLstwMrpl9SUzZckbJL3FCOL2yua4',NULL,NULL,1795864413648623,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE TABLE message (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    parent     TEXT,                     -- the message before it; siblings are alternatives
    depth      INTEGER NOT NULL,         -- how many messages are before it
    role       TEXT NOT NULL,
    content    TEXT NOT NULL,            -- a JSON array of parts
    created_at INTEGER NOT NULL
);
INSERT INTO "message" VALUES('msg_01k8gtoh9ojCDlKbUZgMUQTdkwnMAGRg','ses_01k8gtoh9o8SpzeVAEn0cHSDBxH4ETdQ',NULL,0,'user','[{"type":"text","text":"Count to 3"}]',1795864413496834);
INSERT INTO "message" VALUES('msg_01k8gtoh9oZtSx7mfRpcq2F14nuK47Lw','ses_01k8gtoh9o8SpzeVAEn0cHSDBxH4ETdQ','msg_01k8gtoh9ojCDlKbUZgMUQTdkwnMAGRg',1,'assistant','[{"type":"text","text":"1 2 3"}]',1795864413496834);
INSERT INTO "message" VALUES('msg_01k8gtohchRQcZ2Zocb5CVwHiqpmz2OQ','ses_01k8gtoh9o8SpzeVAEn0cHSDBxH4ETdQ','msg_01k8gtoh9oZtSx7mfRpcq2F14nuK47Lw',2,'user','[{"type":"text","text":"Count to 2"}]',1795864413585132);
INSERT INTO "message" VALUES('msg_01k8gtohchwNJNLLsn3RT2u1TaSxVYmg','ses_01k8gtoh9o8SpzeVAEn0cHSDBxH4ETdQ','msg_01k8gtohchRQcZ2Zocb5CVwHiqpmz2OQ',3,'assistant','[{"type":"text","text":"1 2"}]',1795864413585132);
INSERT INTO "message" VALUES('msg_01k8gtoheggOD3-ai1LTsdsvrkzWuorg','ses_01k8gtohegHzCSyPci18gt0BUuRVOlKg',NULL,0,'user','[{"type":"text","text":"Count to 900"}]',1795864413648623);
INSERT INTO "message" VALUES('msg_01k8gtoheglqyez-vekLUGobLoFIf2VQ','ses_01k8gtohegHzCSyPci18gt0BUuRVOlKg','msg_01k8gtoheggOD3-ai1LTsdsvrkzWuorg',1,'assistant','[]',1795864413648623);
CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO "migration" VALUES(1,'0001_sessions.sql');
INSERT INTO "migration" VALUES(2,'0002_replicas.sql');
CREATE TABLE piece (
    generation_id TEXT NOT NULL,
    position      INTEGER NOT NULL,      -- where it ends, in bytes of the log
    part          INTEGER NOT NULL,
    kind          TEXT NOT NULL,
    text          TEXT NOT NULL,
    PRIMARY KEY (generation_id, position)
) WITHOUT ROWID;
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',1,0,'text','1');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',3,0,'text',' 2');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',5,0,'text',' 3');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',7,0,'text',' 4');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',9,0,'text',' 5');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',11,0,'text',' 6');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',13,0,'text',' 7');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',15,0,'text',' 8');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',17,0,'text',' 9');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',20,0,'text',' 10');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',23,0,'text',' 11');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',26,0,'text',' 12');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',29,0,'text',' 13');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',32,0,'text',' 14');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',35,0,'text',' 15');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',38,0,'text',' 16');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',41,0,'text',' 17');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',44,0,'text',' 18');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',47,0,'text',' 19');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',50,0,'text',' 20');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',53,0,'text',' 21');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',56,0,'text',' 22');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',59,0,'text',' 23');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',62,0,'text',' 24');
INSERT INTO "piece" VALUES('gen_01k8gtohegOOP7Ux5dFF5HpenhvaHCfA',65,0,'text',' 25');
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
INSERT INTO "session" VALUES('ses_01k8gtoh9o8SpzeVAEn0cHSDBxH4ETdQ','490lc68erUdH3FfLstwMrpl9SUzZckbJL3FCOL2yua4','Be brief.',NULL,'{}','msg_01k8gtohchwNJNLLsn3RT2u1TaSxVYmg',4,1795864413496834,1795864413635872);
INSERT INTO "session" VALUES('ses_01k8gtohegHzCSyPci18gt0BUuRVOlKg','490lc68erUdH3FfLstwMrpl9SUzZckbJL3FCOL2yua4','Be brief.',NULL,'{}','msg_01k8gtoheglqyez-vekLUGobLoFIf2VQ',2,1795864413648623,1795864413648623);
CREATE INDEX session_newest ON session (owner, created_at, id);
CREATE INDEX message_session ON message (session_id);
CREATE UNIQUE INDEX generation_running ON generation (session_id) WHERE status = 'running';
CREATE UNIQUE INDEX generation_idempotency ON generation (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX generation_message ON generation (message_id);
COMMIT;
