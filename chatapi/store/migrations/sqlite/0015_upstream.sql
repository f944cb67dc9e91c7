-- Runs before the code that needs it; the code before it continues to work.

ALTER TABLE generation ADD COLUMN upstream TEXT; -- the one that answered, of several
