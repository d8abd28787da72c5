-- name: get_task
SELECT * FROM tasks WHERE id = :id;

-- name: find_tasks
-- Tasks whose id holds a text; the caller wants exactly one. The + keeps to the index of ids.
SELECT id FROM tasks WHERE instr(id, :part) > 0 ORDER BY +seq LIMIT 6;

-- name: find_named
-- Tasks of one name; the caller wants exactly one, of several that `find_tasks` has found.
SELECT id FROM tasks WHERE name = :name LIMIT 2;

-- name: list_tasks
SELECT * FROM tasks ORDER BY seq;

-- name: list_tasks_in_state
SELECT * FROM tasks WHERE state = :state ORDER BY seq;

-- name: list_newest
-- All tasks that have not ended, and the newest of those that have.
SELECT * FROM tasks WHERE seq IN (
    SELECT seq FROM tasks WHERE state IN ('waiting', 'queued', 'running', 'worker_done',
        'integrating', 'needs_revision', 'needs_human')
    UNION ALL
    SELECT seq FROM (
        SELECT seq FROM tasks WHERE +state IN ('done', 'failed', 'cancelled')
        ORDER BY seq DESC LIMIT :newest))
ORDER BY seq;

-- name: list_newest_in_state
SELECT * FROM tasks WHERE seq IN (
    SELECT seq FROM tasks WHERE +state = :state ORDER BY seq DESC LIMIT :newest)
ORDER BY seq;

-- name: not_ended
-- What the daemon still has to do with; ended tasks are many.
SELECT id, seq, state, input_seal FROM tasks
WHERE state IN ('waiting', 'queued', 'running', 'worker_done', 'integrating', 'needs_revision',
    'needs_human');

-- name: newest_task
SELECT coalesce(max(seq), 0) AS seq FROM tasks;

-- name: count_states
SELECT state, count(*) AS n FROM tasks GROUP BY state;

-- name: count_outcomes
SELECT outcome, count(*) AS n FROM tasks WHERE state = 'done' GROUP BY outcome;

-- name: events_of_task
SELECT * FROM events WHERE task_id = :task_id ORDER BY seq;

-- name: events_after
SELECT * FROM events WHERE seq > :seq ORDER BY seq LIMIT 1000;

-- name: tasks_with_events_after
SELECT DISTINCT task_id FROM events NOT INDEXED WHERE seq > :seq;

-- name: last_event
SELECT coalesce(max(seq), 0) AS seq FROM events;

-- name: checkpoints_of_task
SELECT * FROM checkpoints WHERE task_id = :task_id ORDER BY id;

-- name: attempts_of_task
SELECT * FROM attempts WHERE task_id = :task_id ORDER BY number;

-- name: open_attempts
SELECT * FROM attempts WHERE ended_at IS NULL;

-- name: spent_by_task
-- What each agent used in the attempts of a task since a person was last asked and answered.
SELECT agent, sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)) AS tokens,
    sum(cost) AS cost
FROM attempts WHERE task_id = :task_id AND number <> :attempt AND number > (
    SELECT coalesce(max(attempt), 0) FROM checkpoints
    WHERE task_id = :task_id AND answered_at IS NOT NULL)
GROUP BY agent;

-- name: spent_since
-- What each agent used in the attempts that were begun since a moment.
SELECT agent, sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)) AS tokens,
    sum(cost) AS cost
FROM attempts WHERE started_at >= :since GROUP BY agent;

-- name: has_tables
SELECT 1 FROM sqlite_master LIMIT 1;

-- name: has_table
SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name;

-- name: worked_since
SELECT 1 FROM attempts INDEXED BY attempts_by_start
WHERE started_at > :since AND agent = :agent AND outcome = 'ok' LIMIT 1;

-- name: parked
SELECT * FROM parked ORDER BY until, agent;

-- name: usage
-- What every attempt used, with the name of its task; the newest last.
SELECT attempts.*, tasks.name FROM attempts JOIN tasks ON tasks.id = attempts.task_id
WHERE attempts.started_at >= :since ORDER BY attempts.started_at;

-- name: attempts_between
-- The attempts that were under way at any time between two moments.
SELECT task_id, number FROM attempts
WHERE started_at <= :last AND (ended_at IS NULL OR ended_at >= :first);

-- name: conditions
SELECT * FROM conditions ORDER BY name, repository;

-- name: get_meta
SELECT value FROM meta WHERE key = :key;

-- name: get_repository
SELECT * FROM repositories WHERE name = :name;

-- name: next_runnable
-- The task that starts next: by priority, then first come, those that are due.
SELECT * FROM tasks INDEXED BY tasks_runnable
WHERE state IN ('queued', 'needs_revision') AND (not_before <= :now OR not_before > :too_far)
    AND agent NOT IN (SELECT value FROM json_each(:held))
ORDER BY priority DESC, seq LIMIT 1;

-- name: next_due
-- When the first of the tasks that back off may start.
SELECT min(not_before) AS at FROM tasks INDEXED BY tasks_due
WHERE state IN ('queued', 'needs_revision') AND not_before > :now;

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

-- name: claims_of_items
SELECT * FROM claims WHERE source <> x'' ORDER BY task_id;

-- name: tasks_in_making
-- Claims that no item is behind.
SELECT task_id FROM claims WHERE source = x'' ORDER BY task_id;

-- name: to_couple
-- What may become a car: finished work, and what lost its place on the train. Not what waits to
-- land.
SELECT * FROM tasks
WHERE state IN ('worker_done', 'integrating') AND repository = :repository
    AND id NOT IN (SELECT task_id FROM cars WHERE repository = :repository)
    AND id NOT IN (
        SELECT task_id FROM landing_tasks JOIN landings ON landings.id = landing_tasks.landing_id
        WHERE landings.state IN ('prepared', 'blocked'))
ORDER BY priority DESC, seq LIMIT :most;

-- name: runs_of_tree
SELECT coalesce(sum(result = 'green'), 0) AS green, coalesce(sum(result = 'red'), 0) AS red
FROM trials WHERE tree = :tree AND digest = :digest AND believed;

-- name: last_trial
SELECT * FROM trials WHERE tree = :tree AND digest = :digest AND result = :result
ORDER BY id DESC LIMIT 1;

-- name: queue
SELECT * FROM queues WHERE repository = :repository;

-- name: cars
SELECT cars.position, cars.task_id, cars.commit_id, tasks.name, tasks.state, tasks.priority
FROM cars JOIN tasks ON tasks.id = cars.task_id
WHERE cars.repository = :repository ORDER BY cars.position;

-- name: open_trials
SELECT * FROM trials WHERE repository = :repository AND ended_at IS NULL ORDER BY id;

-- name: tasks_of_trial
SELECT task_id FROM trial_tasks WHERE trial_id = :trial_id ORDER BY position;

-- name: trials_of_task
SELECT trials.* FROM trials JOIN trial_tasks ON trial_tasks.trial_id = trials.id
WHERE trial_tasks.task_id = :task_id ORDER BY trials.id;

-- name: waiting_to_land
SELECT tasks.id, tasks.name, tasks.reason, landing_tasks.commit_id
FROM landings JOIN landing_tasks ON landing_tasks.landing_id = landings.id
JOIN tasks ON tasks.id = landing_tasks.task_id
WHERE landings.repository = :repository AND landings.state IN ('prepared', 'blocked')
ORDER BY tasks.priority DESC, tasks.seq;

-- name: flaky_in_landing
-- The tasks of a landing whose own commit was seen red, and green when it was run again.
SELECT task_id FROM landing_tasks AS landed WHERE landing_id = :id AND EXISTS (
    SELECT 1 FROM trial_tasks JOIN trials AS red ON red.id = trial_tasks.trial_id
    JOIN trials AS green
        ON green.tree = red.tree AND green.digest = red.digest AND green.id > red.id
    WHERE trial_tasks.task_id = landed.task_id AND red.commit_id = landed.commit_id
        AND red.result = 'red' AND red.believed AND green.result = 'green');

-- name: last_flakes
-- Red runs of commits that passed when they were run again.
SELECT red.id, red.commit_id, red.started_at, red.command, red.exit_text FROM trials AS red
WHERE red.repository = :repository AND red.result = 'red' AND red.believed AND EXISTS (
    SELECT 1 FROM trials AS green
    WHERE green.tree = red.tree AND green.digest = red.digest AND green.result = 'green'
        AND green.id > red.id)
ORDER BY red.id DESC LIMIT :most;
