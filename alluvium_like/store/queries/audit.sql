-- name: schema_version
SELECT coalesce(max(version), 0) AS version FROM schema_migrations;

-- name: commits_named
-- Every commit that a row names, and where.
SELECT 'task ' || id AS place, start_commit AS commit_id FROM tasks WHERE start_commit <> ''
UNION SELECT 'task ' || id, start_merge FROM tasks WHERE start_merge <> ''
UNION SELECT 'task ' || id, base_commit FROM tasks WHERE base_commit <> ''
UNION SELECT 'task ' || id, head_commit FROM tasks WHERE head_commit <> ''
UNION SELECT 'task ' || id, merge_commit FROM tasks WHERE merge_commit <> ''
UNION SELECT 'task ' || id, approved_commit FROM tasks WHERE approved_commit <> ''
UNION SELECT 'task ' || task_id, end_commit FROM attempts WHERE end_commit <> ''
UNION SELECT 'task ' || task_id, commit_id FROM landing_tasks
UNION SELECT 'task ' || task_id, commit_id FROM cars
UNION SELECT 'landing ' || id, old_commit FROM landings
UNION SELECT 'landing ' || id, new_commit FROM landings
UNION SELECT 'test run ' || id, commit_id FROM trials
UNION SELECT 'the base', value FROM meta WHERE key LIKE 'settled:%'
UNION SELECT 'what others pushed', substr(value, instr(value, ' ') + 1) FROM meta
    WHERE key LIKE 'upstream:%'
ORDER BY place, commit_id;

-- name: repositories
SELECT * FROM repositories ORDER BY name;

-- name: settled
-- The base of each repository as the lane has seen it last.
SELECT substr(key, length('settled:') + 1) AS repository, value AS commit_id FROM meta
WHERE key LIKE 'settled:%';

-- name: attempts
SELECT * FROM attempts ORDER BY task_id, number;

-- name: events
SELECT * FROM events ORDER BY task_id, seq;

-- name: tasks_asking
-- The tasks with a question that nobody has answered yet.
SELECT DISTINCT task_id FROM checkpoints WHERE answered_at IS NULL;

-- name: landings
-- What each landing that was not given up brings, and where its tasks stand.
SELECT landings.id, landings.repository, landings.state, landings.new_commit,
    landing_tasks.task_id, landing_tasks.commit_id, tasks.state AS task_state, tasks.merge_commit
FROM landings LEFT JOIN landing_tasks ON landing_tasks.landing_id = landings.id
LEFT JOIN tasks ON tasks.id = landing_tasks.task_id
WHERE landings.state <> 'void' ORDER BY landings.id, landing_tasks.task_id;

-- name: forget_claims
-- In a backup the item of a claim in progress lies in the inbox.
DELETE FROM claims;

-- name: forget_processes
-- The processes of a backup are none of the restored workspace's.
UPDATE attempts SET pid = NULL, started = '', boot_id = '' WHERE ended_at IS NULL;

-- name: forget_seals
-- What was unpacked has other times of change.
UPDATE tasks SET input_seal = '';

-- name: project_anew
-- Folders are saved after the rows: what the files tell is made again from the rows.
UPDATE meta SET value = '0' WHERE key = 'projected_event';
