BEGIN TRANSACTION;
CREATE TABLE agreement (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "agreement" VALUES('secret','4G6Yj6bxWPjkXR3aNWxRHT3mkdc0i7OygnZm7KAkoS0');
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
INSERT INTO "generation" VALUES('gen_01k8gtotsl6sK7N2ezcg7x7DIM0Mcg6g','ses_01k8gtotslwiIxcEV8eXccO4CuGGIR-A','msg_01k8gtotslvgsOkV9zljlmXOcM1zfa7A','completed','rep_01k8gtotodG_tPKAjDOex0quIKB3GY0g',1795864446389436,'gpt-4.1-mini','text','DFdgxpcUACTN1BWQa99fDv4Nfnwf4AlQu7V5pFQliJA',NULL,NULL,1795864426389436,1795864426421148,1795864426461811,5,'stop','{"input_tokens":5,"output_tokens":3,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0);
INSERT INTO "generation" VALUES('gen_01k8gtotv4qYU1KqPUqcgCgLC4CRorxA','ses_01k8gtotslwiIxcEV8eXccO4CuGGIR-A','msg_01k8gtotv4wc2mxOEJqR2_0lM5BOyaxQ','completed','rep_01k8gtotodG_tPKAjDOex0quIKB3GY0g',1795864446468248,'gpt-4.1-mini','text','DFdgxpcUACTN1BWQa99fDv4Nfnwf4AlQu7V5pFQliJA',NULL,NULL,1795864426468248,1795864426493702,1795864426514106,3,'stop','{"input_tokens":11,"output_tokens":2,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0);
INSERT INTO "generation" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw','ses_01k8gtou0pk8oQpGCrEueTKwKlqVtUpg','msg_01k8gtou0piCSdzQhtyIWnF62hM1aJDg','running','rep_01k8gtotodG_tPKAjDOex0quIKB3GY0g',1795864446521351,'gpt-4.1-mini','text','DFdgxpcUACTN1BWQa99fDv4Nfnwf4AlQu7V5pFQliJA',NULL,NULL,1795864426521351,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE TABLE message (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    parent     TEXT,                     -- the message before it; siblings are alternatives
    depth      INTEGER NOT NULL,         -- how many messages are before it
    role       TEXT NOT NULL,
    content    TEXT NOT NULL,            -- a JSON array of parts
    created_at INTEGER NOT NULL
);
INSERT INTO "message" VALUES('msg_01k8gtotslPW4trFhNO_ypNs4rEIM6hw','ses_01k8gtotslwiIxcEV8eXccO4CuGGIR-A',NULL,0,'user','[{"type":"text","text":"Count to 3"}]',1795864426389436);
INSERT INTO "message" VALUES('msg_01k8gtotslvgsOkV9zljlmXOcM1zfa7A','ses_01k8gtotslwiIxcEV8eXccO4CuGGIR-A','msg_01k8gtotslPW4trFhNO_ypNs4rEIM6hw',1,'assistant','[{"type":"text","text":"1 2 3"}]',1795864426389436);
INSERT INTO "message" VALUES('msg_01k8gtotv4q8sTx3zngid6YGTkmJmS8g','ses_01k8gtotslwiIxcEV8eXccO4CuGGIR-A','msg_01k8gtotslvgsOkV9zljlmXOcM1zfa7A',2,'user','[{"type":"text","text":"Count to 2"}]',1795864426468248);
INSERT INTO "message" VALUES('msg_01k8gtotv4wc2mxOEJqR2_0lM5BOyaxQ','ses_01k8gtotslwiIxcEV8eXccO4CuGGIR-A','msg_01k8gtotv4q8sTx3zngid6YGTkmJmS8g',3,'assistant','[{"type":"text","text":"1 2"}]',1795864426468248);
INSERT INTO "message" VALUES('msg_01k8gtou0pre2XTN2ijKM3mi1-B98XPQ','ses_01k8gtou0pk8oQpGCrEueTKwKlqVtUpg',NULL,0,'user','[{"type":"text","text":"Count to 900"}]',1795864426521351);
INSERT INTO "message" VALUES('msg_01k8gtou0piCSdzQhtyIWnF62hM1aJDg','ses_01k8gtou0pk8oQpGCrEueTKwKlqVtUpg','msg_01k8gtou0pre2XTN2ijKM3mi1-B98XPQ',1,'assistant','[]',1795864426521351);
CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO "migration" VALUES(1,'0001_sessions.sql');
INSERT INTO "migration" VALUES(2,'0002_replicas.sql');
INSERT INTO "migration" VALUES(3,'0003_tree.sql');
INSERT INTO "migration" VALUES(4,'0004_responses.sql');
CREATE TABLE piece (
    generation_id TEXT NOT NULL,
    position      INTEGER NOT NULL,      -- where it ends, in bytes of the log
    part          INTEGER NOT NULL,
    kind          TEXT NOT NULL,
    text          TEXT NOT NULL, call TEXT,
    PRIMARY KEY (generation_id, position)
) WITHOUT ROWID;
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',1,0,'text','1',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',3,0,'text',' 2',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',5,0,'text',' 3',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',7,0,'text',' 4',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',9,0,'text',' 5',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',11,0,'text',' 6',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',13,0,'text',' 7',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',15,0,'text',' 8',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',17,0,'text',' 9',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',20,0,'text',' 10',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',23,0,'text',' 11',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',26,0,'text',' 12',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',29,0,'text',' 13',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',32,0,'text',' 14',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',35,0,'text',' 15',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',38,0,'text',' 16',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',41,0,'text',' 17',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',44,0,'text',' 18',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',47,0,'text',' 19',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',50,0,'text',' 20',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',53,0,'text',' 21',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',56,0,'text',' 22',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',59,0,'text',' 23',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtou0pwcqgKQ29iAkauLD5RfNYhw',62,0,'text',' 24',NULL);
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
INSERT INTO "session" VALUES('ses_01k8gtotslwiIxcEV8eXccO4CuGGIR-A','DFdgxpcUACTN1BWQa99fDv4Nfnwf4AlQu7V5pFQliJA','Be brief.',NULL,'{}','msg_01k8gtotv4wc2mxOEJqR2_0lM5BOyaxQ',4,1795864426389436,1795864426514106);
INSERT INTO "session" VALUES('ses_01k8gtou0pk8oQpGCrEueTKwKlqVtUpg','DFdgxpcUACTN1BWQa99fDv4Nfnwf4AlQu7V5pFQliJA','Be brief.',NULL,'{}','msg_01k8gtou0piCSdzQhtyIWnF62hM1aJDg',2,1795864426521351,1795864426521351);
CREATE INDEX session_newest ON session (owner, created_at, id);
CREATE UNIQUE INDEX generation_running ON generation (session_id) WHERE status = 'running';
CREATE UNIQUE INDEX generation_idempotency ON generation (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX generation_message ON generation (message_id);
CREATE INDEX alias_session ON alias (session_id);
CREATE INDEX message_siblings ON message (session_id, parent, created_at, id);
CREATE INDEX response_session ON response (session_id);
COMMIT;
