BEGIN TRANSACTION;
CREATE TABLE agreement (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "agreement" VALUES('secret','9oYZF95TYuabELae7lFE_bOhTxKOq-KqHA5ACT6YMCI');
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
INSERT INTO "generation" VALUES('gen_01k8gtp50rpaDN-DQikidyAs-t5ZXbvQ','ses_01k8gtp50rLAvbTxrATALyAy96RyCdbg','msg_01k8gtp50r_UFyKBOejt32cxBFmqIHpQ','completed','rep_01k8gtp4skzad22tHqW7HIzjYBUmvlUw',1795864453691753,'gpt-4.1-mini','text','OiHNN0DA8uG_SfU-KyBkUJ6upa76LF6vbRKENaHfPAI',NULL,NULL,1795864433691753,1795864433774840,1795864433813363,5,'stop','{"input_tokens":5,"output_tokens":3,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0);
INSERT INTO "generation" VALUES('gen_01k8gtp569Tg81uWPQJHCcroinn81pvQ','ses_01k8gtp50rLAvbTxrATALyAy96RyCdbg','msg_01k8gtp569Z-msoFlTFU3vXxrMZirTGQ','completed','rep_01k8gtp4skzad22tHqW7HIzjYBUmvlUw',1795864453865321,'gpt-4.1-mini','text','OiHNN0DA8uG_SfU-KyBkUJ6upa76LF6vbRKENaHfPAI',NULL,NULL,1795864433865321,1795864433898049,1795864433919106,3,'stop','{"input_tokens":11,"output_tokens":2,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0);
INSERT INTO "generation" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg','ses_01k8gtp58cfkUVQQh7JrrNeJqwesJuZg','msg_01k8gtp58cvDge46S7uC6wR1l1FB523Q','running','rep_01k8gtp4skzad22tHqW7HIzjYBUmvlUw',1795864453932859,'gpt-4.1-mini','text','OiHNN0DA8uG_SfU-KyBkUJ6upa76LF6vbRKENaHfPAI',NULL,NULL,1795864433932859,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE TABLE message (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    parent     TEXT,                     -- the message before it; siblings are alternatives
    depth      INTEGER NOT NULL,         -- how many messages are before it
    role       TEXT NOT NULL,
    content    TEXT NOT NULL,            -- a JSON array of parts
    created_at INTEGER NOT NULL
);
INSERT INTO "message" VALUES('msg_01k8gtp50rUirskl-Fq97VWLA00FC_aw','ses_01k8gtp50rLAvbTxrATALyAy96RyCdbg',NULL,0,'user','[{"type":"text","text":"Count to 3"}]',1795864433691753);
INSERT INTO "message" VALUES('msg_01k8gtp50r_UFyKBOejt32cxBFmqIHpQ','ses_01k8gtp50rLAvbTxrATALyAy96RyCdbg','msg_01k8gtp50rUirskl-Fq97VWLA00FC_aw',1,'assistant','[{"type":"text","text":"1 2 3"}]',1795864433691753);
INSERT INTO "message" VALUES('msg_01k8gtp569O5sCygv8Z0UD0l0qzbPLXQ','ses_01k8gtp50rLAvbTxrATALyAy96RyCdbg','msg_01k8gtp50r_UFyKBOejt32cxBFmqIHpQ',2,'user','[{"type":"text","text":"Count to 2"}]',1795864433865321);
INSERT INTO "message" VALUES('msg_01k8gtp569Z-msoFlTFU3vXxrMZirTGQ','ses_01k8gtp50rLAvbTxrATALyAy96RyCdbg','msg_01k8gtp569O5sCygv8Z0UD0l0qzbPLXQ',3,'assistant','[{"type":"text","text":"1 2"}]',1795864433865321);
INSERT INTO "message" VALUES('msg_01k8gtp58ciH2L0jEsO6H_AZyVeT_rCQ','ses_01k8gtp58cfkUVQQh7JrrNeJqwesJuZg',NULL,0,'user','[{"type":"text","text":"Count to 900"}]',1795864433932859);
INSERT INTO "message" VALUES('msg_01k8gtp58cvDge46S7uC6wR1l1FB523Q','ses_01k8gtp58cfkUVQQh7JrrNeJqwesJuZg','msg_01k8gtp58ciH2L0jEsO6H_AZyVeT_rCQ',1,'assistant','[]',1795864433932859);
CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO "migration" VALUES(1,'0001_sessions.sql');
INSERT INTO "migration" VALUES(2,'0002_replicas.sql');
INSERT INTO "migration" VALUES(3,'0003_tree.sql');
INSERT INTO "migration" VALUES(4,'0004_responses.sql');
INSERT INTO "migration" VALUES(5,'0005_last_use.sql');
CREATE TABLE piece (
    generation_id TEXT NOT NULL,
    position      INTEGER NOT NULL,      -- where it ends, in bytes of the log
    part          INTEGER NOT NULL,
    kind          TEXT NOT NULL,
    text          TEXT NOT NULL, call TEXT,
    PRIMARY KEY (generation_id, position)
) WITHOUT ROWID;
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',1,0,'text','1',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',3,0,'text',' 2',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',5,0,'text',' 3',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',7,0,'text',' 4',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',9,0,'text',' 5',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',11,0,'text',' 6',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',13,0,'text',' 7',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',15,0,'text',' 8',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',17,0,'text',' 9',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',20,0,'text',' 10',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',23,0,'text',' 11',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',26,0,'text',' 12',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',29,0,'text',' 13',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',32,0,'text',' 14',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',35,0,'text',' 15',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',38,0,'text',' 16',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',41,0,'text',' 17',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',44,0,'text',' 18',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',47,0,'text',' 19',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',50,0,'text',' 20',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',53,0,'text',' 21',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',56,0,'text',' 22',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',59,0,'text',' 23',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',62,0,'text',' 24',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtp58c0dZInw-RkoDrSgTR4rIHhg',65,0,'text',' 25',NULL);
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
INSERT INTO "session" VALUES('ses_01k8gtp50rLAvbTxrATALyAy96RyCdbg','OiHNN0DA8uG_SfU-KyBkUJ6upa76LF6vbRKENaHfPAI','Be brief.',NULL,'{}','msg_01k8gtp569Z-msoFlTFU3vXxrMZirTGQ',4,1795864433691753,1795864433919106);
INSERT INTO "session" VALUES('ses_01k8gtp58cfkUVQQh7JrrNeJqwesJuZg','OiHNN0DA8uG_SfU-KyBkUJ6upa76LF6vbRKENaHfPAI','Be brief.',NULL,'{}','msg_01k8gtp58cvDge46S7uC6wR1l1FB523Q',2,1795864433932859,1795864433932859);
CREATE INDEX session_newest ON session (owner, created_at, id);
CREATE UNIQUE INDEX generation_running ON generation (session_id) WHERE status = 'running';
CREATE UNIQUE INDEX generation_idempotency ON generation (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX generation_message ON generation (message_id);
CREATE INDEX alias_session ON alias (session_id);
CREATE INDEX message_siblings ON message (session_id, parent, created_at, id);
CREATE INDEX response_session ON response (session_id);
CREATE INDEX session_last_used ON session (owner, updated_at, id);
COMMIT;
