SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.agreement (
    name text NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.alias (
    owner text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    target text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.generation (
    id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    message_id text NOT NULL COLLATE pg_catalog."C",
    status text NOT NULL,
    replica text NOT NULL COLLATE pg_catalog."C",
    lease_until bigint NOT NULL,
    model text NOT NULL,
    dialect text NOT NULL,
    owner text NOT NULL COLLATE pg_catalog."C",
    idempotency_key text COLLATE pg_catalog."C",
    digest text,
    created_at bigint NOT NULL,
    first_token_at bigint,
    ended_at bigint,
    length bigint,
    finish_reason text,
    usage text,
    error_code text,
    error_detail text,
    stop_requested integer DEFAULT 0 NOT NULL
);
CREATE TABLE public.message (
    id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    parent text COLLATE pg_catalog."C",
    depth integer NOT NULL,
    role text NOT NULL,
    content text NOT NULL,
    created_at bigint NOT NULL,
    cuts text
);
CREATE TABLE public.migration (
    number integer NOT NULL,
    name text NOT NULL
);
CREATE TABLE public.piece (
    generation_id text NOT NULL COLLATE pg_catalog."C",
    "position" bigint NOT NULL,
    part integer NOT NULL,
    kind text NOT NULL,
    text text NOT NULL,
    call text
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='20000', autovacuum_vacuum_cost_delay='0');
CREATE TABLE public.response (
    generation_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    parent text COLLATE pg_catalog."C",
    echo text NOT NULL
);
CREATE TABLE public.session (
    id text NOT NULL COLLATE pg_catalog."C",
    owner text COLLATE pg_catalog."C",
    developer_message text NOT NULL,
    title text,
    metadata text NOT NULL,
    head text COLLATE pg_catalog."C",
    message_count integer NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    content_bytes bigint DEFAULT 0 NOT NULL,
    keep smallint DEFAULT 0 NOT NULL,
    expires_at bigint,
    temporary smallint DEFAULT 0 NOT NULL
);
CREATE TABLE public.usage (
    owner text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    day integer NOT NULL,
    model text NOT NULL COLLATE pg_catalog."C",
    answers bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    estimated bigint NOT NULL,
    unknown bigint NOT NULL
);
COPY public.agreement (name, value) FROM stdin;
secret	WYFHH-2hFOsN-Zf93gl_iYSTki-SfV1YHQ-BppW4Qrc
retention	00001795872780947274 rep_01k8h5m1ncZ9oyYcNefrUOXtg9pNZdvA
\.
COPY public.alias (owner, kind, name, session_id, target) FROM stdin;
\.
COPY public.generation (id, session_id, message_id, status, replica, lease_until, model, dialect, owner, idempotency_key, digest, created_at, first_token_at, ended_at, length, finish_reason, usage, error_code, error_detail, stop_requested) FROM stdin;
gen_01k8h5m1vjXTab-mrDWlyuEURrirzi2Q	ses_01k8h5m1vjTX5yl4Cg-VdI7MASOTiVaw	msg_01k8h5m1vjSpneeoAZDGzA09qewcuavA	completed	rep_01k8h5m1ncZ9oyYcNefrUOXtg9pNZdvA	1795872740883461	gpt-4.1-mini	text	gPc4R2N2X-V0MNzeQQZhM9VyqMf7Zw3COV6U2yAjXp0	\N	\N	1795872720883461	1795872720964970	1795872721116743	5	stop	{"input_tokens":5,"output_tokens":3,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}	\N	\N	0
gen_01k8h5m2fvYaFafpM9MwkS_mahmeFWOw	ses_01k8h5m1vjTX5yl4Cg-VdI7MASOTiVaw	msg_01k8h5m2fvmyyPHtve-R_miS5qpbs2Hg	completed	rep_01k8h5m1ncZ9oyYcNefrUOXtg9pNZdvA	1795872741407455	gpt-4.1-mini	text	gPc4R2N2X-V0MNzeQQZhM9VyqMf7Zw3COV6U2yAjXp0	\N	\N	1795872721407455	1795872721490841	1795872721514096	3	stop	{"input_tokens":11,"output_tokens":2,"reasoning_tokens":0,"cached_tokens":0,"estimated":false}	\N	\N	0
gen_01k8h5m2joaVDPfLgsbhMjlatfwSdxgw	ses_01k8h5m2joGb82KxSet3b6aHl6wYfKXw	msg_01k8h5m2joSmi2A8yXbk-V5L05obPasg	running	rep_01k8h5m1ncZ9oyYcNefrUOXtg9pNZdvA	1795872741528098	gpt-4.1-mini	text	gPc4R2N2X-V0MNzeQQZhM9VyqMf7Zw3COV6U2yAjXp0	\N	\N	1795872721528098	\N	\N	\N	\N	\N	\N	\N	0
\.
COPY public.message (id, session_id, parent, depth, role, content, created_at, cuts) FROM stdin;
msg_01k8h5m1vjgsaPlzOaDUIiRGsoJhci5Q	ses_01k8h5m1vjTX5yl4Cg-VdI7MASOTiVaw	\N	0	user	[{"type":"text","text":"Count to 3"}]	1795872720883461	\N
msg_01k8h5m1vjSpneeoAZDGzA09qewcuavA	ses_01k8h5m1vjTX5yl4Cg-VdI7MASOTiVaw	msg_01k8h5m1vjgsaPlzOaDUIiRGsoJhci5Q	1	assistant	[{"type":"text","text":"1 2 3"}]	1795872720883461	DC
msg_01k8h5m2fvgV4ROO2yyO9EqfPcOzIl_Q	ses_01k8h5m1vjTX5yl4Cg-VdI7MASOTiVaw	msg_01k8h5m1vjSpneeoAZDGzA09qewcuavA	2	user	[{"type":"text","text":"Count to 2"}]	1795872721407455	\N
msg_01k8h5m2fvmyyPHtve-R_miS5qpbs2Hg	ses_01k8h5m1vjTX5yl4Cg-VdI7MASOTiVaw	msg_01k8h5m2fvgV4ROO2yyO9EqfPcOzIl_Q	3	assistant	[{"type":"text","text":"1 2"}]	1795872721407455	BC
msg_01k8h5m2joRRCPhPh_TC5fTtrgRzFhDg	ses_01k8h5m2joGb82KxSet3b6aHl6wYfKXw	\N	0	user	[{"type":"text","text":"Count to 900"}]	1795872721528098	\N
msg_01k8h5m2joSmi2A8yXbk-V5L05obPasg	ses_01k8h5m2joGb82KxSet3b6aHl6wYfKXw	msg_01k8h5m2joRRCPhPh_TC5fTtrgRzFhDg	1	assistant	[]	1795872721528098	\N
\.
COPY public.migration (number, name) FROM stdin;
1	0001_sessions.sql
2	0002_cuts.sql
3	0003_content_bytes.sql
4	0004_retention.sql
5	0005_completions.sql
\.
COPY public.piece (generation_id, "position", part, kind, text, call) FROM stdin;
gen_01k8h5m2joaVDPfLgsbhMjlatfwSdxgw	1	0	text	1	\N
gen_01k8h5m2joaVDPfLgsbhMjlatfwSdxgw	3	0	text	 2	\N
gen_01k8h5m2joaVDPfLgsbhMjlatfwSdxgw	5	0	text	 3	\N
gen_01k8h5m2joaVDPfLgsbhMjlatfwSdxgw	7	0	text	 4	\N
gen_01k8h5m2joaVDPfLgsbhMjlatfwSdxgw	9	0	text	 5	\N
gen_01k8h5m2joaVDPfLgsbhMjlatfwSdxgw	11	0	text	 6	\N
gen_01k8h5m2joaVDPfLgsbhMjlatfwSdxgw	13	0	text	 7	\N
gen_01k8h5m2joaVDPfLgsbhMjlatfwSdxgw	15	0	text	 8	\N
gen_01k8h5m2joaVDPfLgsbhMjlatfwSdxgw	17	0	text	 9	\N
\.
COPY public.response (generation_id, session_id, parent, echo) FROM stdin;
\.
COPY public.session (id, owner, developer_message, title, metadata, head, message_count, created_at, updated_at, content_bytes, keep, expires_at, temporary) FROM stdin;
ses_01k8h5m1vjTX5yl4Cg-VdI7MASOTiVaw	gPc4R2N2X-V0MNzeQQZhM9VyqMf7Zw3COV6U2yAjXp0	Be brief.	Count to 3	{}	msg_01k8h5m2fvmyyPHtve-R_miS5qpbs2Hg	4	1795872720883461	1795872721514096	146	0	\N	0
ses_01k8h5m2joGb82KxSet3b6aHl6wYfKXw	gPc4R2N2X-V0MNzeQQZhM9VyqMf7Zw3COV6U2yAjXp0	Be brief.	Count to 900	{}	msg_01k8h5m2joSmi2A8yXbk-V5L05obPasg	2	1795872721528098	1795872721528098	44	0	\N	0
\.
COPY public.usage (owner, session_id, day, model, answers, input_tokens, output_tokens, reasoning_tokens, cached_tokens, estimated, unknown) FROM stdin;
gPc4R2N2X-V0MNzeQQZhM9VyqMf7Zw3COV6U2yAjXp0	ses_01k8h5m1vjTX5yl4Cg-VdI7MASOTiVaw	20785	gpt-4.1-mini	2	16	5	0	0	0	0
\.
ALTER TABLE ONLY public.agreement
    ADD CONSTRAINT agreement_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.alias
    ADD CONSTRAINT alias_pkey PRIMARY KEY (owner, kind, name);
ALTER TABLE ONLY public.generation
    ADD CONSTRAINT generation_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.message
    ADD CONSTRAINT message_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (number);
ALTER TABLE ONLY public.piece
    ADD CONSTRAINT piece_pkey PRIMARY KEY (generation_id, "position");
ALTER TABLE ONLY public.response
    ADD CONSTRAINT response_pkey PRIMARY KEY (generation_id);
ALTER TABLE ONLY public.session
    ADD CONSTRAINT session_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.usage
    ADD CONSTRAINT usage_pkey PRIMARY KEY (owner, session_id, day, model);
CREATE INDEX alias_session ON public.alias USING btree (session_id);
CREATE INDEX generation_completion ON public.generation USING btree (owner, id) WHERE (dialect = 'completions'::text);
CREATE UNIQUE INDEX generation_idempotency ON public.generation USING btree (owner, idempotency_key) WHERE (idempotency_key IS NOT NULL);
CREATE INDEX generation_message ON public.generation USING btree (message_id);
CREATE UNIQUE INDEX generation_running ON public.generation USING btree (session_id) WHERE (status = 'running'::text);
CREATE INDEX generation_running_replica ON public.generation USING btree (replica) WHERE (status = 'running'::text);
CREATE INDEX message_siblings ON public.message USING btree (session_id, parent, created_at, id);
CREATE INDEX response_session ON public.response USING btree (session_id);
CREATE INDEX session_expires ON public.session USING btree (expires_at) WHERE (expires_at IS NOT NULL);
CREATE INDEX session_last_used ON public.session USING btree (owner, updated_at, id);
CREATE INDEX session_newest ON public.session USING btree (owner, created_at, id);
CREATE INDEX session_temporary ON public.session USING btree (updated_at) WHERE (temporary = 1);
CREATE INDEX session_updated ON public.session USING btree (updated_at);
