-- name: get_task
SELECT * FROM tasks WHERE id = :id;

-- name: find_tasks
-- Tasks whose id holds a text; the caller wants exactly one.
SELECT id FROM tasks WHERE id = :part OR instr(id, :part) > 0 ORDER BY id = :part DESC, seq LIMIT 6;

-- name: list_tasks
SELECT * FROM tasks ORDER BY seq;

-- name: list_tasks_in_state
SELECT * FROM tasks WHERE state = :state ORDER BY seq;

-- name: count_states
SELECT state, count(*) AS n FROM tasks GROUP BY state;

-- name: count_outcomes
SELECT outcome, count(*) AS n FROM tasks WHERE state = 'done' GROUP BY outcome;

-- name: events_of_task
SELECT * FROM events WHERE task_id = :task_id ORDER BY seq;

-- name: events_after
SELECT * FROM events WHERE seq > :seq ORDER BY seq LIMIT 1000;

-- name: tasks_with_events_after
SELECT DISTINCT task_id FROM events WHERE seq > :seq;

-- name: last_event
SELECT coalesce(max(seq), 0) AS seq FROM events;

-- name: checkpoints_of_task
SELECT * FROM checkpoints WHERE task_id = :task_id ORDER BY id;

-- name: attempts_of_task
SELECT * FROM attempts WHERE task_id = :task_id ORDER BY number;

-- name: open_attempts
SELECT * FROM attempts WHERE ended_at IS NULL;

-- name: conditions
SELECT * FROM conditions ORDER BY name, repository;

-- name: get_meta
SELECT value FROM meta WHERE key = :key;

-- name: get_repository
SELECT * FROM repositories WHERE name = :name;

-- name: next_runnable
-- The task that starts next: by priority, then first come, those that are due.
SELECT * FROM tasks
WHERE state IN ('queued', 'needs_revision') AND (not_before <= :now OR not_before > :too_far)
ORDER BY priority DESC, seq LIMIT 1;

-- name: next_due
-- When the first of the tasks that back off may start.
SELECT min(not_before) AS at FROM tasks
WHERE state IN ('queued', 'needs_revision') AND not_before > :now;

-- name: ready_for_integration
SELECT * FROM tasks WHERE state = 'worker_done' AND repository = :repository
ORDER BY priority DESC, seq;

-- name: integrating
SELECT * FROM tasks WHERE state = 'integrating' AND repository = :repository
ORDER BY priority DESC, seq;

-- name: open_landing
SELECT * FROM landings WHERE repository = :repository AND state IN ('prepared', 'blocked')
ORDER BY id DESC LIMIT 1;

-- name: tasks_of_landing
SELECT landing_tasks.task_id, landing_tasks.commit_id, tasks.state
FROM landing_tasks JOIN tasks ON tasks.id = landing_tasks.task_id
WHERE landing_tasks.landing_id = :landing_id;

-- name: claims
SELECT * FROM claims ORDER BY task_id;
