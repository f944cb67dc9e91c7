BEGIN TRANSACTION;
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
) WITHOUT ROWID;
INSERT INTO "generation" VALUES('gen_01k8gtobup-vPyRgLnAbEbJNIfic93Xw','ses_01k8gtobupavAFcKR18qXlxl58GMonMw','msg_01k8gtobupI2BOoBwclQhbEmz2hPgikw','completed','rep_01k8gtobs5WTa_70gm0ELTNG_uUxuIHw',1795864438025548,'gpt-4.1-mini','text','ikwdlM3dQCchvaCFSAq3K78ygDcWKmQvmKlxYgfNRTY',NULL,NULL,1795864408025548,1795864408055081,1795864408095846,5,'stop','{"input_tokens":5,"output_tokens":3,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL);
INSERT INTO "generation" VALUES('gen_01k8gtoc174BMiN7ECMNkg3WKOnggbQQ','ses_01k8gtobupavAFcKR18qXlxl58GMonMw','msg_01k8gtoc176SyIBwau3_6p6BdRBKPXRg','completed','rep_01k8gtobs5WTa_70gm0ELTNG_uUxuIHw',1795864438103791,'gpt-4.1-mini','text','ikwdlM3dQCchvaCFSAq3K78ygDcWKmQvmKlxYgfNRTY',NULL,NULL,1795864408103791,1795864408134819,1795864408155501,3,'stop','{"input_tokens":11,"output_tokens":2,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}',NULL,NULL);
INSERT INTO "generation" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA','ses_01k8gtoc38w7Hfhn0fTfG2JrAAH0cLaA','msg_01k8gtoc38y7FHSBSDKSto8TAG1zvRvQ','running','rep_01k8gtobs5WTa_70gm0ELTNG_uUxuIHw',1795864438168736,'gpt-4.1-mini','text','ikwdlM3dQCchvaCFSAq3K78ygDcWKmQvmKlxYgfNRTY',NULL,NULL,1795864408168736,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE message (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    parent     TEXT,                     -- the message before it; siblings are alternatives
    depth      INTEGER NOT NULL,         -- how many messages are before it
    role       TEXT NOT NULL,
    content    TEXT NOT NULL,            -- a JSON array of parts
    created_at INTEGER NOT NULL
);
INSERT INTO "message" VALUES('msg_01k8gtobupEfgBVYXJ-BFDDZWHa0_qhg','ses_01k8gtobupavAFcKR18qXlxl58GMonMw',NULL,0,'user','[{"type":"text","text":"Count to 3"}]',1795864408025548);
INSERT INTO "message" VALUES('msg_01k8gtobupI2BOoBwclQhbEmz2hPgikw','ses_01k8gtobupavAFcKR18qXlxl58GMonMw','msg_01k8gtobupEfgBVYXJ-BFDDZWHa0_qhg',1,'assistant','[{"type":"text","text":"1 2 3"}]',1795864408025548);
INSERT INTO "message" VALUES('msg_01k8gtoc17E8kD8JFXTWtXxRtoiSaa1g','ses_01k8gtobupavAFcKR18qXlxl58GMonMw','msg_01k8gtobupI2BOoBwclQhbEmz2hPgikw',2,'user','[{"type":"text","text":"Count to 2"}]',1795864408103791);
INSERT INTO "message" VALUES('msg_01k8gtoc176SyIBwau3_6p6BdRBKPXRg','ses_01k8gtobupavAFcKR18qXlxl58GMonMw','msg_01k8gtoc17E8kD8JFXTWtXxRtoiSaa1g',3,'assistant','[{"type":"text","text":"1 2"}]',1795864408103791);
INSERT INTO "message" VALUES('msg_01k8gtoc382Iat2EUmar0s6ZNy_HEtGg','ses_01k8gtoc38w7Hfhn0fTfG2JrAAH0cLaA',NULL,0,'user','[{"type":"text","text":"Count to 900"}]',1795864408168736);
INSERT INTO "message" VALUES('msg_01k8gtoc38y7FHSBSDKSto8TAG1zvRvQ','ses_01k8gtoc38w7Hfhn0fTfG2JrAAH0cLaA','msg_01k8gtoc382Iat2EUmar0s6ZNy_HEtGg',1,'assistant','[]',1795864408168736);
CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO "migration" VALUES(1,'0001_sessions.sql');
CREATE TABLE piece (
    generation_id TEXT NOT NULL,
    position      INTEGER NOT NULL,      -- where it ends, in bytes of the log
    part          INTEGER NOT NULL,
    kind          TEXT NOT NULL,
    text          TEXT NOT NULL,
    PRIMARY KEY (generation_id, position)
) WITHOUT ROWID;
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',1,0,'text','1');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',3,0,'text',' 2');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',7,0,'text',' 3 4');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',9,0,'text',' 5');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',11,0,'text',' 6');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',13,0,'text',' 7');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',15,0,'text',' 8');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',17,0,'text',' 9');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',20,0,'text',' 10');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',23,0,'text',' 11');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',26,0,'text',' 12');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',29,0,'text',' 13');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',32,0,'text',' 14');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',35,0,'text',' 15');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',38,0,'text',' 16');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',41,0,'text',' 17');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',44,0,'text',' 18');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',50,0,'text',' 19 20');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',53,0,'text',' 21');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',56,0,'text',' 22');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',59,0,'text',' 23');
INSERT INTO "piece" VALUES('gen_01k8gtoc38ODNWmhPVj9tQSqI1qoGawA',62,0,'text',' 24');
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
INSERT INTO "session" VALUES('ses_01k8gtobupavAFcKR18qXlxl58GMonMw','ikwdlM3dQCchvaCFSAq3K78ygDcWKmQvmKlxYgfNRTY','Be brief.',NULL,'{}','msg_01k8gtoc176SyIBwau3_6p6BdRBKPXRg',4,1795864408025548,1795864408155501);
INSERT INTO "session" VALUES('ses_01k8gtoc38w7Hfhn0fTfG2JrAAH0cLaA','ikwdlM3dQCchvaCFSAq3K78ygDcWKmQvmKlxYgfNRTY','Be brief.',NULL,'{}','msg_01k8gtoc38y7FHSBSDKSto8TAG1zvRvQ',2,1795864408168736,1795864408168736);
CREATE INDEX session_newest ON session (owner, created_at, id);
CREATE INDEX message_session ON message (session_id);
CREATE UNIQUE INDEX generation_running ON generation (session_id) WHERE status = 'running';
CREATE UNIQUE INDEX generation_idempotency ON generation (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX generation_message ON generation (message_id);
COMMIT;
