"""The store: one writer of states, events in the same transaction, migrations, refusals."""

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from alluvium_like.errors import StaleTransition, StoreError
from alluvium_like.lifecycle import TRANSITIONS, Outcome, State
from alluvium_like.store.connection import Connection
from alluvium_like.store.reader import StoreReader
from alluvium_like.store.sql import migrations
from alluvium_like.store.writer import Store


async def opened(path: Path) -> Store:
    store = await Store.open(path)
    async with store.transaction("tested") as tx:
        await tx.run("create_task", id="t", name="t", priority=0, input_seal="")
    return store


async def test_a_transition_is_compare_and_set_with_its_event(tmp_path: Path) -> None:
    store = await opened(tmp_path / "db")
    try:
        task = await store.transition("t", expect=State.QUEUED, to=State.CANCELLED, reason="no")
        assert task.state is State.CANCELLED
        with pytest.raises(StaleTransition):
            await store.transition("t", expect=State.QUEUED, to=State.RUNNING)
        rows = await store.events_of("t")
        events = [(row["from_state"], row["to_state"], row["reason"]) for row in rows]
        assert events == [(None, "queued", ""), ("queued", "cancelled", "no")]
    finally:
        await store.close()


async def test_the_law_is_asked_before_the_database(tmp_path: Path) -> None:
    store = await opened(tmp_path / "db")
    try:
        for state in set(State) - TRANSITIONS[State.QUEUED]:
            with pytest.raises(ValueError, match="no transition"):
                await store.transition("t", expect=State.QUEUED, to=state)
        with pytest.raises(ValueError, match="not settable"):
            await store.transition("t", expect=State.QUEUED, to=State.RUNNING, name="x")
    finally:
        await store.close()


async def test_an_old_attempt_cannot_end_a_newer_one(tmp_path: Path) -> None:
    store = await opened(tmp_path / "db")
    try:
        task = await store.get("t")
        async with store.transaction("tested") as tx:
            first = await tx.start_attempt(task, "default")
        await store.transition("t", expect=State.RUNNING, to=State.QUEUED)
        async with store.transaction("tested") as tx:
            await tx.run("end_attempt", **ended(first.attempt))
        again = (await store.in_state(State.QUEUED))[0]
        async with store.transaction("tested") as tx:
            await tx.start_attempt(again, "default")
        with pytest.raises(StaleTransition):
            await store.transition(
                "t", expect=State.RUNNING, to=State.WORKER_DONE, in_attempt=first.attempt
            )
    finally:
        await store.close()


def ended(number: int) -> dict[str, str | int | None]:
    return {
        "task_id": "t",
        "number": number,
        "ending": "shutdown",
        "exit_code": None,
        "verdict": "again_uncounted",
        "reason": "",
        "end_commit": "",
        "outcome": "ok",
    }


async def test_a_failed_body_leaves_nothing_behind(tmp_path: Path) -> None:
    store = await opened(tmp_path / "db")
    try:
        with pytest.raises(StaleTransition):
            await cancel_twice(store)
        assert (await store.get("t")).state is State.QUEUED
        assert len(await store.events_of("t")) == 1
    finally:
        await store.close()


async def cancel_twice(store: Store) -> None:
    async with store.transaction("tested") as tx:
        await tx.transition("t", expect=State.QUEUED, to=State.CANCELLED)
        await tx.transition("t", expect=State.QUEUED, to=State.CANCELLED)


async def test_cancelling_a_writer_never_leaves_a_transaction_open(tmp_path: Path) -> None:
    """aiosqlite alone would leave it open, and the next insert would silently join it."""
    store = await opened(tmp_path / "db")
    try:
        for _ in range(20):
            async with anyio.create_task_group() as group:
                group.start_soon(store.set_meta, "k", "v")
                group.start_soon(store.set_meta, "k", "w")
                await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        await store.set_meta("k", "last")
    finally:
        await store.close()
    with StoreReader(tmp_path / "db") as reader:
        assert reader.meta("k") == "last"


async def test_done_needs_an_outcome(tmp_path: Path) -> None:
    store = await opened(tmp_path / "db")
    try:
        task = await store.get("t")
        async with store.transaction("tested") as tx:
            await tx.start_attempt(task, "default")
        with pytest.raises(StoreError, match="CHECK"):
            await store.transition("t", expect=State.RUNNING, to=State.DONE)
        await store.transition("t", expect=State.RUNNING, to=State.DONE, outcome=Outcome.NOOP)
    finally:
        await store.close()


async def test_priority_then_first_come_and_only_what_is_due(tmp_path: Path) -> None:
    store = await opened(tmp_path / "db")
    try:
        async with store.transaction("tested") as tx:
            await tx.run("create_task", id="urgent", name="u", priority=5, input_seal="")
            await tx.run("create_task", id="later", name="l", priority=9, input_seal="")
        async with store.transaction("tested") as tx:
            await tx.transition(
                "later", expect=State.QUEUED, to=State.RUNNING, not_before="2999-01-01"
            )
            await tx.transition("later", expect=State.RUNNING, to=State.QUEUED)
        task = await store.next_runnable("2026-01-01", "3000-01-01", [])
        assert task is not None
        assert task.id == "urgent"
        jumped = await store.next_runnable("2026-01-01", "2026-01-02", [])
        assert jumped is not None
        assert jumped.id == "later", "a due time beyond every back-off is a clock that jumped"
    finally:
        await store.close()


async def test_a_newer_schema_is_refused_and_the_file_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    await (await opened(path)).close()
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO schema_migrations VALUES (9999, 'future', 'x')")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer version"):
        await (await Store.open(path)).close()
    assert path.read_bytes() == before


async def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(b"this is no database" * 500)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="left as it is"):
        await Store.open(path)
    assert path.read_bytes() == before


async def test_durability_is_asked_for(tmp_path: Path) -> None:
    connection = await Connection.open(tmp_path / "db")
    try:
        async with connection.transaction("tested") as tx:
            (mode,) = await tx.run_text("PRAGMA journal_mode")
            (sync,) = await tx.run_text("PRAGMA synchronous")
        assert (mode[0], sync[0]) == ("wal", 2)
    finally:
        await connection.close()


def test_migrations_are_numbered_without_gaps() -> None:
    assert [version for version, _, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_store_that_is_being_made_reads_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("PRAGMA user_version = 1")
        with StoreReader(path) as store:
            assert store.tasks() == []
        made.execute("CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY)")
        with StoreReader(path) as store:
            assert store.counts()["queued"] == 0
        made.execute("DROP TABLE schema_migrations")
        made.execute("CREATE TABLE another (x)")
        with pytest.raises(StoreError, match="cannot be read: no such table"):
            StoreReader(path)


def test_a_workspace_whose_daemon_never_started_reads_as_empty(tmp_path: Path) -> None:
    with StoreReader(tmp_path / "none") as reader:
        assert reader.tasks() == []
        assert set(reader.counts()) == {state.value for state in State}
