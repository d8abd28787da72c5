-- The agent that a task is for; empty is the one that config.toml says.
ALTER TABLE tasks ADD COLUMN agent TEXT NOT NULL DEFAULT '';

-- What an attempt was run with, how the program fared and what it used; NULL where nobody knows.
ALTER TABLE attempts ADD COLUMN agent TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN model TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN session TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN outcome TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN input_tokens INTEGER;
ALTER TABLE attempts ADD COLUMN cached_tokens INTEGER;
ALTER TABLE attempts ADD COLUMN output_tokens INTEGER;
ALTER TABLE attempts ADD COLUMN cost REAL;
ALTER TABLE attempts ADD COLUMN cost_source TEXT NOT NULL DEFAULT ''
    CHECK (cost_source IN ('', 'reported', 'estimated'));
CREATE INDEX attempts_by_start ON attempts (started_at);

-- Agents that cannot work: until when, why, and how often in a row. A row whose time is over stays
-- until an attempt shows that the agent works again: the next pause is longer.
CREATE TABLE parked (
    agent   TEXT PRIMARY KEY,
    outcome TEXT NOT NULL,
    reason  TEXT NOT NULL,
    until   TEXT NOT NULL,
    times   INTEGER NOT NULL,
    since   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
