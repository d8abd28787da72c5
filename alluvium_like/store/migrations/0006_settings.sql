-- What a task says of itself beside its agent and its priority, as JSON; see task.py.
ALTER TABLE tasks ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';
