"""A store that another version made: one line for those who read, brought up to date to act."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alluvium_like.cli.app import app
from alluvium_like.cli.look import try_look
from alluvium_like.errors import StoreError
from alluvium_like.lifecycle import State
from alluvium_like.store.reader import StoreReader
from alluvium_like.store.sql import migrations
from alluvium_like.store.writer import Store
from alluvium_like.workspace import Workspace

OLDER = "made by an older version"
TASKS = {"q-1": "queued", "h-1": "needs_human", "c-1": "cancelled"}


def fill(db: sqlite3.Connection, versions: int = 1) -> None:
    """Make what an early version made of three tasks."""
    db.execute(
        "CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY,"
        " name TEXT NOT NULL, applied_at TEXT NOT NULL) STRICT"
    )
    for version, name, script in migrations()[:versions]:
        db.executescript(script)
        db.execute("INSERT INTO schema_migrations VALUES (?, ?, 'x')", (version, name))
    db.executemany(
        "INSERT INTO tasks (id, name, state, created_at, updated_at) VALUES (?1, ?1, ?2, 'x', 'x')",
        TASKS.items(),
    )
    db.commit()


@pytest.fixture
def old(tmp_path: Path) -> Workspace:
    space = Workspace.at(tmp_path / "ws")
    space.root.mkdir()
    space.make_folders()
    with closing(sqlite3.connect(space.database)) as db:
        fill(db)
    for name in TASKS:
        space.task(name).input.mkdir(parents=True)
    return space


def call(space: Workspace, *words: str) -> tuple[int, str, BaseException | None]:
    done = CliRunner().invoke(app, ["-C", str(space.root), *words])
    return done.exit_code, done.output, done.exception


@pytest.mark.parametrize(
    "words",
    [["list"], ["show", "q"], ["log", "q"], ["log", "-f", "q"], ["diff", "q"], ["queue"]],
)
def test_reading_commands_say_what_to_do(old: Workspace, words: list[str]) -> None:
    before = old.database.read_bytes()
    _, _, error = call(old, *words)
    assert isinstance(error, StoreError)
    assert f"{OLDER} (schema 1, this one knows {migrations()[-1][0]})" in str(error)
    assert "start the daemon once" in str(error)
    assert "\n" not in str(error)
    assert error.exit_code == 1
    assert old.database.read_bytes() == before


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_status_reads_it_all_the_same(
    old: Workspace, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert try_look(["-C", str(old.root), "status", *more])
    assert "needs_human" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "task", "state"),
    [
        (["answer", "h", "blue"], "h-1", State.QUEUED),
        (["cancel", "q"], "q-1", State.CANCELLED),
        (["retry", "c-1"], "c-1", State.QUEUED),
    ],
)
def test_acting_brings_it_up_to_date(
    old: Workspace, words: list[str], task: str, state: State
) -> None:
    code, output, error = call(old, *words)
    assert (code, error) == (0, None), output
    with StoreReader(old.database) as store:
        assert store.find(task).state is state


@pytest.mark.parametrize("words", [["approve", "h"], ["reject", "h", "no"], ["revert", "q"]])
def test_what_cannot_be_done_is_told_as_ever(old: Workspace, words: list[str]) -> None:
    _, _, error = call(old, *words)
    assert "asks a question" in str(error) or "only tasks in" in str(error)


@pytest.mark.parametrize("older", [False, True])
def test_a_newer_one_is_refused(old: Workspace, older: bool) -> None:
    with closing(sqlite3.connect(old.database)) as db:
        db.execute("INSERT INTO schema_migrations VALUES (9999, 'future', 'x')")
        db.commit()
    with pytest.raises(StoreError, match="made by a newer version \\(schema 9999"):
        StoreReader(old.database, older=older)


async def test_what_was_made_before_there_were_agents_is_kept(tmp_path: Path) -> None:
    """Its tasks are for the agent of the configuration, and nobody knows what they used."""
    space = Workspace.at(tmp_path / "ws")
    space.root.mkdir()
    space.make_folders()
    with closing(sqlite3.connect(space.database)) as db:
        fill(db, versions=4)
        db.execute(
            "INSERT INTO attempts (task_id, number, pid, started_at, ended_at, verdict)"
            " VALUES ('h-1', 1, 7, '2026-01-01T00:00:00.000Z', '2026-01-01T00:01:00.000Z', 'x')"
        )
        db.commit()
    assert try_look(["-C", str(space.root), "status"])
    _, _, error = call(space, "usage")
    assert OLDER in str(error)
    store = await Store.open(space.database)
    await store.close()
    with StoreReader(space.database) as reader:
        assert {task.id: task.agent for task in reader.tasks()} == dict.fromkeys(TASKS, "")
        (attempt,) = reader.attempts("h-1")
        assert (attempt.agent, attempt.outcome, attempt.cost, attempt.input_tokens) == (
            *("", ""),
            *(None, None),
        )
        assert reader.parked() == []
    code, output, _ = call(space, "usage")
    assert code == 0
    assert "1 attempts of unknown cost" in output
