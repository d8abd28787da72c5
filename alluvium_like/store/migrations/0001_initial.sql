CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE repositories (
    name        TEXT PRIMARY KEY,
    path        TEXT NOT NULL,
    base_branch TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A claim in progress: written before the rename, gone with the row of the task.
CREATE TABLE claims (
    task_id    TEXT PRIMARY KEY,
    source     BLOB NOT NULL,
    device     INTEGER NOT NULL,
    inode      INTEGER NOT NULL,
    is_dir     INTEGER NOT NULL,
    created_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tasks (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL UNIQUE,
    name           TEXT NOT NULL,
    repository     TEXT NOT NULL DEFAULT 'default',
    state          TEXT NOT NULL CHECK (state IN ('waiting', 'queued', 'running', 'worker_done',
                       'integrating', 'needs_revision', 'needs_human', 'done', 'failed',
                       'cancelled')),
    outcome        TEXT CHECK (outcome IN ('merged', 'noop')),
    reason         TEXT NOT NULL DEFAULT '',
    priority       INTEGER NOT NULL DEFAULT 0,
    attempt        INTEGER NOT NULL DEFAULT 0,
    failures       INTEGER NOT NULL DEFAULT 0,
    revision_round INTEGER NOT NULL DEFAULT 0,
    not_before     TEXT NOT NULL DEFAULT '',
    -- where the next attempt starts: at the base, where the last one started, or on the branch
    start_from     TEXT NOT NULL DEFAULT 'base' CHECK (start_from IN ('base', 'same', 'branch')),
    start_commit   TEXT NOT NULL DEFAULT '',
    start_merge    TEXT NOT NULL DEFAULT '',
    -- the landed base that the last attempt was given
    base_commit    TEXT NOT NULL DEFAULT '',
    head_commit    TEXT NOT NULL DEFAULT '',
    summary        TEXT NOT NULL DEFAULT '',
    merge_commit   TEXT NOT NULL DEFAULT '',
    created_at     TEXT NOT NULL,
    updated_at     TEXT NOT NULL,
    CHECK ((state = 'done') = (outcome IS NOT NULL))
) STRICT;
CREATE INDEX tasks_by_state ON tasks (state, priority DESC, seq);

CREATE TABLE attempts (
    task_id    TEXT NOT NULL REFERENCES tasks (id),
    number     INTEGER NOT NULL,
    pid        INTEGER,
    started    TEXT NOT NULL DEFAULT '',
    boot_id    TEXT NOT NULL DEFAULT '',
    started_at TEXT NOT NULL,
    ended_at   TEXT,
    ending     TEXT,
    exit_code  INTEGER,
    verdict    TEXT,
    reason     TEXT NOT NULL DEFAULT '',
    end_commit TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (task_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_open ON attempts (task_id) WHERE ended_at IS NULL;

CREATE TABLE events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id    TEXT NOT NULL,
    at         TEXT NOT NULL,
    from_state TEXT,
    to_state   TEXT NOT NULL,
    attempt    INTEGER NOT NULL,
    reason     TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_task ON events (task_id, seq);

CREATE TRIGGER task_created AFTER INSERT ON tasks
BEGIN
    INSERT INTO events (task_id, at, from_state, to_state, attempt, reason)
    VALUES (NEW.id, NEW.updated_at, NULL, NEW.state, NEW.attempt, NEW.reason);
END;

CREATE TRIGGER task_changed AFTER UPDATE OF state, reason ON tasks
WHEN OLD.state IS NOT NEW.state OR OLD.reason IS NOT NEW.reason
BEGIN
    INSERT INTO events (task_id, at, from_state, to_state, attempt, reason)
    VALUES (NEW.id, NEW.updated_at, OLD.state, NEW.state, NEW.attempt, NEW.reason);
END;

-- A question that only a person may answer; open until answered_at is set.
CREATE TABLE checkpoints (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id     TEXT NOT NULL REFERENCES tasks (id),
    attempt     INTEGER NOT NULL,
    question    TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    answer      TEXT,
    answered_at TEXT
) STRICT;
CREATE INDEX checkpoints_by_task ON checkpoints (task_id, id);

-- The journal of the base branch: written before any ref moves.
CREATE TABLE landings (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    repository TEXT NOT NULL,
    old_commit TEXT NOT NULL,
    new_commit TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('prepared', 'blocked', 'landed', 'void')),
    reason     TEXT NOT NULL DEFAULT '',
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;
CREATE INDEX landings_open ON landings (repository, id) WHERE state IN ('prepared', 'blocked');

CREATE TABLE landing_tasks (
    landing_id INTEGER NOT NULL REFERENCES landings (id),
    task_id    TEXT NOT NULL REFERENCES tasks (id),
    commit_id  TEXT NOT NULL,
    PRIMARY KEY (landing_id, task_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX landing_tasks_by_task ON landing_tasks (task_id, landing_id);

-- What holds for the daemon as a whole, with the reason; empty on a good day.
CREATE TABLE conditions (
    name       TEXT NOT NULL,
    repository TEXT NOT NULL DEFAULT '',
    reason     TEXT NOT NULL,
    since      TEXT NOT NULL,
    PRIMARY KEY (name, repository)
) STRICT, WITHOUT ROWID;
