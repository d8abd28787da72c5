-- What the task's input/ looked like when it was claimed, or when it was last put to a person; empty
-- where nobody has looked at it yet.
ALTER TABLE tasks ADD COLUMN input_seal TEXT NOT NULL DEFAULT '';
