-- What a long life or a large drop would otherwise make every look pay for.

-- Counting states and outcomes reads this index alone.
CREATE INDEX tasks_by_outcome ON tasks (state, outcome);

-- The task that starts next, and the time at which one is due, are the first entries of these.
CREATE INDEX tasks_runnable ON tasks (priority DESC, seq)
WHERE state IN ('queued', 'needs_revision');
CREATE INDEX tasks_due ON tasks (not_before) WHERE state IN ('queued', 'needs_revision');
