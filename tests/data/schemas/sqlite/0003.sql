BEGIN TRANSACTION;
CREATE TABLE agreement (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "agreement" VALUES('secret','rJ6dJY0jzGDFrT0GAnE100XM8pD58_hINAh8hMOC7mY');
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
INSERT INTO "generation" VALUES('gen_01k8gtonquwqFvzC_QcV_oVnlGsNKyyg','ses_01k8gtonquzjmphtR97rbF1ruQHCeLvg','msg_01k8gtonquPBfTrAT6z59ZEtF2dg__MQ','completed','rep_01k8gtonm19zvEjZy_XdiyOkvKG6DOdg',1795864440190163,'gpt-4.1-mini','text','qP6H_28XijFmRCZ92dGdWh42DjmD2hAGC1S7W6Me0lA',NULL,NULL,1795864420190163,1795864420261933,1795864420298587,5,'stop','{"input_tokens":5,"output_tokens":3,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0);
INSERT INTO "generation" VALUES('gen_01k8gtonuj85OIkyg3ghZjev60Jz68Pg','ses_01k8gtonquzjmphtR97rbF1ruQHCeLvg','msg_01k8gtonujzpKuyUxS864DZeHjZAJ_hA','completed','rep_01k8gtonm19zvEjZy_XdiyOkvKG6DOdg',1795864440307000,'gpt-4.1-mini','text','qP6H_28XijFmRCZ92dGdWh42DjmD2hAGC1S7W6Me0lA',NULL,NULL,1795864420307000,1795864420341509,1795864420361092,3,'stop','{"input_tokens":11,"output_tokens":2,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL,0);
INSERT INTO "generation" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA','ses_01k8gtoo0e9L9KjsRan2V_134W9p5cKw','msg_01k8gtoo0e4MhA5TwYhyMbIzjAZJgm_g','running','rep_01k8gtonm19zvEjZy_XdiyOkvKG6DOdg',1795864440366808,'gpt-4.1-mini','text','qP6H_28XijFmRCZ92dGdWh42DjmD2hAGC1S7W6Me0lA',NULL,NULL,1795864420366808,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE TABLE message (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    parent     TEXT,                     -- the message before it; siblings are alternatives
    depth      INTEGER NOT NULL,         -- how many messages are before it
    role       TEXT NOT NULL,
    content    TEXT NOT NULL,            -- a JSON array of parts
    created_at INTEGER NOT NULL
);
INSERT INTO "message" VALUES('msg_01k8gtonqujaMPa_v2z6JPFHeuAWn6nw','ses_01k8gtonquzjmphtR97rbF1ruQHCeLvg',NULL,0,'user','[{"type":"text","text":"Count to 3"}]',1795864420190163);
INSERT INTO "message" VALUES('msg_01k8gtonquPBfTrAT6z59ZEtF2dg__MQ','ses_01k8gtonquzjmphtR97rbF1ruQHCeLvg','msg_01k8gtonqujaMPa_v2z6JPFHeuAWn6nw',1,'assistant','[{"type":"text","text":"1 2 3"}]',1795864420190163);
INSERT INTO "message" VALUES('msg_01k8gtonuj07rXriIulbLy50wIfxDZ3g','ses_01k8gtonquzjmphtR97rbF1ruQHCeLvg','msg_01k8gtonquPBfTrAT6z59ZEtF2dg__MQ',2,'user','[{"type":"text","text":"Count to 2"}]',1795864420307000);
INSERT INTO "message" VALUES('msg_01k8gtonujzpKuyUxS864DZeHjZAJ_hA','ses_01k8gtonquzjmphtR97rbF1ruQHCeLvg','msg_01k8gtonuj07rXriIulbLy50wIfxDZ3g',3,'assistant','[{"type":"text","text":"1 2"}]',1795864420307000);
INSERT INTO "message" VALUES('msg_01k8gtoo0e5hbm9rzYitvnctN9oc_8pA','ses_01k8gtoo0e9L9KjsRan2V_134W9p5cKw',NULL,0,'user','[{"type":"text","text":"Count to 900"}]',1795864420366808);
INSERT INTO "message" VALUES('msg_01k8gtoo0e4MhA5TwYhyMbIzjAZJgm_g','ses_01k8gtoo0e9L9KjsRan2V_134W9p5cKw','msg_01k8gtoo0e5hbm9rzYitvnctN9oc_8pA',1,'assistant','[]',1795864420366808);
CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO "migration" VALUES(1,'0001_sessions.sql');
INSERT INTO "migration" VALUES(2,'0002_replicas.sql');
INSERT INTO "migration" VALUES(3,'0003_tree.sql');
CREATE TABLE piece (
    generation_id TEXT NOT NULL,
    position      INTEGER NOT NULL,      -- where it ends, in bytes of the log
    part          INTEGER NOT NULL,
    kind          TEXT NOT NULL,
    text          TEXT NOT NULL, call TEXT,
    PRIMARY KEY (generation_id, position)
) WITHOUT ROWID;
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',3,0,'text','1 2',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',5,0,'text',' 3',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',7,0,'text',' 4',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',9,0,'text',' 5',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',13,0,'text',' 6 7',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',15,0,'text',' 8',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',17,0,'text',' 9',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',20,0,'text',' 10',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',23,0,'text',' 11',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',26,0,'text',' 12',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',29,0,'text',' 13',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',32,0,'text',' 14',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',35,0,'text',' 15',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',38,0,'text',' 16',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',41,0,'text',' 17',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',44,0,'text',' 18',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',47,0,'text',' 19',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',50,0,'text',' 20',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',53,0,'text',' 21',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',56,0,'text',' 22',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',59,0,'text',' 23',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',62,0,'text',' 24',NULL);
INSERT INTO "piece" VALUES('gen_01k8gtoo0e9p-BRdtCh01FU9U84YlonA',65,0,'text',' 25',NULL);
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
INSERT INTO "session" VALUES('ses_01k8gtonquzjmphtR97rbF1ruQHCeLvg','qP6H_28XijFmRCZ92dGdWh42DjmD2hAGC1S7W6Me0lA','Be brief.',NULL,'{}','msg_01k8gtonujzpKuyUxS864DZeHjZAJ_hA',4,1795864420190163,1795864420361092);
INSERT INTO "session" VALUES('ses_01k8gtoo0e9L9KjsRan2V_134W9p5cKw','qP6H_28XijFmRCZ92dGdWh42DjmD2hAGC1S7W6Me0lA','Be brief.',NULL,'{}','msg_01k8gtoo0e4MhA5TwYhyMbIzjAZJgm_g',2,1795864420366808,1795864420366808);
CREATE INDEX session_newest ON session (owner, created_at, id);
CREATE UNIQUE INDEX generation_running ON generation (session_id) WHERE status = 'running';
CREATE UNIQUE INDEX generation_idempotency ON generation (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX generation_message ON generation (message_id);
CREATE INDEX alias_session ON alias (session_id);
CREATE INDEX message_siblings ON message (session_id, parent, created_at, id);
COMMIT;
