-- Runs before the code that needs it; the code before it goes on working.

-- A session that was never named has no title, and is named at its first turn; one whose title was taken away has an empty
-- one, and stays without. Of those that had their first turn before, nobody knows which they are: they stay as they were.
UPDATE session SET title = '' WHERE title IS NULL AND message_count > 0;
