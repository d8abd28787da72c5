-- name: set_meta
INSERT INTO meta (key, value) VALUES (:key, :value)
ON CONFLICT (key) DO UPDATE SET value = excluded.value;

-- name: set_repository
INSERT INTO repositories (name, path, base_branch) VALUES (:name, :path, :base_branch)
ON CONFLICT (name) DO UPDATE SET path = excluded.path, base_branch = excluded.base_branch;

-- name: begin_claim
INSERT INTO claims (task_id, source, device, inode, is_dir, created_at)
VALUES (:task_id, :source, :device, :inode, :is_dir, :now);

-- name: begin_making
-- A task that no item is behind: nothing lies in the inbox, so there is no source.
INSERT INTO claims (task_id, source, device, inode, is_dir, created_at)
VALUES (:task_id, x'', 0, 0, 1, :now);

-- name: end_claim
DELETE FROM claims WHERE task_id = :task_id;

-- name: create_task
INSERT INTO tasks (id, name, state, priority, input_seal, created_at, updated_at)
VALUES (:id, :name, 'queued', :priority, :input_seal, :now, :now);

-- name: change_settings
UPDATE tasks SET agent = :agent, priority = :priority, settings = :settings, updated_at = :now
WHERE id = :id AND state = :state AND attempt = :attempt RETURNING id;

-- name: create_revert
-- Finished work from the start: the integrator itself makes the commit.
INSERT INTO tasks (id, name, kind, state, reverts, input_seal, created_at, updated_at)
VALUES (:id, :name, 'revert', 'worker_done', :reverts, :input_seal, :now, :now);

-- name: begin_attempt
INSERT INTO attempts (task_id, number, agent, started_at)
VALUES (:task_id, :number, :agent, :now);

-- name: note_usage
-- What an attempt has used so far; kept while it runs, for it counts even where the daemon dies.
UPDATE attempts SET model = :model, input_tokens = :input_tokens, cached_tokens = :cached_tokens,
    output_tokens = :output_tokens, cost = :cost, cost_source = :cost_source
WHERE task_id = :task_id AND number = :number;

-- name: note_session
UPDATE attempts SET session = :session WHERE task_id = :task_id AND number = :number;

-- name: park
INSERT INTO parked (agent, outcome, reason, until, times, since)
VALUES (:agent, :outcome, :reason, :until, :times, :now)
ON CONFLICT (agent) DO UPDATE SET outcome = excluded.outcome, reason = excluded.reason,
    until = excluded.until, times = excluded.times;

-- name: unpark
DELETE FROM parked WHERE agent = :agent;

-- name: unpark_all
DELETE FROM parked;

-- name: unpark_outcome
DELETE FROM parked WHERE outcome = :outcome;

-- name: identify_attempt
-- The identity of the attempt's process: the first thing stored after the spawn.
UPDATE attempts SET pid = :pid, started = :started, boot_id = :boot_id
WHERE task_id = :task_id AND number = :number;

-- name: end_attempt
UPDATE attempts SET ended_at = :now, ending = :ending, exit_code = :exit_code, verdict = :verdict,
    reason = :reason, end_commit = :end_commit, outcome = :outcome
WHERE task_id = :task_id AND number = :number AND ended_at IS NULL;

-- name: set_task_start
UPDATE tasks SET start_commit = :start_commit, start_merge = :start_merge,
    base_commit = :base_commit, start_from = 'same'
WHERE id = :task_id AND state = 'running' AND attempt = :attempt;

-- name: seal_input
UPDATE tasks SET input_seal = :input_seal WHERE id = :id;

-- name: set_work
-- The work of a task that the daemon itself has made.
UPDATE tasks SET head_commit = :head_commit, base_commit = :base_commit WHERE id = :id;

-- name: open_checkpoint
INSERT INTO checkpoints (task_id, attempt, kind, question, created_at)
VALUES (:task_id, :attempt, :kind, :question, :now);

-- name: answer_checkpoints
-- Close what is open with the answer; the last question gets the text.
UPDATE checkpoints SET answer = :answer, answered_at = :now
WHERE task_id = :task_id AND answered_at IS NULL;

-- name: prepare_landing
INSERT INTO landings (repository, old_commit, new_commit, state, created_at, updated_at)
VALUES (:repository, :old_commit, :new_commit, 'prepared', :now, :now) RETURNING id;

-- name: add_landing_task
INSERT INTO landing_tasks (landing_id, task_id, commit_id)
VALUES (:landing_id, :task_id, :commit_id);

-- name: set_landing_state
UPDATE landings SET state = :state, reason = :reason, updated_at = :now WHERE id = :id;

-- name: set_condition
INSERT INTO conditions (name, repository, reason, since)
VALUES (:name, :repository, :reason, :now)
ON CONFLICT (name, repository) DO UPDATE SET reason = excluded.reason
WHERE conditions.reason IS NOT excluded.reason;

-- name: clear_condition
DELETE FROM conditions WHERE name = :name AND repository = :repository;

-- name: explain_task
-- A new reason in the same state; the trigger keeps the history.
UPDATE tasks SET reason = :reason, updated_at = :now
WHERE id = :id AND state = :state AND reason IS NOT :reason;

-- name: clear_conditions
DELETE FROM conditions WHERE name IN (:first, :second, :third);

-- name: being_landed
-- A task whose landing is between its journal row and its end; blocked ones may be withdrawn.
SELECT 1 FROM landing_tasks JOIN landings ON landings.id = landing_tasks.landing_id
WHERE landing_tasks.task_id = :task_id AND landings.state = 'prepared';

-- name: begin_trial
INSERT INTO trials (repository, commit_id, tree, digest, started_at)
VALUES (:repository, :commit_id, :tree, :digest, :now) RETURNING id;

-- name: add_trial_task
INSERT INTO trial_tasks (trial_id, task_id, position) VALUES (:trial_id, :task_id, :position);

-- name: end_trial
UPDATE trials SET ended_at = :now, result = :result, command = :command, exit_text = :exit_text
WHERE id = :id AND ended_at IS NULL;

-- name: interrupt_trials
-- What was under test when a daemon died.
UPDATE trials SET ended_at = :now, result = 'interrupted'
WHERE repository = :repository AND ended_at IS NULL;

-- name: doubt_red_trials
-- A person may have mended what no commit shows: red results are to be seen again. Before a green
-- one they decide nothing, and tell of a flake.
UPDATE trials SET believed = 0 WHERE result = 'red' AND believed AND NOT EXISTS (
    SELECT 1 FROM trials AS green
    WHERE green.tree = trials.tree AND green.digest = trials.digest AND green.result = 'green'
        AND green.id > trials.id);

-- name: add_queue
INSERT INTO queues (repository, failure_rate) VALUES (:repository, :failure_rate)
ON CONFLICT (repository) DO NOTHING;

-- name: count_judged
UPDATE queues SET failure_rate = :failure_rate, judged = judged + :judged
WHERE repository = :repository;

-- name: count_run
UPDATE queues SET runs = runs + 1, flakes = flakes + :flakes WHERE repository = :repository;

-- name: clear_cars
DELETE FROM cars WHERE repository = :repository;

-- name: add_car
INSERT INTO cars (repository, position, task_id, commit_id)
VALUES (:repository, :position, :task_id, :commit_id);

-- name: create_upstream
-- What others pushed: finished work, and the first in the queue. An agent, where one is needed, goes
-- on with it.
INSERT INTO tasks (id, name, repository, kind, state, priority, start_from, base_commit,
    head_commit, summary, input_seal, created_at, updated_at)
VALUES (:id, :name, :repository, 'upstream', 'worker_done', 1000000, 'branch', :base_commit,
    :head_commit, :summary, :input_seal, :now, :now);

-- name: forget_events
DELETE FROM events WHERE task_id = :task_id;

-- name: forget_attempts
DELETE FROM attempts WHERE task_id = :task_id;

-- name: forget_checkpoints
DELETE FROM checkpoints WHERE task_id = :task_id;

-- name: forget_trial_tasks
DELETE FROM trial_tasks WHERE task_id = :task_id RETURNING trial_id;

-- name: forget_empty_trial
DELETE FROM trials
WHERE id = :id AND NOT EXISTS (SELECT 1 FROM trial_tasks WHERE trial_id = :id);

-- name: forget_landing_tasks
DELETE FROM landing_tasks WHERE task_id = :task_id RETURNING landing_id;

-- name: forget_empty_landing
DELETE FROM landings
WHERE id = :id AND NOT EXISTS (SELECT 1 FROM landing_tasks WHERE landing_id = :id);

-- name: forget_task
DELETE FROM tasks WHERE id = :task_id;

-- name: note_landed
-- The base holds a commit that says it is this task's, which is still to be done.
UPDATE tasks SET merge_commit = :merge_commit WHERE id = :id AND state <> 'done';
