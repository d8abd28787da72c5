-- What a task is: an item from the inbox, a landed task taken back, or what others pushed.
ALTER TABLE tasks ADD COLUMN kind TEXT NOT NULL DEFAULT 'item'
    CHECK (kind IN ('item', 'revert', 'upstream'));
-- The id of the task that a revert takes back.
ALTER TABLE tasks ADD COLUMN reverts TEXT NOT NULL DEFAULT '';
-- The work that a person allowed to change protected paths; any other needs a new approval.
ALTER TABLE tasks ADD COLUMN approved_commit TEXT NOT NULL DEFAULT '';

ALTER TABLE checkpoints ADD COLUMN kind TEXT NOT NULL DEFAULT 'question'
    CHECK (kind IN ('question', 'approval'));

-- One lane's figures over all time.
CREATE TABLE queues (
    repository   TEXT PRIMARY KEY,
    failure_rate REAL NOT NULL,
    judged       INTEGER NOT NULL DEFAULT 0,
    runs         INTEGER NOT NULL DEFAULT 0,
    flakes       INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- The train as it stands: each car on top of the one before. For people; the lane makes it anew.
CREATE TABLE cars (
    repository TEXT NOT NULL,
    position   INTEGER NOT NULL,
    task_id    TEXT NOT NULL REFERENCES tasks (id),
    commit_id  TEXT NOT NULL,
    PRIMARY KEY (repository, position)
) STRICT, WITHOUT ROWID;

-- One run of all tests on one commit; a result says something about every commit of that tree.
CREATE TABLE trials (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    repository TEXT NOT NULL,
    commit_id  TEXT NOT NULL,
    tree       TEXT NOT NULL,
    digest     TEXT NOT NULL,
    started_at TEXT NOT NULL,
    ended_at   TEXT,
    result     TEXT CHECK (result IN ('green', 'red', 'interrupted')),
    command    TEXT NOT NULL DEFAULT '',
    exit_text  TEXT NOT NULL DEFAULT '',
    -- red results are believed until a person has had a hand in it
    believed   INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX trials_by_tree ON trials (tree, digest);
CREATE INDEX trials_open ON trials (repository) WHERE ended_at IS NULL;

-- The tasks whose work one trial proves or puts in doubt; none for a trial of the base.
CREATE TABLE trial_tasks (
    trial_id INTEGER NOT NULL REFERENCES trials (id),
    task_id  TEXT NOT NULL REFERENCES tasks (id),
    position INTEGER NOT NULL,
    PRIMARY KEY (trial_id, task_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX trial_tasks_by_task ON trial_tasks (task_id, trial_id);
