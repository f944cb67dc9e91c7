-- Runs before the code that needs it; the code before it continues to work.

-- To list the stored chat completions of a key. IDs start with the time.
CREATE INDEX generation_completion ON generation (owner, id) WHERE dialect = 'completions';
