-- Runs before the code that needs it; the code before it continues to work.

ALTER TABLE queued_turn ADD COLUMN needs_key SMALLINT NOT NULL DEFAULT 1; -- 0: the upstreams of its model have keys of their own
