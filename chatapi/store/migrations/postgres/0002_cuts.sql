-- Runs before the code that needs it; the code before it continues to work.

-- Of an answer: where its text was cut into deltas, so that every later read cuts it there. See store/rows.py for the
-- encoding. NULL: the answer was stored before, copied or imported; such an answer has cuts at fixed distances.
ALTER TABLE message ADD COLUMN cuts TEXT;
