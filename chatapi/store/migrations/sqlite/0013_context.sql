-- Runs before the code that needs it; the code before it continues to work.

ALTER TABLE session ADD COLUMN context TEXT;     -- the context policy; NULL: the server's
ALTER TABLE generation ADD COLUMN left_out TEXT; -- a JSON object: the messages that were left out of the request
